"""The one gate of a verdict that a table shows: in every table the same."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Any

from validation.gates import table


@dataclass(frozen=True, slots=True)
class Nearest:
    """The gate that rejects, or else the error that is nearest to its budget."""

    gate: str
    worst: float
    budget: float
    passed: bool

    @property
    def share(self) -> float:
        """Of the budget; above 1 it is exceeded."""
        return self.worst / self.budget if self.budget else inf if self.worst else 0.0

    @property
    def cells(self) -> tuple[str, str]:
        """Error and budget, as the gate writes them."""
        gate = table.named(self.gate)
        counted = "" if self.passed or not gate.counts else f" {gate.counts}"
        return f"{gate.text(self.worst)}{counted}", gate.text(self.budget)

    def __str__(self) -> str:
        return f"{' of '.join(self.cells)} ({self.gate})"


def nearest(gates: Mapping[str, Mapping[str, Any] | None]) -> Nearest | None:
    """Of a verdict's gates, as a manifest has them; None where nothing was measured.

    The first that rejects. Where none does, what was measured image by image, or is the price of quantization, comes
    before what a device is asked for, such as the file's size.
    """
    # NaN and infinity are written by name.
    found = {
        name: Nearest(name, float(gate["worst"]), float(gate["budget"]), gate["passed"])
        for name, gate in gates.items()
        if gate is not None
    }
    if (over := next((each for each in found.values() if not each.passed), None)) is not None:
        return over
    measured = [each for each in found.values() if each.budget > 0]
    errors = [each for each in measured if _is_error(each.gate, gates[each.gate] or {})]
    return max(errors or measured, key=lambda each: each.share, default=None)


def error_and_budget(gates: Mapping[str, Mapping[str, Any] | None]) -> tuple[str, str]:
    """Error and budget of `nearest`; empty where there is none."""
    found = nearest(gates)
    return ("", "") if found is None else found.cells


def _is_error(name: str, gate: Mapping[str, Any]) -> bool:
    return bool(gate.get("kinds")) or table.named(name).cost
