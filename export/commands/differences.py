"""What differs between two releases of a model, and whether that is more than what was allowed."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from export.commands.fail_on import PARITY, FailOn
from export.commands.recorded import Finding
from export.exits import Exit
from export.records import plain
from export.report.card import Row, card

if TYPE_CHECKING:
    from validation.timing.paired import Ratio

_COLUMNS = ("kind", "old", "new", "change", "finding")


@dataclass(frozen=True, slots=True)
class Diff:
    """What was compared, what differs, what could not be compared and why, and the limits that were set."""

    old: Path
    new: Path
    findings: tuple[Finding, ...]
    ratio: "Ratio | None"
    notes: tuple[str, ...]
    limits: FailOn = field(default_factory=lambda: PARITY)

    @property
    def failures(self) -> tuple[Finding, ...]:
        """The findings that `--fail-on` forbids."""
        return tuple(finding for finding in self.findings if finding.fails(self.limits))

    @property
    def exit_code(self) -> Exit:
        """1 where there are any."""
        return Exit.REJECTED if self.failures else Exit.OK

    def to_json(self) -> dict[str, Any]:
        """What `vit-export diff --json` prints."""
        ratio = self.ratio
        return {
            "old": str(self.old),
            "new": str(self.new),
            "findings": [{**plain(finding), "fails": finding in self.failures} for finding in self.findings],
            "latency": None
            if ratio is None
            else {
                "old_ms": ratio.old_ms,
                "new_ms": ratio.new_ms,
                "ratio": ratio.median,
                "interval": [ratio.low, ratio.high],
                "noise": ratio.noise,
                "interleaved": ratio.interleaved,
                "differs": ratio.differs,
            },
            "notes": list(self.notes),
            "exit_code": int(self.exit_code),
        }

    def _repr_html_(self) -> str:
        kinds = ", ".join(dict.fromkeys(each.kind for each in self.failures))
        verdict = f"worse: {kinds}" if kinds else "may ship"
        rows = [
            Row((each.kind, each.old, each.new, "" if each.growth is None else f"{each.growth:+.1%}", each.detail),
                each not in self.failures)
            for each in self.findings
        ]  # fmt: skip
        facts = (None if rows else "no difference but noise", *self.notes)
        return card(f"{self.old} and {self.new}", verdict, self.exit_code, facts, _COLUMNS, rows)
