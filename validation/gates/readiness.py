"""Readiness: the share of a Core ML package's work that the Neural Engine can run, by a heuristic."""

from runtimes.artifact import Format
from runtimes.coreml.neural_engine import Readiness, readiness
from validation.gates.gate import Gate
from validation.gates.result import GateResult
from validation.trial import Trial


def readiness_gate(found: Readiness, budget: float) -> GateResult:
    """1 - (multiply-accumulates fit for the Neural Engine / all) <= 1 - budget."""
    some = "; ".join(found.violations[:3]) + (" …" if len(found.violations) > 3 else "")
    detail = f"{found.share:.1%} of the work is fit for the Neural Engine, by a heuristic{f': {some}' if some else ''}"
    return GateResult("readiness", 1 - found.share, 1 - budget, detail)


def _judge(trial: Trial) -> GateResult:
    assert trial.budgets.readiness is not None
    return readiness_gate(readiness(trial.artifact), trial.budgets.readiness)


READINESS = Gate(
    name="readiness",
    title="the share of the work that is fit for the Neural Engine",
    applies=lambda trial: trial.budgets.readiness is not None and trial.artifact.format == Format.COREML,
    judge=_judge,
)
