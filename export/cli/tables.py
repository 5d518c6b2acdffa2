"""What the commands beside `export` show at their end."""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from export.cli.accuracy import show_accuracy
from export.cli.console import BANNER, STYLE
from export.cli.summary import show_device, show_suspects
from export.commands.doctor import Ability
from export.commands.predict import Predictions
from export.commands.verify import Verification
from export.exits import Exit
from export.folder.accuracy import AccuracyRecord
from export.targets.int8_options import saturation
from runtimes.host.machine import Host
from runtimes.runtime import Evidence
from validation.blame.ranking import Blame
from validation.gates.table import named, next_steps
from validation.verdict import Rejected, Report, Verdict, VerifiedArtifact, status_of

if TYPE_CHECKING:
    from export.commands.differences import Diff
    from export.commands.explain import Explanation
    from export.commands.judge import Judged
    from export.selftest.result import Detection, SelfTest

_SUSPECTS_SHOWN = 3


def plain_table(*headings: str, right: Collection[str] = ()) -> Table:
    """Without lines; `right`: headings of the columns of numbers."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, overflow="fold", justify="right" if heading in right else "left")
    return table


def warn_untrained(screen: Console, *, trained: bool) -> None:
    """The banner, where the weights are random."""
    if not trained:
        screen.print(Text(f" {BANNER} ", "bold black on yellow"))


def _beside(screen: Console, report: Report) -> None:
    """Accuracy, and what a person should know although the gates passed."""
    if (accuracy := AccuracyRecord.of(report.accuracy)) is not None:
        show_accuracy(screen, accuracy.to_json())
    if report.unproven is not None:
        screen.print(Text(report.unproven, "bold yellow"), soft_wrap=True)
    for gate in report.gates:
        if gate.warning:
            screen.print(Text(f"WARNING: {gate.gate}: {gate.warning}", "bold yellow"), soft_wrap=True)


def show_blame(screen: Console, blame: Blame, shown: int | None = None, rest: str = "in the manifest") -> None:
    """The layers and constants that are likely at fault, the likeliest first."""
    show_suspects(screen, blame.note, [str(suspect) for suspect in blame.suspects], shown, rest)


def _word(verdict: Verdict) -> tuple[str, str]:
    word = status_of(verdict).replace("_", " ")
    return word, STYLE[word]


def _gates(screen: Console, report: Report) -> None:
    """Every gate of one verdict."""
    table = plain_table("gate", "worst error", "budget", "floor", "kind", "finding")
    for gate in report.gates:
        floor = "" if gate.floor is None else f"{gate.floor:.1e}"
        style_of_gate = "" if gate.passed else "red"
        table.add_row(
            gate.gate,
            *map(named(gate.gate).text, (gate.worst, gate.budget)),
            floor,
            gate.kind or "",
            gate.detail,
            style=style_of_gate,
        )
    screen.print(table)


def show_judged(screen: Console, judged: "Judged") -> None:
    """The verdict on somebody else's file: what was recognized, every gate, what could not be asked, and the blame."""
    foreign, found = judged.foreign, judged.found
    layout = "NHWC" if foreign.channels_last else "NCHW"
    declared = foreign.takes_bytes or foreign.colors is not None
    how = "recognized" if found.taken.recognized else "as it declares" if declared else "as asked"
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
    failed = [gate.gate for gate in found.verdict.report.gates if not gate.passed]
    compressed = judged.foreign.artifact.precision.weights.compressed
    for step in next_steps(name for name in failed if compressed or not named(name).cost):
        screen.print(Text(f"  next: {step}"), soft_wrap=True)
    if judged.blame is not None:
        show_blame(screen, judged.blame, _SUSPECTS_SHOWN, "with --json")
    if judged.vacuous:
        text = f" PARITY ON THESE WEIGHTS IS VACUOUS: {'; '.join(judged.vacuous)} "
        screen.print(Text(text, "bold white on red"))
    elif judged.exit_code is Exit.NOT_VERIFIED:
        screen.print(Text(f"  {found.verdict.report.evidence} evidence only: less than --require asks for", "yellow"))
    warn_untrained(screen, trained=judged.weights.trained)


def show_verification(screen: Console, verification: Verification) -> None:
    """The verdict on a folder."""
    word, style = _word(verification.verdict)
    if verification.devices.failed:
        word, style = "rejected", STYLE["rejected"]
    elif verification.undecided is not None:
        word, style = "not verified", STYLE["not run"]
    if (report := verification.verdict.report) is not None:
        _gates(screen, report)
        _beside(screen, report)
    said = Text(f"{verification.folder}: ") + Text(word, style) + Text(f"  (when exported: {verification.recorded})")
    screen.print(said, soft_wrap=True)
    if not isinstance(verification.verdict, VerifiedArtifact):
        screen.print(Text(f"  {verification.verdict.reason}"), soft_wrap=True)
    for entry in verification.devices.entries:
        show_device(screen, entry)
    warn_untrained(screen, trained=verification.trained)
    for what in verification.not_repeated:
        screen.print(Text(f"  not checked again: {what}", "bold yellow"))
    if (why := verification.shortfall(verification.exit_code)) is not None:
        screen.print(Text(f"  {why}", "yellow"))


