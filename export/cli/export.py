"""`vit-export export`, which is also what `vit-export m2` runs."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from export.cli.host import CLUSTER
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
from export.cli.target_options import Precision, options_of_targets

if TYPE_CHECKING:
    from collections.abc import Sequence

    from export.pipeline.finished import Finished


class _ExportCommand(Command):
    """Its own options, and those of every target, which are looked up when they are needed."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """The targets' before `--help`."""
        *own, shows_help = super().get_params(ctx)
        return [*own, *options_of_targets(), shows_help]


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
    "-t --target",
    lambda: f"Format to export to: {', '.join(_targets())}; several with commas. [default: onnx]",
    multiple=True,
    type=Name("target", _targets),
    metavar="NAME",
)
@IMAGE_SIZE
@option("Target", "--head", metavar="HEAD")
@option("Target", "--input", metavar="tensor|pixels|image[:HxW]")
@option("Target", "--output", metavar="logits|probabilities|topk[:K]")
@option("Target", "--batch", metavar="N|dynamic")
@option("Target", "--opset", type=int, metavar="N")
@option("Precision", "-p --precision", type=Precision())
@CALIBRATE
@option("Precision", "--reduce-range", is_flag=True)
@option("Precision", "--all-int8", is_flag=True)
@WEIGHTS
@READING
@GOLDEN
@skip_bad()
@option("Weights and reference", "--resize", type=Size(), metavar="SIZE")
@option(
    "Weights and reference",
    "--interpolation",
    type=click.Choice(["bicubic", "bilinear", "nearest", "lanczos", "box", "hamming"]),
)
@NORMALIZATION
@require("native", "vendor", "reference", "built")
@option("Gates", "--release", is_flag=True)
@QUALITY_BUDGET
@LABELED
@SPENDING
@option("Output", "-o --out", type=PATH, default=Path("exports"), metavar="DIR")
@option("Output", "--no-kit", is_flag=True)
@option("Output", "--no-time", is_flag=True)
@JOBS
@NO_CACHE
@SUMMARY
@JSON
@CLUSTER
def export(models: tuple[str, ...], as_json: bool, summary: Path | None, **options: Any) -> None:
    """Export MODEL... (m0 to m5, or all), check every stage, time what passed."""
    from export import api
    from export.cli import console
    from export.cli.summary import show_finished
    from export.commands.step_summary import of_exports

    page = summary_to(summary, f"vit-export {' '.join(models)}")
    done: list[Finished] = []
    with console.console() as screen:
        live = console.Live(screen)
        try:
            found = api.export(models, **options, command=sys.argv[1:], finished=done.append, progress=live)
        except BaseException:  # what was finished before it is there, and is shown
            live.stop()
            show_finished(screen, done)
            raise
        live.stop()
        show_finished(screen, found.artifacts)
    document = found.to_json()
    page.add(found.exit_code, of_exports(document))
    if as_json:
        console.print_json(document)
    sys.exit(int(found.exit_code))
