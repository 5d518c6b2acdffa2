"""What came of an export, told from its manifests: a table for each artifact, and what to know and to do."""

import datetime
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from export.cli.accuracy import show_accuracy
from export.cli.console import BANNER, STYLE
from export.folder.device_entry import DeviceEntry, failure
from export.folder.findings import unproven_of
from export.folder.nearest import error_and_budget
from export.pipeline.finished import Finished
from runtimes.runtime import Evidence
from validation.gates import table

KIT = "kit"

_VIOLATIONS_SHOWN, _SUSPECTS_SHOWN, _SLOWEST_SHOWN = 3, 3, 3
_NUMBERS = frozenset({"MB", "ops", "error", "budget", "ms"})
_WIDTHS = {"stage": 9, "MB": 5, "ops": 4, "error": 8, "budget": 7, "verdict": 8, "evidence": 9, "ms": 10}

Record = Mapping[str, Any]


def show_finished(screen: Console, exports: Sequence[Finished]) -> None:
    """A table for each artifact, one row a stage, and what to know and to do where it is not plainly verified."""
    for each in exports:
        screen.print()
        screen.print(Text(each.slug, "bold"))
        screen.print(_table(each.manifest))
        _remarks(screen, each)


def _table(manifest: Record) -> Table:
    """Fixed widths, so that the columns of several artifacts stand below each other, in 80 characters."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading, width in _WIDTHS.items():
        justify: Literal["left", "right"] = "right" if heading in _NUMBERS else "left"
        table.add_column(heading, width=width, justify=justify, no_wrap=True)
    stages = manifest["stages"]
    for stage in stages:
        artifact, verdict = stage["artifact"], stage["verdict"]
        word = verdict["status"].replace("_", " ")
        table.add_row(
            stage["name"],
            f"{artifact['bytes'] / 1e6:.1f}" if artifact else "",
            str(stage["operators"] or ""),
            *error_and_budget(verdict["gates"]),
            Text(word, STYLE[word]),
            str(verdict["evidence"] or "-"),
            _milliseconds(manifest["timing"]) if artifact and stage is stages[-1] else "",
        )
    if manifest["failed"] is not None:
        table.add_row(manifest["failed"]["stage"] or "", "", "", "", "", Text("failed", "bold white on red"))
    return table


def _milliseconds(timing: Record) -> str:
    if not timing["measured"]:
        return "-"
    return f"{timing['median_ms']:.2f}{' noisy' if timing['noisy'] else ''}"


def _remarks(screen: Console, each: Finished) -> None:
    manifest = each.manifest
    last = manifest["stages"][-1]
    if manifest["failed"] is not None:
        failed = manifest["failed"]
        screen.print(Text(f"stage '{failed['stage']}' FAILED: {failed['error']}", "bold red"))
    else:
        _final(screen, each, last)
    for note in (note for stage in manifest["stages"] if stage["artifact"] for note in stage["artifact"]["notes"]):
        screen.print(Text(note, "dim"))
    if (head := manifest["model"].get("head", "logits")) != "logits":
        screen.print(Text(_gives(head, manifest["model"]["outputs"]), "dim"), soft_wrap=True)
    if manifest["accuracy"] is not None:
        show_accuracy(screen, manifest["accuracy"])
    for name, gate in last["verdict"]["gates"].items():
        if gate and gate["warning"]:
            screen.print(Text(f"WARNING: {name}: {gate['warning']}", "bold yellow"), soft_wrap=True)
    if (original := manifest["weights"].get("recovered_from")) is not None:
        text = f"recovered weights: not the checkpoint's, but fine-tuned for int8 from sha256 {original}"
        screen.print(Text(text, "bold yellow"), soft_wrap=True)
    if not manifest["weights"]["trained"]:
        screen.print(Text(BANNER, "bold black on yellow"))
    if each.before is not None:
        for note in manifest["weights"]["notes"]:  # which are said as weights are loaded
            screen.print(Text(f"weights: {note}", "dim"), soft_wrap=True)
        when = datetime.datetime.fromtimestamp(each.before, datetime.UTC)
        timed = " and timed" if manifest["timing"]["measured"] else ""
        text = (
            f"nothing has changed since {when:%Y-%m-%d %H:%M} UTC, when it was checked{timed}; --no-cache does it again"
        )
        screen.print(Text(text, "dim"))
    screen.print(Text(str(each.folder), "dim"), soft_wrap=True)


def _gives(head: str, outputs: Sequence[Record]) -> str:
    """The outputs of another head than a classifier's, and what does not apply to them."""
    strides = [f", stride {each['stride']}" if each.get("stride") else "" for each in outputs]
    said = "; ".join(
        f"{each['name']} {' x '.join(map(str, each['shape']))}{stride}"
        for each, stride in zip(outputs, strides, strict=True)
    )
    return f"--head {head} gives {said}. Top-1, labels, accuracy and the device kit do not apply."