def show_explanation(screen: Console, explanation: "Explanation", *, layers: bool) -> None:
    """The suspects of a stage, and with `layers` all that could be compared."""
    if layers:
        table = plain_table(
            "layer", "kind", "module", "error", "floor", "from", "to", right=("error", "floor", "from", "to")
        )
        for layer in explanation.blame.layers:
            numbers = (f"{layer.error:.1e}", f"{layer.floor:.1e}", f"{layer.low:.4g}", f"{layer.high:.4g}")
            table.add_row(layer.name, layer.kind, layer.module, *numbers, style="" if layer.passed else "red")
        screen.print(table)
    word, style = ("rejected", STYLE["rejected"]) if explanation.rejected else ("within budget", "green")
    screen.print(Text(f"{explanation.folder}: stage '{explanation.stage}' is ").append(word, style))
    for gate in explanation.gates:
        if not gate.passed:
            screen.print(Text(f"  {gate.gate} gate: {gate.detail}"))
    show_blame(screen, explanation.blame)


def show_selftest(screen: Console, found: "SelfTest") -> None:
    """The detection table: what was planted where, who saw it, and whether the right layer was named."""
    table = plain_table("fault", "stage", "effect/budget", "seen by", "layer", "proof", right=("effect/budget",))
    for each in (*found.detections, *found.inputs):
        effect = "" if each.effect_over_budget is None else f"{each.effect_over_budget:.1e}"
        layer = {None: "", True: "named", False: "not named"}[each.blamed]
        seen = ", ".join(each.seen_by) or ("MISSED" if each.shows else "shows nowhere")
        where = f"{each.target} {each.variant} {each.stage}"
        failed = each in found.missed or each in found.taken_for_equal
        table.add_row(each.name, where, effect, seen, layer, _proof(each), style="bold red" if failed else "")
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
    (told, changed), (named, of) = found.told_apart, found.named
    word = "green" if told == changed else "bold white on red"
    screen.print(Text(f"proof         {told} of {changed} that change the program told apart", word))
    screen.print(f"              {named} of {of} named by the operation")
    told = sum(each.caught for each in found.inputs)
    screen.print(f"wrong inputs  {told} of {len(found.inputs)} move a photo's answer beyond its budget")
    word = "green" if not alarms else "bold white on red"
    screen.print(Text(f"false alarms  {alarms} of {len(found.healthy)} healthy artifacts", word))
    for alarm in found.false_alarms:
        where = f"{alarm.target} {alarm.variant} {alarm.stage}"
        screen.print(Text(f"  {where}: {alarm.why}", "red"), soft_wrap=True)
    if found.check.by_samples:
        text = f" THESE WEIGHTS SHOW TOO LITTLE: {'; '.join(found.check.by_samples)} "
        screen.print(Text(text, "bold white on red"))
    warn_untrained(screen, trained=found.weights.trained)


def _proof(each: "Detection") -> str:
    """What came of the proof of a spoiled file, as the detection table says it."""
    if each.proof is None:
        return ""
    if each.told_apart:
        return f"{each.proof}{ {None: '', True: ', named', False: ', not named'}[each.named] }"
    return "TAKEN FOR EQUAL" if each.program else "same program"


def show_diff(screen: Console, found: "Diff") -> None:
    """What differs between two releases."""
    failures = found.failures
    table = plain_table("", "old", "new", "change", "finding")
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


def show_runtime(screen: Console, found: Predictions) -> None:
    """Which program gave the answers, and what they are not."""
    name = found.artifact.name
    if found.evidence is Evidence.NATIVE:
        screen.print(Text(f"{name} in {found.runtime}", "dim"))
    elif found.evidence is Evidence.VENDOR:
        screen.print(Text(f"{name} in {found.runtime}, its vendor's runtime, on this host's CPU", "dim"))
    else:
        text = f"{name}: its program evaluated here, for want of the real runtime ({found.native})"
        screen.print(Text(text, "yellow"))
    warn_untrained(screen, trained=found.trained)


def show_host(screen: Console, host: Host, abilities: Sequence[Ability]) -> None:
    """The doctor's findings."""
    screen.print(f"{host.os}, {host.cpu}, {host.isa}, {host.physical_cores} cores, {host.memory_bytes / 2**30:.0f} GiB")
    table = plain_table("target", "package", "make", "judge", "time", "what is missing")
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
