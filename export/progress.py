"""What the command line shows: a line per stage while it works, a table at the end. The only module with rich in it."""

import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from export import interrupt
from export.doctor import Ability
from export.int8_options import saturation
from export.kit import KIT
from export.outcome import Exit, Outcome, StageResult, status_of
from export.predict import Predictor
from export.show_accuracy import show_accuracy
from export.verify import Verification
from export.weights import Weights
from runtimes.base import Evidence
from runtimes.host import Host
from runtimes.registry import native_runtime
from validation.blame import Blame
from validation.gates import Gate, GateResult
from validation.verdict import Built, NotRun, Rejected, Report, Verdict, VerifiedArtifact

if TYPE_CHECKING:
    from export.bench import Bench
    from export.diff import Diff, Finding
    from export.explain import Explanation
    from export.judge_file import Judged
    from export.selftest import SelfTest
    from validation.self_check import SelfCheck

BANNER = "UNTRAINED WEIGHTS: for trying the pipeline, not for release"
_WIDTH_IN_A_LOG = 140
_STYLE = {"verified": "green", "built": "cyan", "rejected": "bold white on red", "not run": "yellow"}


@contextmanager
def console() -> Iterator[Console]:
    """Standard error, through a descriptor of its own: converters' output is sent elsewhere meanwhile.

    No markup: a file's name and `vit-export[openvino]` have square brackets that are to be seen.
    """
    with ExitStack() as closing:
        stream = closing.enter_context(os.fdopen(os.dup(sys.stderr.fileno()), "w")) if _has_descriptor() else sys.stderr
        yield Console(file=stream, highlight=False, markup=False, width=None if stream.isatty() else _WIDTH_IN_A_LOG)


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
        """Show what goes on now; stop here if somebody asked to, and a library swallowed it."""
        interrupt.check()
        if self._status is not None:
            self._status.update(f"[dim]{time.monotonic() - self._started:5.1f} s[/]  {escape(text)}")
            self._status.start()

    def __enter__(self) -> "Live":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

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
        self._console.print(Text(f"{outcome.slug}: {result.name:<9} {result.seconds:5.1f} s  ").append(word, style))

    def _line(self, text: str) -> None:
        self._console.print(text)


def _word(verdict: Verdict) -> tuple[str, str]:
    word = status_of(verdict).replace("_", " ")
    return word, _STYLE[word]


_COUNTED = {Gate.INTERFACE: "port", Gate.OPERATORS: "op", Gate.CONSTANTS: "const", Gate.LABELS: "image"}
_WHOLE = {*_COUNTED, Gate.OVERFLOW}
_VIOLATIONS_SHOWN = 3
_SUSPECTS_SHOWN = 3
_TEXTS = ("layer", "kind", "module")
_NUMBERS = frozenset({"MB", "ops", "error", "budget", "ms"})
_WIDTHS = {"stage": 9, "MB": 5, "ops": 4, "error": 8, "budget": 7, "verdict": 8, "evidence": 9, "ms": 10}


def show_outcomes(screen: Console, outcomes: Sequence[Outcome], required: Evidence) -> None:
    """A table for each artifact, one row a stage, and what to know and to do where it is not plainly verified."""
    for outcome in outcomes:
        screen.print()
        screen.print(Text(outcome.slug, "bold"))
        screen.print(_table(outcome))
        _remarks(screen, outcome, required)


