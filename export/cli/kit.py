"""`vit-export kit` and `vit-export attach`: to a device that runs what this host cannot, and back."""

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from export.cli.options import JSON, PATH, Command, option

if TYPE_CHECKING:
    from export.device_kit.attach import Attachment
    from export.folder.device_entry import DeviceEntry, DeviceTimingRecord, SpecializationRecord


@click.command(cls=Command)
@click.argument("folder", metavar="DIR", type=PATH)
@option("Output", "-o --out", "Copy the kit to this folder. [default: DIR/kit]", type=PATH, metavar="KIT")
def kit(folder: Path, out: Path | None) -> None:
    """Make the device kit of an exported Core ML, Core AI or TensorRT folder, or copy the one it has.

    Apple's formats are for Apple's devices, an engine is for NVIDIA's GPUs. The kit holds the artifact, golden inputs,
    reference logits and budgets, and what runs it there: a script for the Mac and a Swift package for the iPhone, or a
    script for the GPU host. They check every compute unit, or either of NVIDIA's products, time what passed, and write
    device-report.json.

    \b
    vit-export kit exports/m2-coreml-fp16 -o /Volumes/stick/m2-kit
    python check_on_mac.py                                    on the Mac, in the kit
    vit-export attach exports/m2-coreml-fp16 device-report.json

    \b
    vit-export kit exports/m2-coreai-fp16 -o /Volumes/stick/m2-kit
    python check_coreai_on_mac.py                             on the Mac, in the kit
    vit-export attach exports/m2-coreai-fp16 device-report.json

    \b
    vit-export kit exports/m2-tensorrt-fp16 -o m2-kit
    python check_on_gpu.py                                    on the GPU host, in the kit
    vit-export attach exports/m2-tensorrt-fp16 device-report.json

    DIR/kit has to stay as it is until the report is attached: the report is bound to it.
    """  # noqa: D301 - click wants the character itself
    from export.device_kit.content import KIT_JSON
    from export.device_kit.folder import open_for_kit
    from export.device_kit.formats import FORMS
    from export.device_kit.kit import DATA, KIT, carry, write_kit

    where = FORMS[open_for_kit(folder).artifact.format].where
    if not (folder / KIT / DATA / KIT_JSON).is_file():
        write_kit(folder)
    place = carry(folder, out) if out is not None else folder / KIT
    click.echo(f"{place}: README.md there says how to run it on {where}")


@click.command(cls=Command)
@click.argument("folder", metavar="DIR", type=PATH)
@click.argument("report", metavar="REPORT", type=PATH)
@JSON
def attach(folder: Path, report: Path, as_json: bool) -> None:
    """Judge a device's REPORT and add it to the manifest of DIR.

    Every verdict is found again here, from the raw outputs in REPORT and the float64 reference in DIR/evidence. A
    report about another artifact or another kit, or one whose claims its own outputs do not bear out, is refused, and
    nothing is written.

    \b
    Exit codes
      0    every unit in the report passed
      1    a unit rejected the artifact or crashed on it (this is recorded), or the report was refused
      2    no device report, or no folder of an export
    """  # noqa: D301 - click wants the character itself
    from export.cli import console
    from export.device_kit.attach import attach as fold_in

    attached = fold_in(folder, report)
    if as_json:
        found = {
            "folder": str(folder),
            "report": str(attached.report),
            "again": attached.again,
            "exit_code": int(attached.code),
            "devices": attached.entries,
        }
        console.print_json(found)
    else:
        _show(attached)
    sys.exit(int(attached.code))


def _show(attached: "Attachment") -> None:
    device = attached.entries[0].device
    click.echo(f"{device.model}, {device.os} {device.os_build or ''}".rstrip())
    for entry in attached.entries:
        click.echo(f"  {entry.unit:<12} {entry.status:<9} {_worst(entry)}  {_latency(entry.timing)}")
        if entry.reason:
            click.echo(f"  {'':<12} {entry.reason}")
        if (engine := entry.engine) is not None:
            timed = f", timed by {engine.launch} launches" if engine.launch else ""
            click.echo(f"  {'':<12} {engine.origin} engine, {engine.product} {engine.version}{timed}")
        if (found := entry.specialization) is not None:
            click.echo(f"  {'':<12} {_allowed(found)}")
        if (quality := entry.quality) is not None:
            click.echo(f"  {'':<12} RMS of all errors: {quality.error} of {quality.budget:.1e}")
        if (jpeg := entry.jpeg) is not None:
            verdict = "passed" if jpeg.passed else "REJECTED"
            click.echo(f"  {'':<12} JPEG through {jpeg.route}: {verdict}, {jpeg.error} of {jpeg.budget:.1e}")
    where = "was there already" if attached.again else "written"
    click.echo(f"{attached.folder / 'manifest.json'}: {where}; raw outputs in {attached.report}")


def _allowed(found: "SpecializationRecord") -> str:
    """What Core AI might use, in its words."""
    if found.runtime == "package":
        return "vendor evidence: coreai-core's interpreter on the CPU, no device"
    return f"{found.preferred or 'no unit'} preferred; {', '.join(found.allowed)} allowed"


def _worst(entry: "DeviceEntry") -> str:
    """The kind that is nearest to its budget, or farthest over it."""
    kinds = entry.kinds
    if not kinds:
        return "no outputs"
    if broken := [kind for kind in kinds if not math.isfinite(float(kind.worst))]:
        return f"{broken[0].kind}: {broken[0].worst}"
    ratio, kind = max((float(kind.worst) / kind.budget, kind.kind) for kind in kinds)
    return f"{ratio:.2f} x budget on {kind}"


def _latency(timing: "DeviceTimingRecord") -> str:
    if not timing.measured or isinstance(timing.batch, msgspec.UnsetType):
        return f"not timed: {timing.reason}"
    batch = f" a batch of {timing.batch}" if timing.batch > 1 else ""
    noisy = ", noisy" if timing.noisy else ""
    return f"{timing.median_ms:.3f} ms median, {timing.p90_ms:.3f} ms p90{batch}{noisy}"
