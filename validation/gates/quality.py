"""Quality: what compressed weights or quantized activations cost, over all ordinary images together."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from runtimes.interface import OUTPUT
from validation.gates.gate import Gate, Where
from validation.gates.result import GateResult
from validation.golden_run import Outputs
from validation.metrics import relative_error, root_mean_square, snr_db
from validation.reference.reference import Expected, Reference
from validation.trial import Trial, Tried


def quality_gate(reference: Reference, run: Outputs) -> GateResult:
    """RMS over ordinary images of ‖y - y64‖ / ‖y64 - mean(y64)‖ <= a third of the same of an answer without an image.

    y64: the trained form in float64. Each output by itself; the result is the one nearest to its budget, or furthest
    over it. `Budgets.quality` sets another budget.
    """
    rows = np.concatenate([reference.rows(kind) for kind in reference.kinds] or [np.arange(0)])
    if len(rows) == 0:
        return GateResult("quality", float("nan"), 0.0, "no golden image to judge on")
    found = [_of_output(name, each, run.values[name], rows) for name, each in reference.outputs.items()]
    worst = max(found, key=lambda each: each.worst / each.budget if each.worst < float("inf") else float("inf"))
    said = "; ".join(each.detail for each in found)
    return replace(worst, detail=f"{said}, {len(rows)} images")


def _of_output(name: str, expected: Expected, values: NDArray[np.float32], rows: NDArray[np.intp]) -> GateResult:
    budget = expected.quality_budget
    assert budget is not None
    with np.errstate(all="ignore"):
        error = root_mean_square(relative_error(values[rows], expected.right[rows]))
    what = "" if name == OUTPUT else f"{name} "
    return GateResult(
        "quality", error, budget, f"{what}costs {error:.3f} of at most {budget:.3f}, {snr_db(error):.1f} dB"
    )


def judge_quality(trial: Trial, tried: Tried) -> GateResult:
    """Of the first of these runs."""
    return quality_gate(trial.judged.only(tried.fed), tried.outputs[0])


QUALITY = Gate(
    name="quality",
    title="what compression or quantization costs over all images",
    applies=lambda trial: any(each.quality_budget is not None for each in trial.reference.outputs.values()),
    judge=lambda trial: judge_quality(trial, trial.shipped),
    blame=Where.LAYERS,
    cost=True,
    next_step="this precision costs too much: take more bits or -p fp16, or say with --quality-budget what may be lost",
    foreign=True,
)