def _table(outcome: Outcome) -> Table:
    """Fixed widths, so that the columns of several artifacts stand below each other, in 80 characters."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading, width in _WIDTHS.items():
        justify: Literal["left", "right"] = "right" if heading in _NUMBERS else "left"
        table.add_column(heading, width=width, justify=justify, no_wrap=True)
    rewrite = outcome.rewrite
    if rewrite is not None:
        word = "verified" if rewrite.passed else "rejected"
        table.add_row("rewrite", "", "", *_worst(rewrite.gates), Text(word, _STYLE[word]), "native", "")
    for result in outcome.stages:
        word, style = _word(result.verdict)
        report = result.verdict.report
        table.add_row(
            result.name,
            f"{result.artifact.size_bytes / 1e6:.1f}",
            str(result.operators or ""),
            *(_worst(report.gates) if report else ("", "")),
            Text(word, style),
            str(report.evidence) if report and not isinstance(result.verdict, NotRun) else "-",
            _milliseconds(outcome) if result is outcome.stages[-1] else "",
        )
    if outcome.error is not None:
        table.add_row(outcome.failed_stage or "", "", "", "", "", Text("failed", "bold white on red"))
    return table


def _milliseconds(outcome: Outcome) -> str:
    if outcome.timing is None:
        return "-"
    return f"{outcome.timing.median_ms:.2f}{' noisy' if outcome.timing.noisy else ''}"


def _worst(gates: Iterable[GateResult]) -> tuple[str, str]:
    """The gate that is nearest to its budget, or furthest over it."""
    failed = [gate for gate in gates if not gate.passed]
    if failed:
        gate = failed[0]
        if gate.gate in _COUNTED:
            return f"{gate.worst:.0f} {_COUNTED[gate.gate]}", "0"
        return f"{gate.worst:.1e}", f"{gate.budget:.1e}"
    numeric = [gate for gate in gates if gate.gate not in _COUNTED and gate.budget > 0]
    if not numeric:
        return "", ""
    gate = max(numeric, key=lambda g: g.worst / g.budget)
    return f"{gate.worst:.1e}", f"{gate.budget:.1e}"


def _remarks(screen: Console, outcome: Outcome, required: Evidence) -> None:
    final = outcome.final
    if outcome.error is not None:
        screen.print(Text(f"stage '{outcome.failed_stage}' FAILED: {outcome.error}", "bold red"))
    elif outcome.rewrite is not None and not outcome.rewrite.passed:
        _reject(screen, "rewrite", outcome.rewrite.reason, outcome.blame)
    elif final is not None:
        _final(screen, outcome, final, required)
    for note in (note for result in outcome.stages for note in result.artifact.notes):
        screen.print(Text(note, "dim"))
    if final is not None and final.report is not None:
        _beside(screen, final.report)
    if outcome.fallback:
        screen.print(Text(BANNER, "bold black on yellow"))
    if outcome.folder is not None:
        screen.print(Text(str(outcome.folder), "dim"), soft_wrap=True)


def _beside(screen: Console, report: Report) -> None:
    """Accuracy, and what a person should know although the gates passed."""
    if report.accuracy is not None:
        show_accuracy(screen, report.accuracy)
    for gate in report.gates:
        if gate.warning:
            screen.print(Text(f"WARNING: {gate.gate}: {gate.warning}", "bold yellow"), soft_wrap=True)


def _final(screen: Console, outcome: Outcome, final: Verdict, required: Evidence) -> None:
    match final:
        case Rejected(reason=reason):
            _reject(screen, outcome.stages[-1].name, reason, outcome.blame)
        case NotRun():
            screen.print(Text("made, NOT CHECKED here", "bold yellow"))
            screen.print(Text(f"  why:  {final.reason}\n  next: {final.remedy}"), soft_wrap=True)
        case Built():
            screen.print(Text("built, NOT RUN here; the network it was built from passed", "bold cyan"))
            screen.print(Text(f"  why:  {final.reason}\n  next: {final.remedy}"), soft_wrap=True)
            _require(screen, final.report.evidence, required)
        case VerifiedArtifact():
            _require(screen, final.report.evidence, required)
            _settings(screen, final)
            _readiness(screen, outcome)
            _on_the_device(screen, outcome, final)


def _require(screen: Console, evidence: Evidence, required: Evidence) -> None:
    if not evidence.at_least(required):
        screen.print(Text(f"{evidence} evidence only; {required} is required", "bold yellow"))


def _reject(screen: Console, stage: str, reason: str, blame: Blame | None) -> None:
    screen.print(Text(f" REJECTED at stage '{stage}': it must not ship ", "bold white on red"))
    screen.print(Text(f"  {reason}"))
    if blame is not None:
        show_blame(screen, blame, _SUSPECTS_SHOWN)
    screen.print(Text("  the last good folder, if there is one, was left as it was", "dim"))


def show_blame(screen: Console, blame: Blame, shown: int | None = None, rest: str = "in the manifest") -> None:
    """The layers and constants that are likely at fault, the likeliest first."""
    if blame.note:
        screen.print(Text(f"  {blame.note}"))
    for place, suspect in enumerate(blame.suspects[:shown], 1):
        screen.print(Text(f"  {place}. {suspect}", "bold" if place == 1 else ""), soft_wrap=True)
    if shown is not None and (more := len(blame.suspects) - shown) > 0:
        screen.print(Text(f"  and {more} more, {rest}", "dim"))


def _settings(screen: Console, verified: VerifiedArtifact) -> None:
    report = verified.report
    effective = verified.attestation
    if report.evidence is not Evidence.NATIVE:
        text = f"its program evaluated in {effective.precision}, not run: never timed here; a device says the rest"
        screen.print(Text(text, "dim"))
        return
    runtime = f"{effective.runtime} {effective.version}".split("-")[0]
    screen.print(Text(f"ran in {effective.precision} on {runtime}, {effective.threads} thread, {effective.isa}", "dim"))
    if report.defaults is not None:
        gate, runs = report.defaults.gate, report.defaults.attestation
        line = f"under the runtime's defaults: {runs.precision}, error {gate.worst:.1e}"
        if gate.passed:
            screen.print(Text(f"{line}, within budget", "dim"))
        else:
            screen.print(Text(f"{line}, OVER the budget of {gate.budget:.1e}: an app must apply", "bold yellow"))
            screen.print(Text("  ship/runtime-settings.json", "bold yellow"))


def _on_the_device(screen: Console, outcome: Outcome, verified: VerifiedArtifact) -> None:
    """Where to go on from an artifact that only an evaluator has seen."""
    if verified.report.evidence is Evidence.NATIVE or outcome.folder is None or not (outcome.folder / KIT).is_dir():
        return
    guide = outcome.folder / KIT / "README.md"
    screen.print(Text(f"  next: {guide} says how a device checks and times it"), soft_wrap=True)


def _readiness(screen: Console, outcome: Outcome) -> None:
    ready = outcome.readiness
    if ready is None:
        return
    line = f"{ready.share:.1%} of the work is fit for the Neural Engine, by a heuristic"
    screen.print(Text(f"{line}; the kit asks the device", "dim"))
    for violation in ready.violations[:_VIOLATIONS_SHOWN]:
        screen.print(Text(f"  not fit: {violation}", "yellow"))
    if (more := len(ready.violations) - _VIOLATIONS_SHOWN) > 0:
        screen.print(Text(f"  and {more} more, in the manifest", "yellow"))


def _gates(screen: Console, report: Report) -> None:
    """Every gate of one verdict."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("gate", "worst error", "budget", "floor", "kind", "finding"):
        table.add_column(heading, overflow="fold")
    for gate in report.gates:
        floor = "" if gate.floor is None else f"{gate.floor:.1e}"
        style_of_gate = "" if gate.passed else "red"
        table.add_row(
            gate.gate,
            *(f"{value:.0f}" if gate.gate in _WHOLE else f"{value:.1e}" for value in (gate.worst, gate.budget)),
            floor,
            gate.kind or "",
            gate.detail,
            style=style_of_gate,
        )
    screen.print(table)


