"""`vit-export judge`: a file that another tool exported."""

import sys
from pathlib import Path
from typing import Any

import click

from export.cli.options import (
    GOLDEN,
    JSON,
    LABELED,
    NORMALIZATION,
    PATH,
    QUALITY_BUDGET,
    READING,
    SUMMARY,
    Command,
    labels,
    option,
    require,
    skip_bad,
    summary_to,
    weights,
)


@click.command(cls=Command)
@click.argument("model", metavar="MODEL")
@click.argument("file", metavar="FILE", type=PATH)
@option(
    "Interface",
    "--range",
    "Values that FILE takes: normalized by mean and std, from 0 to 1, or from 0 to 255. [default: what fits best]",
    type=click.Choice(["normalized", "unit", "bytes"]),
)
@option(
    "Interface",
    "--output",
    "Values that FILE gives.",
    type=click.Choice(["logits", "probabilities"]),
    default="logits",
    show_default=True,
)
@weights("Checkpoint that FILE was exported from.", required=True)
@READING
@GOLDEN
@labels("the checkpoint's, the folder's, or ImageNet's")
@skip_bad("--golden or --eval")
@NORMALIZATION
@QUALITY_BUDGET
@LABELED
@require("native", "vendor", "reference")
@SUMMARY
@JSON
def judge(model: str, file: Path, summary: Path | None, as_json: bool, **options: Any) -> None:
    """Judge FILE, whatever tool exported it, against the checkpoint of MODEL (m0 to m5).

    FILE is an ONNX file, an OpenVINO IR (.xml) or a Core ML package (.mlpackage). Its batch, size, layout, range of
    values and precision are recognized and printed. The gates and budgets are those of an export of ours; its program
    is proven equal to the checkpoint's, of a quantized file without its quantizers, whose cost is judged by samples and
    by --eval. What can't be asked of a stranger is said: weights that can't be traced to the checkpoint, and the
    structure of rounded weights.

    \b
    vit-export judge m2 timm.onnx -w model.safetensors
    vit-export judge m5 release.onnx -w efficientvit_m5.pth --golden photos/
    vit-export judge m0 app.onnx -w best.pth --output probabilities --range bytes
    vit-export judge m2 int8.onnx -w best.pth --eval val/

    \b
    Exit codes
      0    it gives what the checkpoint gives
      1    rejected; the layer at fault is named where it can be told
      2    a file, weights or photos that cannot be used
      3    it could not be judged here, or these weights show nothing
      4    a runtime does not open or run it
    """  # noqa: D301 - click wants the character itself
    from export import api
    from export.cli import console, tables
    from export.commands.step_summary import of_verdict

    page = summary_to(summary, f"vit-export judge {file.name}")
    with console.console() as screen:
        with console.Live(screen) as live:
            judged = api.judge(model, file, **options, progress=live)
        tables.show_judged(screen, judged)
    document = judged.to_json()
    page.add(judged.exit_code, of_verdict(document))
    if as_json:
        console.print_json(document)
    sys.exit(int(judged.exit_code))
