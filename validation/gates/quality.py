"""Quality: what compressed weights or quantized activations cost, over all ordinary images together."""

import numpy as np

from validation.gates.gate import Gate, Where
from validation.gates.result import GateResult
from validation.golden_run import Outputs
from validation.metrics import relative_error, root_mean_square, snr_db
from validation.reference.floors import ordinary
from validation.reference.reference import Reference
from validation.trial import Trial, Tried


def quality_gate(reference: Reference, run: Outputs) -> GateResult:
    """RMS over ordinary images of ‖y - y64‖ / ‖y64 - mean(y64)‖ <= a third of the same of an answer without an image.

    y64: the trained form in float64. `Budgets.quality` sets another budget.
    """
    assert reference.quality_budget is not None
    rows = np.concatenate([reference.rows(kind) for kind in ordinary(reference.floors)] or [np.arange(0)])
    if len(rows) == 0:
        return GateResult("quality", float("nan"), 0.0, "no golden image to judge on")
    with np.errstate(all="ignore"):
        error = root_mean_square(relative_error(run.logits[rows], reference.logits[rows]))
    detail = f"costs {error:.3f} of at most {reference.quality_budget:.3f}, {snr_db(error):.1f} dB, {len(rows)} images"
    return GateResult("quality", error, reference.quality_budget, detail)


def judge_quality(trial: Trial, tried: Tried) -> GateResult:
    """Of the first of these runs."""
    return quality_gate(trial.judged.only(tried.fed), tried.outputs[0])


QUALITY = Gate(
    name="quality",
    title="what compression or quantization costs over all images",
    applies=lambda trial: trial.reference.quality_budget is not None,
    judge=lambda trial: judge_quality(trial, trial.shipped),
    blame=Where.LAYERS,
    cost=True,
)