def show_judged(screen: Console, judged: "Judged", code: Exit) -> None:
    """The verdict on somebody else's file: what was recognised, every gate, what could not be asked, and the blame."""
    foreign, found = judged.foreign, judged.found
    layout = "NHWC" if foreign.channels_last else "NCHW"
    how = "recognised" if found.taken.recognised else "as asked"
    screen.print(Text(f"takes  {foreign.image}, {layout}, {found.taken.range} ({how})", "dim"))
    screen.print(
        Text(f"gives  {foreign.output}, {found.taken.scores}; weights {foreign.artifact.precision.weights}", "dim")
    )
    _gates(screen, found.verdict.report)
    word, style = _word(found.verdict)
    screen.print(Text(f"{foreign.artifact.path}: ").append(word, style))
    if isinstance(found.verdict, Rejected):
        screen.print(Text(f"  {found.verdict.reason}"), soft_wrap=True)
    for note in found.notes:
        screen.print(Text(f"  {note}", "dim"), soft_wrap=True)
    if judged.blame is not None:
        show_blame(screen, judged.blame, _SUSPECTS_SHOWN, "with --json")
    if judged.check.vacuous:
        text = f" PARITY ON THESE WEIGHTS IS VACUOUS: {'; '.join(judged.check.failures)} "
        screen.print(Text(text, "bold white on red"))
    elif code is Exit.NOT_VERIFIED:
        screen.print(Text(f"  {found.verdict.report.evidence} evidence only; native is required", "yellow"))
    if not judged.weights.trained:
        screen.print(Text(f" {BANNER} ", "bold black on yellow"))


