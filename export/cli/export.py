"""`vit-export export`, which is also what `vit-export m2` runs."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from export.cli.host import CLUSTER, cluster_of
from export.cli.options import (
    CALIBRATE,
    EXIT_CODES,
    GOLDEN,
    IMAGE_SIZE,
    JOBS,
    JSON,
    LABELED,
    MODEL,
    NO_CACHE,
    NORMALIZATION,
    PATH,
    QUALITY_BUDGET,
    READING,
    SPENDING,
    SUMMARY,
    WEIGHTS,
    Command,
    Name,
    Size,
    option,
    require,
    skip_bad,
    summary_to,
)
from export.cli.target_options import Precision, options_of_targets, taken

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from export.commands.step_summary import Summary
    from export.pipeline.finished import Finished
    from export.request.request import Request

    _Make = Callable[..., Iterator[Finished]]


class _ExportCommand(Command):
    """Its own options, and those of every target, which are looked up when they are needed."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """The targets' before `--help`."""
        *own, shows_help = super().get_params(ctx)
        return [*own, *options_of_targets(own), shows_help]


def _targets() -> "Sequence[str]":
    from export.targets.registry import TARGETS

    return (*TARGETS, "all")


@click.command(
    name="export",
    cls=_ExportCommand,
    epilog=EXIT_CODES,
    short_help="Export models, check every stage, time what passed.",
)
@click.argument("models", nargs=-1, required=True, metavar="MODEL...", type=MODEL)
@option(
    "Target",
    "-t --target targets",
    lambda: f"Format to export to: {', '.join(_targets())}; several with commas. [default: onnx]",
    multiple=True,
    type=Name("target", _targets),
    metavar="NAME",
)
@IMAGE_SIZE
@option(
    "Target",
    "--head",
    "What the model gives: logits; features, the maps of stages 1 to 3 (strides 16, 32, 64) that a detector takes, or "
    "features:2,3 for some; embedding, stage 3's map averaged over the grid, before the classifier's normalization. "
    "none is the same as embedding, as in timm (num_classes=0).",
    default="logits",
    show_default=True,
    metavar="HEAD",
)
@option(
    "Target",
    "--input",
    "What the artifact takes: tensor, normalized float32; pixels, 8-bit RGB (batch, height, width, 3) of the network's "
    "size, which it normalizes; image, photos of any size, which it also resizes and crops as Pillow does, or "
    "image:HxW of a stated size. A Core ML package takes tensor or pixels, and image is the same as pixels there. "
    "[default: pixels for Core ML, else tensor]",
    metavar="tensor|pixels|image[:HxW]",
)
@option(
    "Target",
    "--output",
    "What it gives in addition to the logits: probabilities, or topk[:K], scores and numbers of the K best classes. "
    "[default: logits; a Core ML package with labels gives label and probabilities]",
    default="logits",
    metavar="logits|probabilities|topk[:K]",
)
@option("Target", "--batch", "Batch size, in images.", default="1", show_default=True, metavar="N|dynamic")
@option(
    "Target",
    "--opset",
    "ONNX opset, 11 to 23, from 13 on with int8; older Jetsons and boards need 11 to 17. [default: 18, which most "
    "runtimes read]",
    type=int,
    metavar="N",
)
@option("Precision", "-p --precision", "Numeric format. [default: each target's first]", type=Precision())
@CALIBRATE
@option(
    "Precision",
    "--reduce-range",
    "With -t onnx -p int8: weights in 7 bits, for x86 CPUs without VNNI, where sums of 8-bit products saturate. "
    "`vit-export doctor` says whether this host needs it.",
    is_flag=True,
)
@option(
    "Precision",
    "--all-int8",
    "With -t onnx -p int8: reject a file over its budget. [default: leave the costliest layers in float32]",
    is_flag=True,
)
@WEIGHTS
@READING
@GOLDEN
@skip_bad("--golden, --calibrate and --eval")
@option(
    "Weights and reference",
    "--resize",
    "What a photo is resized to before the center crop, in pixels: N for the short side, or HxW to cover. "
    "[default: 256/224 of the image size]",
    type=Size(),
    metavar="SIZE",
)
@option(
    "Weights and reference",
    "--interpolation",
    "Interpolation filter for resizing. [default: what the checkpoint says, else bicubic]",
    type=click.Choice(["bicubic", "bilinear", "nearest", "lanczos", "box", "hamming"]),
)
@NORMALIZATION
@require("native", "vendor", "reference", "built")
@option("Gates", "--release", "Require trained weights, photos in --golden, and native evidence.", is_flag=True)
@QUALITY_BUDGET
@LABELED
@SPENDING
@option(
    "Output",
    "-o --out",
    "Folder that gets one folder for each artifact.",
    type=PATH,
    default=Path("exports"),
    show_default=True,
    metavar="DIR",
)
@option("Output", "--no-kit", "Leave out the kit that checks the artifact on its device.", is_flag=True)
@option("Output", "--no-time", "Check, but do not measure latency.", is_flag=True)
@JOBS
@NO_CACHE
@SUMMARY
@JSON
@CLUSTER
def export(models: tuple[str, ...], as_json: bool, summary: Path | None, **options: Any) -> None:
    """Export MODEL... (m0 to m5, or all), check every stage, time what passed."""
    from functools import partial

    from efficientvit.errors import BadOption
    from export.pipeline import schedule

    page = summary_to(summary, f"vit-export {' '.join(models)}")
    cached, at_once = not options.pop("no_cache"), options.pop("at_once")
    cluster, wait_s = cluster_of(options)
    if cluster is not None and at_once is not None:
        raise BadOption(
            "--jobs is for processes of this host, and --cluster has workers",
            expected="one of the two",
            got=f"--jobs {at_once} --cluster {cluster}",
            next_step="leave --jobs out; local:N says how many workers there are on this host",
        )
    make: _Make = partial(schedule.export, at_once=at_once)
    if cluster is not None:
        from export.cluster import client

        make = partial(client.export, cluster=cluster, wait_s=wait_s)
    sys.exit(_export(request_of(models, options), page, make, as_json=as_json, cached=cached))


