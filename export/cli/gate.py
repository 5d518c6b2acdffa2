"""`vit-export judge`, `diff`, `explain`, `selftest`: others' files, two releases, what a verdict rests on."""

import json
import sys
from pathlib import Path
from typing import Any

import click

_FOLDER = click.Path(path_type=Path)


@click.command()
@click.argument("folder", metavar="DIR", type=_FOLDER)
@click.option("--stage", metavar="NAME", help="`rewrite`, or the last. [default: the one that was rejected]")
@click.option(
    "-w",
    "--weights",
    metavar="SOURCE",
    help="What DIR was exported from. [default: as its manifest says; a checkpoint's file has to be named]",
)
@click.option("--layers", is_flag=True, help="List every layer, not the suspects alone.")
@click.option("--json", "as_json", is_flag=True, help="As JSON on standard output.")
def explain(folder: Path, stage: str | None, weights: str | None, layers: bool, as_json: bool) -> None:
    """Name the layer that is at fault in a rejected export, and what is wrong with it.

    The reference is computed again from the weights, the file's layers are run one by one, and what each gives is
    looked for in the model. The first that gives what the model has nowhere, on what the model has, is to blame; with
    it, the error against what rounding alone would do, and the likely cause where the values tell it.

    \b
    vit-export explain exports/m2-coreml-fp16.rejected
    vit-export explain exports/m2-onnx-fp32 --layers       every layer's error, of a healthy export too
    vit-export explain exports/m2-onnx-fp32.rejected -w best.pth

    \b
    Exit codes
      0    nothing is over its budget
      1    the stage is rejected; the suspects are listed
      2    no folder of an export, or no weights to compare with
    """  # noqa: D301 - click wants the character itself
    from export.cli import console, tables
    from export.commands.explain import explain as look_into
    from export.folder.records import BlameRecord, LayerRecord, gates_of, plain

    with console.console() as screen:
        with console.Live(screen) as live:
            explanation = look_into(folder, stage, weights, live.step)
        tables.show_explanation(screen, folder, explanation, layers=layers)
    if as_json:
        found = {
            "folder": str(folder),
            "rejected": explanation.rejected,
            "gates": gates_of(explanation.gates),
            "blame": BlameRecord.of(explanation.stage, explanation.blame),
            "layers": [LayerRecord.of(layer) for layer in explanation.blame.layers],
        }
        click.echo(json.dumps(plain(found), indent=2, allow_nan=False))
    sys.exit(1 if explanation.rejected else 0)


@click.command()
@click.argument("model", metavar="MODEL")
@click.argument("file", metavar="FILE", type=_FOLDER)
@click.option("-w", "--weights", required=True, metavar="SOURCE", help="The checkpoint that FILE was exported from.")
@click.option(
    "--range",
    "image_range",
    type=click.Choice(["normalized", "unit", "bytes"]),
    help="What FILE takes: images normalized by mean and std, or 0 to 1, or 0 to 255. [default: what fits best]",
)
@click.option(
    "--output",
    "scores",
    type=click.Choice(["logits", "probabilities"]),
    default="logits",
    show_default=True,
    help="What FILE gives.",
)
@click.option("--golden", type=_FOLDER, metavar="DIR", help="Photos to judge on, beside the synthetic images.")
@click.option("--mean", type=float, nargs=3, metavar="R G B", help="Of the normalization. [default: ImageNet's]")
@click.option("--std", type=float, nargs=3, metavar="R G B", help="Of the normalization. [default: ImageNet's]")
@click.option(
    "--require",
    type=click.Choice(["native", "reference"]),
    default="reference",
    show_default=True,
    help="The evidence that exit 0 needs.",
)
@click.option("--json", "as_json", is_flag=True, help="As JSON on standard output.")
def judge(model: str, file: Path, as_json: bool, **options: Any) -> None:
    """Judge FILE, whatever tool exported it, against the checkpoint of MODEL (m0 to m5).

    FILE is an ONNX file, an OpenVINO IR (.xml) or a Core ML package (.mlpackage). Its batch, size, layout, range of
    values and precision are recognized and printed. The gates and budgets are those of an export of ours. What can't be
    asked of a stranger is said: weights that can't be traced to the checkpoint, and the structure of rounded weights.

    \b
    vit-export judge m2 timm.onnx -w model.safetensors
    vit-export judge m5 release.onnx -w efficientvit_m5.pth --golden photos/
    vit-export judge m0 app.onnx -w best.pth --output probabilities --range bytes

    \b
    Exit codes
      0    it gives what the checkpoint gives
      1    rejected; the layer at fault is named where it can be told
      2    a file, weights or photos that cannot be used
      3    it could not be judged here, or these weights show nothing
    """  # noqa: D301 - click wants the character itself
    from export.cli import console, tables
    from export.commands.judge import judge_file, judged_record
    from runtimes.runtime import Evidence
    from validation.external.judge import Range, Scores

    asked = options["image_range"]
    with console.console() as screen:
        with console.Live(screen) as live:
            judged = judge_file(
                model,
                options["weights"],
                file,
                image_range=Range(asked) if asked else None,
                scores=Scores(options["scores"]),
                golden=options["golden"],
                preprocessing={name: options[name] for name in ("mean", "std") if options[name] is not None},
                step=live.step,
            )
        code = judged.code(Evidence(options["require"]))
        tables.show_judged(screen, judged, code)
    if as_json:
        click.echo(json.dumps(judged_record(judged, int(code)), indent=2, allow_nan=False))
    sys.exit(int(code))