def show_verification(screen: Console, verification: Verification, code: Exit) -> None:
    """The verdict on a folder."""
    word, style = _word(verification.verdict)
    if (report := verification.verdict.report) is not None:
        _gates(screen, report)
        _beside(screen, report)
    screen.print(
        Text(f"{verification.folder}: ") + Text(word, style) + Text(f"  (when exported: {verification.recorded})")
    )
    if not isinstance(verification.verdict, VerifiedArtifact):
        screen.print(Text(f"  {verification.verdict.reason}"), soft_wrap=True)
    if not verification.trained:
        screen.print(Text(f" {BANNER} ", "bold black on yellow"))
    if (why := verification.shortfall(code)) is not None:
        screen.print(Text(f"  {why}", "yellow"))


def show_explanation(screen: Console, folder: Path, explanation: "Explanation", *, layers: bool) -> None:
    """The suspects of a stage, and with `layers` all that could be compared."""
    if layers:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for heading in ("layer", "kind", "module", "error", "floor", "from", "to"):
            table.add_column(heading, overflow="fold", justify="left" if heading in _TEXTS else "right")
        for layer in explanation.blame.layers:
            numbers = (f"{layer.error:.1e}", f"{layer.floor:.1e}", f"{layer.low:.4g}", f"{layer.high:.4g}")
            table.add_row(layer.name, layer.kind, layer.module, *numbers, style="" if layer.passed else "red")
        screen.print(table)
    word, style = ("rejected", _STYLE["rejected"]) if explanation.rejected else ("within budget", "green")
    screen.print(Text(f"{folder}: stage '{explanation.stage}' is ").append(word, style))
    for gate in explanation.gates:
        if not gate.passed:
            screen.print(Text(f"  {gate.gate} gate: {gate.detail}"))
    show_blame(screen, explanation.blame)


def show_selftest(screen: Console, found: "SelfTest") -> None:
    """The detection table: what was planted where, who saw it, and whether the right layer was named."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("fault", "stage", "effect/budget", "seen by", "layer"):
        table.add_column(heading, overflow="fold", justify="right" if "/" in heading else "left")
    for each in (*found.detections, *found.inputs):
        effect = "" if each.effect is None else f"{each.effect:.1e}"
        layer = {None: "", True: "named", False: "not named"}[each.blamed]
        seen = ", ".join(each.seen_by) or ("MISSED" if each.shows else "shows nowhere")
        where = f"{each.target} {each.variant} {each.stage}"
        table.add_row(each.name, where, effect, seen, layer, style="bold red" if each in found.missed else "")
    screen.print(table)
    blamed, of = found.blamed
    visible = len(found.detections) - len(found.invisible)
    caught = visible - len(found.missed)
    alarms = len(found.false_alarms)
    screen.print(f"{found.kinds} kinds of faults, {len(found.detections)} planted from seed {found.seed}")
    for fault in found.unplanted:
        screen.print(Text(f"not planted   {fault}", "yellow"), soft_wrap=True)
    word = "green" if not found.missed else "bold white on red"
    screen.print(Text(f"caught        {caught} of {visible} that show", word))
    screen.print(f"layer named   {blamed} of {of}, among the first three suspects")
    told = sum(each.caught for each in found.inputs)
    screen.print(f"wrong inputs  {told} of {len(found.inputs)} move a photo's answer beyond its budget")
    word = "green" if not alarms else "bold white on red"
    screen.print(Text(f"false alarms  {alarms} of {len(found.healthy)} healthy artifacts", word))
    for alarm in found.false_alarms:
        where = f"{alarm.target} {alarm.variant} {alarm.stage}"
        screen.print(Text(f"  {where}: {alarm.why}", "red"), soft_wrap=True)
    if found.check.vacuous:
        text = f" THESE WEIGHTS SHOW TOO LITTLE: {'; '.join(found.check.failures)} "
        screen.print(Text(text, "bold white on red"))
    if not found.weights.trained:
        screen.print(Text(f" {BANNER} ", "bold black on yellow"))


def show_diff(screen: Console, found: "Diff", failures: Sequence["Finding"]) -> None:
    """What differs between two releases."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("", "old", "new", "change", "finding"):
        table.add_column(heading, overflow="fold")
    for finding in found.findings:
        change = "" if finding.growth is None else f"{finding.growth:+.1%}"
        style = "bold red" if finding in failures else ("yellow" if finding.worse else "green")
        table.add_row(finding.kind, finding.old, finding.new, change, finding.detail, style=style)
    if found.findings:
        screen.print(table)
    else:
        screen.print(Text("no difference but noise", "green"))
    if (ratio := found.ratio) is not None:
        how = "in turns" if ratio.interleaved else "as recorded"
        interval = f"{ratio.low - 1:+.1%} to {ratio.high - 1:+.1%}"
        times = f"{ratio.old_ms:.3f} and {ratio.new_ms:.3f} ms"
        word = "differs" if ratio.differs else "within noise"
        interval += f"; two sessions of the old: {ratio.noise:.1%}" if ratio.interleaved else ""
        screen.print(Text(f"latency {how}: {times}, {ratio.median - 1:+.1%} ({interval}): {word}", "dim"))
    for note in found.notes:
        screen.print(Text(f"  {note}", "yellow"), soft_wrap=True)
    if failures:
        kinds = ", ".join(dict.fromkeys(finding.kind for finding in failures))
        screen.print(Text(f" worse than --fail-on allows: {kinds} ", "bold white on red"))