def request_of(models: tuple[str, ...], options: dict[str, Any]) -> "Request":
    """What the options ask for.

    Raises:
        BadInput: options that cannot be used.
    """
    from efficientvit.head import Head
    from export.request.evaluation import evaluation
    from export.request.request import Request, parse_batch
    from export.targets.int8_options import Int8Options
    from export.targets.onnx.opsets import DEFAULT_OPSET
    from runtimes.runtime import Evidence
    from runtimes.wrapping import Answers, Feed
    from validation.budgets import Budgets

    budgets = Budgets(
        options["quality_budget"],
        options["accuracy_budget"],
        latency_ms=options["latency_budget"],
        load_ms=options["load_budget"],
        memory_mb=options["memory_budget"],
        size_mb=options["size_budget"],
    )
    fields = ("resize", "interpolation", "mean", "std")
    same = (
        "precision",
        "weights",
        "ema",
        "override",
        "image_size",
        "golden",
        "skip_bad_photos",
        "out",
        "release",
        "calibrate",
    )
    return Request(
        models=models,
        targets=options["targets"] or ("onnx",),
        batch=parse_batch(options["batch"]),
        opset=DEFAULT_OPSET if options["opset"] is None else options["opset"],
        head=Head.parse(options["head"]),
        feed=None if options["input"] is None else Feed.parse(options["input"]),
        answers=Answers.parse(options["output"]),
        preprocessing={name: options[name] for name in fields if options[name] is not None},
        require=Evidence(options["require"]),
        time=not options["no_time"],
        options=taken(options),
        budgets=budgets,
        kit=not options["no_kit"],
        evaluation=evaluation(options["eval_folder"], budgets),
        int8=Int8Options(reduce_range=options["reduce_range"], all_int8=options["all_int8"]),
        **{name: options[name] for name in same},
    )


def _export(request: "Request", page: "Summary", make: "_Make", *, as_json: bool, cached: bool) -> int:
    import json

    from efficientvit.errors import StageFailed
    from export.cache.store import default_cache
    from export.cli import console, summary
    from export.commands.step_summary import of_exports
    from export.exits import Exit, worst

    jobs = request.jobs()  # refuse what cannot be done before anything heavy is imported
    done: list[Finished] = []
    with console.console() as screen:
        live = console.Live(screen)
        cache = default_cache() if cached else None
        try:
            done.extend(make(request, live, tuple(sys.argv[1:]), cache=cache))
        finally:  # also after an error: what was finished before it is there, and is shown
            live.stop()
            done.sort(key=lambda each: jobs.index(each.job))
            summary.show_finished(screen, done)
    if len(done) != len(jobs):
        raise StageFailed("not every artifact was accounted for", expected=f"{len(jobs)}", got=f"{len(done)}")
    code = worst(Exit(each.code) for each in done)
    artifacts = [{"folder": str(each.folder), "checked_before": each.before, **each.manifest} for each in done]
    document = {"exit_code": int(code), "artifacts": artifacts}
    page.add(code, of_exports(document))
    if as_json:
        click.echo(json.dumps(document, indent=2))
    return int(code)
