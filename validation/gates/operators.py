"""Operators: nothing but the operations that this family is lowered to, and quantized where they are to be."""

from collections.abc import Mapping, Sequence

from runtimes.registry import unexpected_operators
from validation.gates.gate import Gate
from validation.gates.result import GateResult


def operators_gate(unexpected: Mapping[str, int], float_layers: Sequence[str] = ()) -> GateResult:
    """Number of unexpected operations; budget 0. Warns of layers of an int8 file that stay in float32 by intent."""
    found = ", ".join(f"{count} x {kind}" for kind, count in sorted(unexpected.items()))
    count, names = len(float_layers), ", ".join(float_layers)
    warning = f"not all of it is int8: {count} layer{'s'[: count > 1]} left in float32: {names}" if count else None
    return GateResult("operators", float(sum(unexpected.values())), 0.0, found or "all expected", warning=warning)


OPERATORS = Gate(
    name="operators",
    title="the kinds of operations in the file",
    applies=lambda _: True,
    judge=lambda trial: operators_gate(unexpected_operators(trial.artifact), trial.artifact.precision.float_layers),
    counts="op",
)
