"""`vit-export explain`: which layer of a rejected artifact is at fault."""

import sys
from pathlib import Path

import click

from export.cli.options import JSON, PATH, Command, option, weights


@click.command(cls=Command)
@click.argument("folder", metavar="DIR", type=PATH)
@option("Other", "--stage", "`rewrite`, or the last stage. [default: the one that was rejected]", metavar="NAME")
@weights("Checkpoint that DIR was exported from. [default: as its manifest says; a file has to be named]")
@option("Output", "--layers", "List every layer, and not the suspects alone.", is_flag=True)
@JSON
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
    from export import api
    from export.cli import console, tables

    with console.console() as screen:
        with console.Live(screen) as live:
            found = api.explain(folder, stage=stage, weights=weights, progress=live)
        tables.show_explanation(screen, found, layers=layers)
    if as_json:
        console.print_json(found.to_json())
    sys.exit(int(found.exit_code))
