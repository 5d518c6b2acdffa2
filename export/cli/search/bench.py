"""`vit-export bench`: how fast, of what is right."""

import sys
from typing import TYPE_CHECKING, Any

import click

from export.cli.host import CLUSTER
from export.cli.options import (
    CALIBRATE,
    IMAGE_SIZE,
    JOBS,
    JSON,
    NO_CACHE,
    QUALITY_BUDGET,
    READING,
    WEIGHTS,
    Command,
    option,
    out,
    skip_bad,
)
from export.cli.target_options import Precision

if TYPE_CHECKING:
    from rich.console import Console

    from export.bench.run import Bench


@click.command(cls=Command)
@click.argument("models", nargs=-1, metavar="MODEL...")
@option(
    "Target",
    "-t --target",
    "onnx or openvino; several with commas. [default: both that are installed]",
    multiple=True,
    metavar="NAME",
)
@IMAGE_SIZE
@option(
    "Target",
    "--batch",
    "Batch size, in images; several with commas. [default: 1; with --paper 1 and 16]",
    multiple=True,
    type=click.IntRange(1),
    metavar="N",
)
@option(
    "Precision",
    "-p --precision",
    "Several with commas. [default: all that a target has; int8 with --calibrate or --paper]",
    multiple=True,
    type=Precision(),
)
@CALIBRATE
@skip_bad("--calibrate")
@WEIGHTS
@READING
@QUALITY_BUDGET
@option(
    "Timing",
    "--threads",
    "Threads of the runtime; several with commas. [default: 1]",
    multiple=True,
    type=click.IntRange(1),
    metavar="N",
)
@option(
    "Timing",
    "--rounds",
    "Rounds of fresh sessions; more is steadier. [default: 7; with --paper 3]",
    type=click.IntRange(1),
    metavar="N",
)
@option(
    "Timing",
    "--streams",
    "Also measure images/s with so many streams at once, each on one thread; several with commas. [default: none]",
    multiple=True,
    type=click.IntRange(1),
    metavar="N",
)
@option("Baselines", "--stock", "Time timm's own model exported by torch.onnx.export, and compare.", is_flag=True)
@option(
    "Baselines",
    "--peers",
    "Time what other tools make of the same weights and photos, each judged as by `vit-export judge`: ONNX Runtime's "
    "quantize_static, NNCF's presets (extra `peers`), OpenVINO's conversion of timm's export. Implies --stock.",
    is_flag=True,
)
@option("Baselines", "--pytorch", "Time timm's own model in PyTorch, eagerly and by torch.compile.", is_flag=True)
@option(
    "Baselines",
    "--paper",
    "All models, --stock and --pytorch, against what the paper compares them with, at batch 1 and 16 and the paper's "
    "image size; int8 on the golden images unless --calibrate names photos.",
    is_flag=True,
)
@out("Folder for the page, the record and the artifacts.", "bench")
@JOBS
@NO_CACHE
@JSON
@CLUSTER
def bench(models: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Time MODEL... in every precision, runtime and batch asked for, side by side, on one host.

    Each artifact is made and has to pass its gates first; what does not is named, and not timed. Then all are timed in
    one run, in turns, in rounds of fresh sessions. DIR gets bench.html, the page to read, bench.json with every sample,
    bench.csv, bench.md and the artifacts. PyTorch compiles once, before anything is timed. What one core multiplies is
    measured just before and after; each row has its share of it. With --cluster one worker does all of it, alone on its
    host while it measures, and the record has that host.

    \b
    vit-export bench m2 -w best.pth --calibrate photos/
    vit-export bench m0 m5 -t onnx --batch 1 --batch 16 --stock     against timm's own export
    vit-export bench m2 -w best.pth --calibrate photos/ --peers     against other tools
    vit-export bench m2 --pytorch --batch 16                        against PyTorch
    vit-export bench --paper -w seeded                              the paper's comparison, minutes
    vit-export bench m2 --cluster tcp://scheduler:8786              on a worker's host

    \b
    Exit codes
      0    all of ours that was asked for passed and was timed
      1    something of ours was rejected
      2    usage, or input that cannot be used
      3    something of ours could not be verified there, or no worker can time it
    """  # noqa: D301 - click wants the character itself
    from export import api
    from export.cli import console

    with console.console() as screen:
        with console.Live(screen) as live:
            found = api.bench(models, **options, command=sys.argv[1:], progress=live)
        _show(screen, found)
        screen.print(f"measured on {found.host.cpu} ({found.host.isa}), {found.host.os}", style="dim", highlight=False)
        screen.print(f"{found.folder}/bench.html, bench.json, bench.csv, bench.md", style="dim")
    if as_json:
        console.print_json(found.to_json())
    sys.exit(int(found.exit_code))


def _show(screen: "Console", found: "Bench") -> None:
    """What was timed, the fastest of a model and a batch first, and what was not."""
    from rich.text import Text

    from export.bench.claims import compared
    from export.cli.tables import plain_table

    numbers = ("batch", "threads", "ms", "±", "images/s", "x", "limit", "MB", "load", "memory", "error")
    table = plain_table("model", "target", "precision", *numbers, "", right=numbers)
    ordered = sorted(found.rows, key=lambda row: (row.model, row.batch, row.threads, row.timing.median_ms))
    for before, row in zip((None, *ordered), ordered, strict=False):
        if before is not None and (before.model, before.batch, before.threads) != (row.model, row.batch, row.threads):
            table.add_row()
        speedup, share = found.speedup(row), found.limit_share(row)
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
            "" if share is None else f"{share:.0%}",
            f"{row.verified.artifact.size_bytes / 1e6:.1f}",
            *("" if each is None else f"{each:.0f}" for each in (row.spent.load_ms, row.spent.memory_mb)),
            f"{row.gate.worst:.1e}",
            "noisy timing" if row.timing.noisy else "",
        )
    screen.print(table)
    _show_streams(screen, found)
    for limit in found.limits.values():
        text = f"one core multiplied {limit.operations_per_s / 1e9:.0f} Gop/s in {limit.arithmetic} ({limit.library})"
        screen.print(Text(text, "dim"), soft_wrap=True)
    for each in compared(found):
        paper = "" if each.claim.paper is None else f" (the paper: {each.claim.paper}; {each.verdict})"
        names = (f"{row.model} {row.precision}" for row in (each.first, each.second))
        text = f"{each.claim.target}, batch {each.first.batch}: {' over '.join(names)}: {each.ratio:.2f} x{paper}"
        screen.print(Text(text, "bold"), soft_wrap=True)
    if found.untrained:
        text = f"random weights in {', '.join(found.untrained)}: latency does not depend on them"
        screen.print(Text(text, "yellow"), soft_wrap=True)
    for note in found.notes:
        screen.print(Text(f"  {note}", "yellow"), soft_wrap=True)


def _show_streams(screen: "Console", found: "Bench") -> None:
    """Images a second with several streams."""
    from rich.text import Text

    for row in found.rows:
        if row.throughputs:
            said = ", ".join(f"{each.streams} streams {each.images_per_s:.0f}" for each in row.throughputs)
            name = f"{row.model} {row.target} {row.precision}, batch {row.batch}"
            screen.print(Text(f"{name}: images/s with {said}"), soft_wrap=True)
