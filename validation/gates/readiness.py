"""Readiness: the share of a file's work that the Neural Engine can run, by static rules."""

from runtimes.evaluator.neural_engine import Readiness
from runtimes.reader import Reader
from runtimes.registry import reader_of
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
    found = reader_of(trial.artifact).readiness(trial.artifact)
    assert found is not None
    return readiness_gate(found, trial.budgets.readiness)


def _applies(trial: Trial) -> bool:
    """A least share is asked for, and the format has such rules."""
    rules = type(reader_of(trial.artifact)).readiness is not Reader.readiness
    return trial.budgets.readiness is not None and rules


READINESS = Gate(
    name="readiness",
    title="the share of the work that is fit for the Neural Engine",
    applies=_applies,
    judge=_judge,
)