def _final(screen: Console, each: Finished, last: Record) -> None:
    manifest, verdict = each.manifest, last["verdict"]
    match verdict["status"]:
        case "rejected":
            failed = [name for name, gate in verdict["gates"].items() if gate and not gate["passed"]]
            _reject(screen, last["name"], verdict["reason"], manifest["blame"], failed)
        case "not_run":
            screen.print(Text("made, NOT VERIFIED here", "bold yellow"))
            screen.print(Text(f"  why:  {verdict['reason']}\n  next: {verdict['remedy']}"), soft_wrap=True)
        case "built":
            screen.print(Text("built, NOT RUN here; the network it was built from passed", "bold cyan"))
            screen.print(Text(f"  why:  {verdict['reason']}\n  next: {verdict['remedy']}"), soft_wrap=True)
            _require(screen, verdict["evidence"], manifest["evidence_required"])
        case "verified":
            _require(screen, verdict["evidence"], manifest["evidence_required"])
            _settings(screen, verdict["evidence"], manifest["settings"])
            _spent(screen, manifest["timing"])
            _around(screen, manifest["model"].get("feed", ""), verdict["gates"], manifest["timing"].get("fed"))
            _image(screen, manifest["coreml"], manifest["model"]["inputs"])
            _proof(screen, verdict["gates"], manifest)
            section = manifest["coreml"] or manifest.get("coreai")
            _readiness(screen, section, kit=bool(manifest["coreml"]) and (each.folder / KIT).is_dir())
            _on_the_device(screen, each, verdict["evidence"])


def _require(screen: Console, evidence: str, required: str) -> None:
    if not Evidence(evidence).at_least(Evidence(required)):
        screen.print(Text(f"{evidence} evidence only; {required} is required", "bold yellow"))


def _reject(screen: Console, stage: str, reason: str, blame: Record | None, failed: Sequence[str]) -> None:
    screen.print(Text(f" REJECTED at stage '{stage}': it must not ship ", "bold white on red"))
    screen.print(Text(f"  {reason}"))
    if blame is not None:
        suspects = [suspect["says"] for suspect in blame["suspects"]]
        show_suspects(screen, blame["note"], suspects, _SUSPECTS_SHOWN, "in the manifest")
    for step in table.next_steps(failed):
        screen.print(Text(f"  next: {step}"), soft_wrap=True)
    screen.print(Text("  the last good folder, if there is one, was left as it was", "dim"))


def show_suspects(screen: Console, note: str | None, suspects: Sequence[str], shown: int | None, rest: str) -> None:
    """The layers and constants that are likely at fault, the likeliest first."""
    if note:
        screen.print(Text(f"  {note}"))
    for place, suspect in enumerate(suspects[:shown], 1):
        screen.print(Text(f"  {place}. {suspect}", "bold" if place == 1 else ""), soft_wrap=True)
    if shown is not None and (more := len(suspects) - shown) > 0:
        screen.print(Text(f"  and {more} more, {rest}", "dim"))


def _proof(screen: Console, gates: Record, manifest: Record) -> None:
    """What holds for every input, beside what was measured on some; or that nothing is known to."""
    if (identity := gates.get("identity")) is not None:
        screen.print(Text(f"program {identity['detail']}", "dim"))
    elif (said := unproven_of(manifest)) is not None:
        screen.print(Text(said, "bold yellow"), soft_wrap=True)


def _spent(screen: Console, timing: Record) -> None:
    """What an app pays besides the latency."""
    if "load_ms" in timing:
        text = (
            f"in a process of its own: loads in {timing['load_ms']:.3g} ms, first run {timing['first_ms']:.3g} ms, "
            f"{timing['memory_bytes'] / 1e6:.3g} MB of memory"
        )
        screen.print(Text(text, "dim"))
    if modules := timing.get("modules"):
        slowest = sorted(modules, key=lambda each: each["ns"], reverse=True)[:_SLOWEST_SHOWN]
        said = ", ".join(f"{each['name']} {each['share']:.0%}" for each in slowest)
        screen.print(Text(f"most of the time: {said}; all of it in the report", "dim"))


