"""The gates in order: of evaluation, of the manifest, and of every table. To add one, docs/adding-a-gate.md."""

from collections.abc import Callable, Iterable

from validation.gates.accuracy import ACCURACY
from validation.gates.constants import CONSTANTS
from validation.gates.demands import LATENCY, LOAD, MEMORY, READINESS, SIZE
from validation.gates.execution import EXECUTION
from validation.gates.gate import Gate
from validation.gates.identity import IDENTITY
from validation.gates.interface import INTERFACE
from validation.gates.labels import LABELS
from validation.gates.operators import OPERATORS
from validation.gates.overflow import OVERFLOW
from validation.gates.precision import PRECISION
from validation.gates.quality import QUALITY
from validation.gates.ranges import RANGES
from validation.gates.result import GateResult
from validation.gates.structure import STRUCTURE
from validation.gates.wrapped.answers import ANSWERS
from validation.gates.wrapped.pixels import PIXELS
from validation.gates.wrapped.wrapping import WRAPPING
from validation.trial import Trial

GATES: tuple[Gate, ...] = (
    INTERFACE,
    WRAPPING,
    IDENTITY,
    OPERATORS,
    CONSTANTS,
    STRUCTURE,
    RANGES,
    EXECUTION,
    OVERFLOW,
    PRECISION,
    PIXELS,
    ANSWERS,
    LABELS,
    QUALITY,
    ACCURACY,
    READINESS,
    SIZE,
    LATENCY,
    LOAD,
    MEMORY,
)
"""The first decides whether there is anything to run: where it rejects, no other gate is tried."""


def named(name: str) -> Gate:
    """The gate of that name."""
    return next(gate for gate in GATES if gate.name == name)


def names(which: Callable[[Gate], object] = lambda _: True) -> tuple[str, ...]:
    """The names of the gates, or of those for which `which` holds, in the table's order."""
    return tuple(gate.name for gate in GATES if which(gate))


def next_steps(rejecting: Iterable[str]) -> tuple[str, ...]:
    """What helps against these gates' rejections, once each."""
    return tuple(dict.fromkeys(step for name in rejecting if (step := named(name).next_step)))


def results(trial: Trial, gates: Iterable[Gate]) -> tuple[GateResult, ...]:
    """The outcome of each gate that applies."""
    return tuple(gate.judge(trial) for gate in gates if gate.applies(trial))
