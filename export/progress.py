"""What the command line shows: a line per stage while it works, a table at the end. The only module with rich in it."""

import os
import sys
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from export.doctor import Ability
from export.manifest import verdict_status
from export.outcome import Exit, Outcome, StageResult
from export.verify import Verification
from export.weights import Weights
from runtimes.base import Evidence
from runtimes.host import Host
from validation.gates import Gate, GateResult
from validation.verdict import NotRun, Rejected, Verdict, VerifiedArtifact

if TYPE_CHECKING:
    from validation.self_check import SelfCheck

BANNER = "UNTRAINED WEIGHTS: for trying the pipeline, not for release"
_WIDTH_IN_A_LOG = 140
_STYLE = {"verified": "green", "rejected": "bold white on red", "not run": "yellow"}


def console() -> Console:
    """Standard error, through a descriptor of its own: converters' output is sent elsewhere meanwhile."""
    stream = os.fdopen(os.dup(sys.stderr.fileno()), "w") if _has_descriptor() else sys.stderr
    return Console(file=stream, highlight=False, width=None if stream.isatty() else _WIDTH_IN_A_LOG)


def _has_descriptor() -> bool:
    try:
        sys.stderr.fileno()
    except (OSError, ValueError):
        return False
    return True


class Live:
    """Progress on a terminal (a status line that changes), in a log (a line a stage), or, if quiet, nowhere."""

    def __init__(self, screen: Console) -> None:
        self._console = screen
        self._status = screen.status("") if screen.is_terminal else None
        self._started = time.monotonic()
        self._shown: list[StageResult] = []

    def step(self, text: str) -> None:
        """Show what goes on now."""
        if self._status is not None:
            self._status.update(f"[dim]{time.monotonic() - self._started:5.1f} s[/]  {escape(text)}")
            self._status.start()

    def stop(self) -> None:
        """Take the status line away."""
        if self._status is not None:
            self._status.stop()

    def weights(self, weights: Weights, check: "SelfCheck | None") -> None:
        """Say where the weights come from and, where it matters, what they are no good for."""
        if check is None:
            self._line(f"weights: {weights.source}  sha256 {weights.sha256[:12]}")
            for note in weights.notes:
                self._line(f"         {note}")
            if not weights.trained:
                self._console.print(Text(f" {BANNER} ", style="bold black on yellow"))
        elif check.vacuous:
            text = f" PARITY ON THESE WEIGHTS WOULD BE VACUOUS: {'; '.join(check.failures)} "
            self._console.print(Text(text, style="bold white on red"))

    def download(self, done: int, total: int | None) -> None:
        """Bytes so far."""
        whole = f" of {total / 1e6:.1f}" if total else ""
        self.step(f"downloading weights: {done / 1e6:.1f}{whole} MB")

    def stage(self, outcome: Outcome, result: StageResult) -> None:
        """A stage is done; one that two targets share is said once."""
        if any(result is shown for shown in self._shown):
            return
        self._shown.append(result)
        word, style = _word(result.verdict)
        self._line(f"{outcome.slug}: {result.name:<9} {result.seconds:5.1f} s  [{style}]{word}[/]")

    def _line(self, text: str) -> None:
        self._console.print(text)


def _word(verdict: Verdict) -> tuple[str, str]:
    word = verdict_status(verdict).replace("_", " ")
    return word, _STYLE[word]


