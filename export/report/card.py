"""How a result shows itself in a notebook: the verdict first, then a table. No script, no style sheet, no network."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from export.report.templates import short, template

if TYPE_CHECKING:
    from validation.gates.result import GateResult

_GOOD, _DOUBT, _BAD = ("#116329", "#ffffff"), ("#f2c230", "#1b1f24"), ("#a40e26", "#ffffff")
_COLORS = {0: _GOOD, 3: _DOUBT}
"""Of the verdict and of the text on it, by exit code."""

GATES = ("gate", "worst", "budget", "finding")


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table; what is not good is in bold."""

    cells: Sequence[Any]
    good: bool = True


def card(
    title: str,
    verdict: str,
    exit_code: int,
    facts: Iterable[str | None] = (),
    headings: Sequence[str] = (),
    rows: Iterable[Row] = (),
) -> str:
    """An HTML fragment. Everything in it is escaped. `facts`: sentences, None for those that do not apply."""
    color, ink = _COLORS.get(exit_code, _BAD)
    return template("report/card.html.j2").render(
        title=title,
        verdict=verdict.replace("_", " "),
        color=color,
        ink=ink,
        facts=[fact for fact in facts if fact],
        headings=headings,
        rows=[Row([short(cell) for cell in row.cells], row.good) for row in rows],
    )


def gate_rows(gates: "Iterable[GateResult]") -> list[Row]:
    """Of the gates of one verdict, under `GATES`."""
    from validation.gates.table import named

    return [
        Row((gate.gate, *map(named(gate.gate).text, (gate.worst, gate.budget)), gate.detail), gate.passed)
        for gate in gates
    ]
