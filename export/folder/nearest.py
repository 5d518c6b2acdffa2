"""The one gate that a table shows of all in a manifest."""

from collections.abc import Mapping
from typing import Any

from validation.gates import table


def nearest(gates: Mapping[str, Mapping[str, Any] | None]) -> tuple[str, str]:
    """The first gate over its budget, else the one that is nearest to it: error and budget as the gate writes them."""
    # NaN and infinity are written by name.
    tried = [
        (name, float(gate["worst"]), float(gate["budget"]), gate["passed"]) for name, gate in gates.items() if gate
    ]
    over = [each for each in tried if not each[3]]
    near = sorted((each for each in tried if each[2] > 0), key=lambda each: each[1] / each[2], reverse=True)
    for name, worst, budget, passed in (*over, *near):
        gate = table.named(name)
        if passed or not gate.counts:
            return gate.text(worst), gate.text(budget)
        return f"{gate.text(worst)} {gate.counts}", gate.text(budget)
    return "", ""