def show_outcomes(screen: Console, outcomes: Sequence[Outcome], required: Evidence) -> None:
    """One row a stage, then what to know and to do about everything that is not plainly verified."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("artifact", overflow="fold")
    table.add_column("stage", no_wrap=True)
    for heading in ("MB", "ops", "worst error", "budget"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    table.add_column("evidence", no_wrap=True)
    table.add_column("ms", justify="right", no_wrap=True)
    for outcome in outcomes:
        _rows(table, outcome)
        table.add_section()
    screen.print()
    screen.print(table)
    for outcome in outcomes:
        _remarks(screen, outcome, required)


def _rows(table: Table, outcome: Outcome) -> None:
    rewrite = outcome.rewrite
    if rewrite is not None:
        word = "verified" if rewrite.passed else "rejected"
        error, budget = _worst(rewrite.gates)
        table.add_row(outcome.slug, "rewrite", "", "", error, budget, Text(word, _STYLE[word]), "native", "")
    for result in outcome.stages:
        word, style = _word(result.verdict)
        report = result.verdict.report
        error, budget = _worst(report.gates) if report else ("", "")
        last = result is outcome.stages[-1]
        table.add_row(
            "",
            result.name,
            f"{result.artifact.size_bytes / 1e6:.1f}",
            str(result.operators or ""),
            error,
            budget,
            Text(word, style),
            str(report.evidence) if report and not isinstance(result.verdict, NotRun) else "-",
            _milliseconds(outcome) if last else "",
        )
    if outcome.error is not None:
        table.add_row(outcome.slug, outcome.failed_stage or "", "", "", "", "", Text("failed", "bold white on red"))


def _milliseconds(outcome: Outcome) -> str:
    if outcome.timing is None:
        return "-"
    return f"{outcome.timing.median_ms:.2f}{' noisy' if outcome.timing.noisy else ''}"


def _worst(gates: Iterable[GateResult]) -> tuple[str, str]:
    """The gate that is nearest to its budget, or furthest over it."""
    failed = [gate for gate in gates if not gate.passed]
    if failed:
        gate = failed[0]
        if gate.gate is Gate.CONSTANTS:
            return f"{gate.worst:.0f} constants", "0"
        return f"{gate.worst:.1e}", f"{gate.budget:.1e}"
    numeric = [gate for gate in gates if gate.gate is not Gate.CONSTANTS and gate.budget > 0]
    if not numeric:
        return "", ""
    gate = max(numeric, key=lambda g: g.worst / g.budget)
    return f"{gate.worst:.1e}", f"{gate.budget:.1e}"


def _remarks(screen: Console, outcome: Outcome, required: Evidence) -> None:
    name, final = outcome.slug, outcome.final
    if outcome.error is not None:
        screen.print(Text(f"\n{name}: stage '{outcome.failed_stage}' failed", "bold red"))
        screen.print(Text(str(outcome.error)))
    elif outcome.rewrite is not None and not outcome.rewrite.passed:
        _reject(screen, outcome, "rewrite", outcome.rewrite.reason)
    elif isinstance(final, Rejected):
        _reject(screen, outcome, outcome.stages[-1].name, final.reason)
    elif isinstance(final, NotRun):
        screen.print(Text(f"\n{name}: made, NOT CHECKED here", "bold yellow"))
        screen.print(Text(f"  why:  {final.reason}\n  next: {final.remedy}"))
    elif isinstance(final, VerifiedArtifact):
        if not final.report.evidence.at_least(required):
            screen.print(
                Text(f"\n{name}: {final.report.evidence} evidence only; {required} is required", "bold yellow")
            )
        _settings(screen, name, final)
    if outcome.fallback:
        screen.print(Text(f"{name}: {BANNER}", "bold black on yellow"))
    if outcome.folder is not None:
        screen.print(Text(f"{name}: {outcome.folder}", "dim"))


def _reject(screen: Console, outcome: Outcome, stage: str, reason: str) -> None:
    screen.print(Text(f"\n{outcome.slug}: REJECTED at stage '{stage}': it must not ship", "bold white on red"))
    screen.print(Text(f"  {reason}"))
    screen.print(Text("  the last good folder, if there is one, was left as it was", "dim"))


def _settings(screen: Console, name: str, verified: VerifiedArtifact) -> None:
    report = verified.report
    effective = report.attestation
    ran = f"ran in {effective.precision}, threads {effective.threads}, {effective.isa}"
    screen.print(Text(f"{name}: {effective.runtime} {effective.version}, {ran}", "dim"))
    if report.defaults is not None:
        gate, runs = report.defaults.gate, report.defaults.attestation
        line = f"{name}: under the runtime's own defaults it runs in {runs.precision}, error {gate.worst:.1e}"
        if gate.passed:
            screen.print(Text(f"{line}, within the same budget", "dim"))
        else:
            screen.print(
                Text(f"{line}, OVER the budget of {gate.budget:.1e}: ship runtime-settings.json", "bold yellow")
            )


def show_verification(screen: Console, verification: Verification, code: Exit) -> None:
    """The verdict on a folder."""
    word, style = _word(verification.verdict)
    report = verification.verdict.report
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("gate", "worst error", "budget", "floor", "kind", "finding"):
        table.add_column(heading, overflow="fold")
    for gate in report.gates if report else ():
        floor = "" if gate.floor is None else f"{gate.floor:.1e}"
        style_of_gate = "" if gate.passed else "red"
        table.add_row(
            gate.gate,
            f"{gate.worst:.1e}",
            f"{gate.budget:.1e}",
            floor,
            gate.kind or "",
            gate.detail,
            style=style_of_gate,
        )
    if report:
        screen.print(table)
    screen.print(
        Text(f"{verification.folder}: ") + Text(word, style) + Text(f"  (when exported: {verification.recorded})")
    )
    if not isinstance(verification.verdict, VerifiedArtifact):
        screen.print(Text(f"  {verification.verdict.reason}"))
    if not verification.trained:
        screen.print(Text(f" {BANNER} ", "bold black on yellow"))
    if code is Exit.NOT_VERIFIED:
        screen.print(Text("  the evidence that was required is not to be had on this host", "yellow"))


def show_host(screen: Console, host: Host, abilities: Sequence[Ability]) -> None:
    """The doctor's findings."""
    screen.print(f"{host.os}, {host.cpu}, {host.isa}, {host.physical_cores} cores, {host.memory_bytes / 2**30:.0f} GiB")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("target", "package", "make", "judge", "time", "to get the rest"):
        table.add_column(heading)
    for ability in abilities:
        table.add_row(
            ability.target,
            f"{ability.package} {ability.version or '-'}",
            "yes" if ability.can_make else "no",
            str(ability.evidence or "no"),
            "yes" if ability.can_time else "no",
            ability.remedy or "",
        )
    screen.print(table)
