"""Accuracy: top-1 on labeled images, against the trained form in float64, image by image."""

from validation.accuracy.top1 import CONFIDENCE, Accuracy
from validation.gates.gate import Gate, Where
from validation.gates.result import GateResult
from validation.trial import Trial


def accuracy_gate(found: Accuracy) -> GateResult:
    """Lower end of the 90 % interval of the top-1 drop, in percentage points, <= 0.5, or `Budgets.accuracy`.

    A drop is rejected only where it exceeds the budget beyond what sampling noise explains.
    """
    if found.not_finite:
        detail = f"the logits of {found.not_finite} of {found.images} labeled images are no numbers"
        return GateResult("accuracy", float("nan"), found.budget, detail)
    low, high = found.interval
    detail = (
        f"top-1 {found.artifact_top1 / found.images:.2%} against {found.reference_top1 / found.images:.2%}: "
        f"{found.drop:+.2f} points lost of at most {found.budget:.2f} ({low:+.2f} to {high:+.2f} with {CONFIDENCE} %); "
        f"{len(found.lost)} lost, {found.gained} gained of {found.images} images"
    )
    warning = None
    if low <= found.budget < high:
        over = "more than the budget was lost, within sampling noise" if found.drop > found.budget else "nothing clear"
        warning = f"{over}: these {found.images} images cannot rule out a loss of {high:.2f} points; more of them can"
    return GateResult("accuracy", low, found.budget, detail, warning=warning)


def _judge(trial: Trial) -> GateResult:
    assert trial.accuracy is not None
    return accuracy_gate(trial.accuracy)


ACCURACY = Gate(
    name="accuracy",
    title="top-1 on labeled images",
    applies=lambda trial: trial.labeled is not None,
    judge=_judge,
    blame=Where.LAYERS,
    cost=True,
    next_step="this precision costs too much: take more bits or -p fp16, or say by --accuracy-budget what may go",
    foreign=True,
)