@click.command()
@click.argument("model", metavar="[MODEL]", default="m0")
@click.option(
    "-w",
    "--weights",
    default="auto",
    show_default=True,
    metavar="SOURCE",
    help="As for an export: auto, pretrained, seeded, seeded:N, or a file.",
)
@click.option("--image-size", type=int, metavar="N", help="Side in pixels. [default: the weights' own]")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the places and sizes of the faults.")
@click.option("--full", is_flag=True, help="Also in Core ML packages with compressed weights.")
@click.option("--json", "as_json", is_flag=True, help="As JSON on standard output.")
def selftest(model: str, weights: str, as_json: bool, **options: Any) -> None:
    """Plant faults in artifacts of MODEL (m0 to m5; default m0), and see which gate catches them.

    More than a hundred, of the kinds that exports really have: a stale attention bias, a flipped kernel, a softmax over
    the wrong axis, a bit of a weight, labels that changed places, a photo that was resized bilinearly. Each is planted
    alone, in an artifact that was made from your weights and passed before. What is printed is what a pass of those
    gates is worth on these weights.

    \b
    vit-export selftest m2 -w best.pth
    vit-export selftest m0 -w seeded --image-size 128     the quickest look
    vit-export selftest m2 -w best.pth --seed 1           other places, other sizes

    \b
    Exit codes
      0    every fault was caught, and nothing healthy was rejected
      1    a fault that shows in the logits was missed, or a healthy artifact was rejected
      2    weights that cannot be used
      3    these weights show too little: parity on them would be vacuous
    """  # noqa: D301 - click wants the character itself
    from export.cli import console, tables
    from export.selftest.record import selftest_record
    from export.selftest.run import selftest as plant_all

    with console.console() as screen:
        with console.Live(screen) as live:
            found = plant_all(model, weights, step=live.step, **options)
        tables.show_selftest(screen, found)
    if as_json:
        click.echo(json.dumps(selftest_record(found), indent=2, allow_nan=False))
    sys.exit(int(found.code))


@click.command()
@click.argument("old", metavar="OLD", type=_FOLDER)
@click.argument("new", metavar="NEW", type=_FOLDER)
@click.option(
    "--fail-on",
    default="parity",
    show_default=True,
    metavar="KINDS",
    help="Exit 1 on these: parity, agreement, accuracy:N%, precision, latency:N%, size:N%, operators:N%, interface, "
    "weights, tools.",
)
@click.option("--no-time", is_flag=True, help="Compare all but latency.")
@click.option("--json", "as_json", is_flag=True, help="As JSON on standard output.")
def diff(old: Path, new: Path, fail_on: str, no_time: bool, as_json: bool) -> None:
    """Compare two exported folders: OLD, what ships now, and NEW, what would.

    Both are judged again; both answer the same images, and may differ by no more than what their budgets allow; both
    are timed in turns, in rounds of fresh sessions, and a difference counts only where the noise of this host leaves no
    room for none. Where not both can be run here, the samples that the exports recorded are compared.

    \b
    vit-export diff released/m2-onnx-fp32 exports/m2-onnx-fp32
    vit-export diff OLD NEW --fail-on parity,agreement,latency:5%,size:2%     in CI

    \b
    Exit codes
      0    nothing that --fail-on names got worse than it allows
      1    something did; or a folder holds nothing that may ship
      2    no folder of an export, or an unknown kind
    """  # noqa: D301 - click wants the character itself
    from export.cli import console, tables
    from export.commands.diff import diff as compare
    from export.commands.diff import diff_record
    from export.commands.fail_on import parse_fail_on

    limits = parse_fail_on(fail_on)
    with console.console() as screen:
        with console.Live(screen) as live:
            found = compare(old, new, time=not no_time, step=live.step)
        failures = found.failures(limits)
        tables.show_diff(screen, found, failures)
    code = 1 if failures else 0
    if as_json:
        click.echo(json.dumps(diff_record(found, failures, code), indent=2, allow_nan=False))
    sys.exit(code)
