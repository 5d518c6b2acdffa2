"""Readiness, size, latency, load, memory: what a file demands of its device, against what the caller allows.

Readiness and size are read off the file. The others are measured of what passed, and decided with their noise.
"""

from collections.abc import Callable, Sequence

from runtimes.evaluator.neural_engine import Readiness
from runtimes.reader import Reader
from runtimes.registry import reader_of
from validation.gates.gate import Gate
from validation.gates.result import GateResult
from validation.trial import Spent, Trial


def readiness_gate(found: Readiness, budget: float) -> GateResult:
    """1 - (multiply-accumulates fit for the Neural Engine / all) <= 1 - budget."""
    some = "; ".join(found.violations[:3]) + (" …" if len(found.violations) > 3 else "")
    detail = f"{found.share:.1%} of the work is fit for the Neural Engine, by a heuristic{f': {some}' if some else ''}"
    return GateResult("readiness", 1 - found.share, 1 - budget, detail)


def _judge_readiness(trial: Trial) -> GateResult:
    assert trial.budgets.readiness is not None
    found = reader_of(trial.artifact).readiness(trial.artifact)
    assert found is not None
    return readiness_gate(found, trial.budgets.readiness)


def _has_rules(trial: Trial) -> bool:
    """A least share is asked for, and the format has such rules."""
    rules = type(reader_of(trial.artifact)).readiness is not Reader.readiness
    return trial.budgets.readiness is not None and rules


def latency_gate(spent: Spent, budget: float) -> GateResult:
    """The least that the median may be, milliseconds per batch, <= `Budgets.latency_ms`."""
    low, high = spent.latency_interval_ms()
    sessions = f"{1 + len(spent.alone)} sessions" if spent.alone else f"one session of {len(spent.latency_ns)} runs"
    detail = f"{spent.latency_ms:.3g} ms a batch ({low:.3g} to {high:.3g}, {sessions}) of at most {budget:g}"
    return GateResult("latency", low, budget, detail, warning=_unclear(low, high, budget))


def load_gate(spent: Spent, budget: float) -> GateResult:
    """The quickest load of the processes, milliseconds, <= `Budgets.load_ms`."""
    return _of_processes("load", [each.load_ns / 1e6 for each in spent.alone], budget, "ms to load")


def memory_gate(spent: Spent, budget: float) -> GateResult:
    """The least peak of the processes over an empty runtime's, MB (10^6 bytes), <= `Budgets.memory_mb`."""
    return _of_processes(
        "memory", [each.memory_bytes / 1e6 for each in spent.alone], budget, "MB over an empty runtime's"
    )


def size_gate(size_bytes: int, budget: float) -> GateResult:
    """The file, or all files of it, MB (10^6 bytes), <= `Budgets.size_mb`."""
    size = size_bytes / 1e6
    return GateResult("size", size, budget, f"{size:.2f} MB of at most {budget:g}")


def _of_processes(gate: str, samples: Sequence[float], budget: float, unit: str) -> GateResult:
    low, high = min(samples), max(samples)
    detail = f"{low:.3g} to {high:.3g} {unit}, {len(samples)} processes, of at most {budget:g}"
    return GateResult(gate, low, budget, detail, warning=_unclear(low, high, budget))


def _unclear(low: float, high: float, budget: float) -> str | None:
    if not low <= budget < high:
        return None
    return f"{low:.3g} to {high:.3g} is on both sides of the budget of {budget:g}: a quiet host can tell"


def _asked(name: str) -> Callable[[Trial], bool]:
    """It was measured, and there is a budget for it."""
    return lambda trial: trial.spent is not None and getattr(trial.budgets, name) is not None


def _judged(gate: Callable[[Spent, float], GateResult], name: str) -> Callable[[Trial], GateResult]:
    def judge(trial: Trial) -> GateResult:
        assert trial.spent is not None
        return gate(trial.spent, getattr(trial.budgets, name))

    return judge


def _judge_size(trial: Trial) -> GateResult:
    assert trial.budgets.size_mb is not None
    return size_gate(trial.file.size_bytes, trial.budgets.size_mb)


READINESS = Gate(
    name="readiness",
    title="the share of the work that is fit for the Neural Engine",
    applies=_has_rules,
    judge=_judge_readiness,
)

SIZE = Gate(
    name="size",
    title="the file's size against the budget for it",
    applies=lambda trial: trial.budgets.size_mb is not None,
    judge=_judge_size,
    plain=True,
    next_step="take fewer bits (-p fp16, --weights-bits) or a smaller model, or say by --size-budget what may go",
)

LATENCY = Gate(
    name="latency",
    title="median latency against the budget for it",
    applies=_asked("latency_ms"),
    judge=_judged(latency_gate, "latency_ms"),
    plain=True,
    spends=True,
    next_step="take -p int8, a smaller model or image size, or say by --latency-budget what may go",
)

LOAD = Gate(
    name="load",
    title="time to load, in a process of its own, against the budget for it",
    applies=_asked("load_ms"),
    judge=_judged(load_gate, "load_ms"),
    plain=True,
    spends=True,
    next_step="take a smaller model, or say by --load-budget what may go",
)

MEMORY = Gate(
    name="memory",
    title="memory over an empty runtime's, in a process of its own, against the budget for it",
    applies=_asked("memory_mb"),
    judge=_judged(memory_gate, "memory_mb"),
    plain=True,
    spends=True,
    next_step="take a smaller model or image size, or say by --memory-budget what may go",
)