def show_bench(screen: Console, found: "Bench") -> None:
    """What was timed, the fastest of a model and a batch first, and what was not."""
    from export.claims import compared

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("model", "target", "precision", "batch", "threads", "ms", "±", "images/s", "x", "MB", "error"):
        table.add_column(heading, justify="left" if heading in ("model", "target", "precision") else "right")
    ordered = sorted(found.rows, key=lambda row: (row.model, row.batch, row.threads, row.timing.median_ms))
    for before, row in zip((None, *ordered), ordered, strict=False):
        if before is not None and (before.model, before.batch, before.threads) != (row.model, row.batch, row.threads):
            table.add_row()
        speedup = found.speedup(row)
        table.add_row(
            row.model,
            row.target,
            row.precision,
            str(row.batch),
            str(row.threads),
            f"{row.timing.median_ms:.2f}",
            f"{row.timing.iqr_ms:.2f}",
            f"{row.images_per_s:.0f}",
            "" if speedup is None else f"{speedup:.2f}",
            f"{row.verified.artifact.size_bytes / 1e6:.1f}",
            f"{row.gate.worst:.1e}",
        )
    screen.print(table)
    for each in compared(found):
        paper = "" if each.claim.paper is None else f" (the paper: {each.claim.paper})"
        names = (f"{row.model} {row.precision}" for row in (each.first, each.second))
        text = f"{each.claim.target}, batch {each.first.batch}: {' over '.join(names)}: {each.ratio:.2f} x{paper}"
        screen.print(Text(text, "bold"), soft_wrap=True)
    for note in found.notes:
        screen.print(Text(f"  {note}", "yellow"), soft_wrap=True)


def show_runtime(screen: Console, predictor: Predictor) -> None:
    """Which program gives the answers, and what they are not."""
    artifact, runtime = predictor.exported.artifact, predictor.runtime
    if runtime.evidence is Evidence.NATIVE:
        screen.print(Text(f"{artifact.path.name} in {runtime.name}", "dim"))
    else:
        real = native_runtime(artifact.format).name
        text = f"{artifact.path.name}: its program evaluated here, for want of the real runtime ({real})"
        screen.print(Text(text, "yellow"))
    if not predictor.exported.manifest["weights"]["trained"]:
        screen.print(Text(f" {BANNER} ", "bold black on yellow"))


def show_host(screen: Console, host: Host, abilities: Sequence[Ability]) -> None:
    """The doctor's findings."""
    screen.print(f"{host.os}, {host.cpu}, {host.isa}, {host.physical_cores} cores, {host.memory_bytes / 2**30:.0f} GiB")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("target", "package", "make", "judge", "time", "what is missing"):
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
    if (note := saturation(host)) is not None:
        screen.print(Text(f"int8: {note}", "yellow"), soft_wrap=True)
