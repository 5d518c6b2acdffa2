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
    "--range image_range",
    "Values that FILE takes: normalized by mean and std, from 0 to 1, or from 0 to 255. [default: what fits best]",
    type=click.Choice(["normalized", "unit", "bytes"]),
)
@option(
    "Interface",
    "--output scores",
    "Values that FILE gives.",
    type=click.Choice(["logits", "probabilities"]),
    default="logits",
    show_default=True,
)
@weights("Checkpoint that FILE was exported from.", required=True)
@READING
@GOLDEN
@option(
    "Weights and reference",
    "--labels",
    "With --eval: the classes' names, one a line. [default: the checkpoint's, the folder's, or ImageNet's]",
    metavar="FILE",
)
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
    """  # noqa: D301 - click wants the character itself
    from efficientvit.weights.reading import Reading
    from export.cli import console, tables
    from export.commands.judge import JudgeOptions, judge_file, judged_record
    from export.commands.step_summary import of_verdict
    from export.folder.records import plain
    from export.request.evaluation import evaluation
    from runtimes.runtime import Evidence
    from validation.budgets import Budgets
    from validation.external.input_format import Range, Scores

    page = summary_to(summary, f"vit-export judge {file.name}")
    asked = options["image_range"]
    budgets = Budgets(options["quality_budget"], options["accuracy_budget"])
    how = JudgeOptions(
        image_range=Range(asked) if asked else None,
        scores=Scores(options["scores"]),
        golden=options["golden"],
        skip_bad=options["skip_bad_photos"],
        reading=Reading(ema=options["ema"], override=options["override"]),
        preprocessing={name: options[name] for name in ("mean", "std") if options[name] is not None},
        budgets=budgets,
        evaluation=evaluation(options["eval_folder"], budgets, labels=options["labels"]),
        labels=options["labels"],
    )
    with console.console() as screen:
        with console.Live(screen) as live:
            judged = judge_file(model, options["weights"], file, how, live.step)
        code = judged.code(Evidence(options["require"]))
        tables.show_judged(screen, judged, code)
    found = judged_record(judged, int(code))
    page.add(code, of_verdict(plain(found)))
    if as_json:
        console.print_json(found)
    sys.exit(int(code))