def _around(screen: Console, feed: str, gates: Record, timed: Sequence[int] | None) -> None:
    """How near a file that takes images is to Pillow, and what its latency is of."""
    if (pixels := gates.get("pixels")) is None:
        return
    screen.print(Text(f"--input {feed}: {pixels['detail']}", "dim"))
    if timed:
        _, height, width, _ = timed
        screen.print(Text(f"latency of the whole file, on images of {height} x {width}", "dim"))


def _image(screen: Console, coreml: Record | None, inputs: Sequence[Record]) -> None:
    """Of which size the image is that a Core ML package takes: whatever was asked for, it does not resize."""
    if coreml is not None and coreml["input"] == "image":
        *_, height, width = inputs[0]["shape"]
        text = f"takes 8-bit images of {height} x {width}, and normalizes them; Vision resizes and crops in the app"
        screen.print(Text(text, "dim"))


def _settings(screen: Console, evidence: str, settings: Record) -> None:
    effective, defaults = settings["effective"], settings["defaults"]
    if evidence == "vendor":
        text = f"ran in {effective['precision']} on the CPU in {effective['runtime']} {effective['version']}"
        screen.print(Text(f"{text}, its vendor's runtime: never timed here; a device says the rest", "dim"))
        return
    if evidence != "native":
        text = f"its program evaluated in {effective['precision']}, not run: never timed here; a device says the rest"
        screen.print(Text(text, "dim"))
        return
    runtime = f"{effective['runtime']} {effective['version']}".split("-")[0]
    threads = f"{effective['threads']} thread"
    screen.print(Text(f"ran in {effective['precision']} on {runtime}, {threads}, {effective['isa']}", "dim"))
    if defaults is not None:
        gate, runs = defaults["gate"], defaults["effective"]
        worst, budget = float(gate["worst"]), float(gate["budget"])
        line = f"under the runtime's defaults: {runs['precision']}, error {worst:.1e}"
        if gate["passed"]:
            screen.print(Text(f"{line}, within budget", "dim"))
        else:
            screen.print(Text(f"{line}, OVER the budget of {budget:.1e}: an app must apply", "bold yellow"))
            screen.print(Text("  ship/runtime-settings.json", "bold yellow"))


def _on_the_device(screen: Console, each: Finished, evidence: str) -> None:
    """Where to go on from an artifact that only an evaluator has seen."""
    if evidence == "native" or not (each.folder / KIT).is_dir():
        return
    guide = each.folder / KIT / "README.md"
    screen.print(Text(f"  next: {guide} says how a device checks and times it"), soft_wrap=True)


def _readiness(screen: Console, section: Record | None, *, kit: bool) -> None:
    ready = section and section["neural_engine"]
    if not ready:
        return
    line = f"{ready['share_by_macs']:.1%} of the work is fit for the Neural Engine, by a heuristic"
    screen.print(Text(f"{line}; {'the kit asks the device' if kit else 'only a device can tell'}", "dim"))
    if padded := ready.get("padded_by_macs"):
        screen.print(Text(f"{padded:.1%} of it gives tensors whose last axis is padded to 64 bytes there", "dim"))
    for violation in ready["violations"][:_VIOLATIONS_SHOWN]:
        screen.print(Text(f"  not fit: {violation}", "yellow"))
    if (more := len(ready["violations"]) - _VIOLATIONS_SHOWN) > 0:
        screen.print(Text(f"  and {more} more, in the manifest", "yellow"))


def show_device(screen: Console, entry: DeviceEntry) -> None:
    """A unit of a device: what it gives evidence of, or why it failed."""
    where = Text(f"  on {entry.device.model}, {entry.device.os}, {entry.unit}: ")
    if (why := failure(entry)) is not None:
        screen.print(where + Text(entry.status, STYLE["rejected"]) + Text(f": {why}"), soft_wrap=True)
        return
    rebuilt = " of an engine that was built there" if entry.engine and entry.engine.origin == "rebuilt" else ""
    screen.print(where + Text("passed", STYLE["verified"]) + Text(f", {entry.evidence} evidence{rebuilt}"))
