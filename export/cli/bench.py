"""`vit-export bench`: how fast, of what is right."""

import sys
from pathlib import Path
from typing import Any

import click

from export.cli.options import (
    CALIBRATE,
    IMAGE_SIZE,
    JOBS,
    JSON,
    NO_CACHE,
    PATH,
    QUALITY_BUDGET,
    READING,
    WEIGHTS,
    Command,
    option,
    skip_bad,
)
from export.cli.target_options import Precision

_PAPERS_ROUNDS = 3  # two hundred artifacts: each round takes minutes


@click.command(cls=Command)
@click.argument("models", nargs=-1, metavar="MODEL...")
@option(
    "Target",
    "-t --target targets",
    "onnx or openvino; several with commas. [default: both that are installed]",
    multiple=True,
    metavar="NAME",
)
@IMAGE_SIZE
@option(
    "Target",
    "--batch batches",
    "Batch size, in images; several with commas. [default: 1; with --paper 1 and 16]",
    multiple=True,
    type=click.IntRange(1),
    metavar="N",
)
@option(
    "Precision",
    "-p --precision precisions",
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
    "All models, --stock and --pytorch, against what the paper compares them with, at batch 1 and 16; int8 on the "
    "golden images unless --calibrate names photos.",
    is_flag=True,
)
@option(
    "Output",
    "-o --out",
    "Folder for the page, the record and the artifacts.",
    type=PATH,
    default=Path("bench"),
    show_default=True,
    metavar="DIR",
)
@JOBS
@NO_CACHE
@JSON
def bench(models: tuple[str, ...], as_json: bool, out: Path, **options: Any) -> None:
    """Time MODEL... in every precision, runtime and batch asked for, side by side, on this host.

    Each artifact is made and has to pass its gates first; what does not is named, and not timed. Then all are timed in
    one run, in turns, in rounds of fresh sessions. DIR gets bench.html, the page to read, bench.json with every sample,
    bench.csv, bench.md and the artifacts. PyTorch compiles once, before anything is timed. What one core multiplies is
    measured just before and after; each row has its share of it.

    \b
    vit-export bench m2 -w best.pth --calibrate photos/
    vit-export bench m0 m5 -t onnx --batch 1 --batch 16 --stock     against timm's own export
    vit-export bench m2 -w best.pth --calibrate photos/ --peers     against other tools
    vit-export bench m2 --pytorch --batch 16                        against PyTorch
    vit-export bench --paper -w seeded                              the paper's comparison, minutes

    \b
    Exit codes
      0    all of ours that was asked for passed and was timed
      1    something of ours was rejected
      2    usage, or input that cannot be used
      3    something of ours could not be verified on this host
    """  # noqa: D301 - click wants the character itself
    from export.bench.files import write_bench
    from export.bench.record import bench_record
    from export.bench.request import TIMED, BenchRequest
    from export.bench.run import bench as compare
    from export.cache.store import default_cache
    from export.cli import console, tables
    from export.targets.registry import TARGETS
    from runtimes.registry import native_runtime
    from validation.budgets import Budgets
    from validation.timing.interleaved import ROUNDS

    installed = tuple(name for name in TIMED if native_runtime(TARGETS[name].format).unavailable() is None)
    if not models and not options["paper"]:
        raise click.UsageError("name one or more of m0 to m5, or all, or ask for --paper")
    request = BenchRequest(
        models=models or ("all",),
        targets=options["targets"] or installed,
        precisions=options["precisions"],
        batches=options["batches"] or ((1, 16) if options["paper"] else (1,)),
        threads=options["threads"] or (1,),
        weights=options["weights"],
        ema=options["ema"],
        override=options["override"],
        image_size=options["image_size"],
        calibrate=options["calibrate"],
        skip_bad_photos=options["skip_bad_photos"],
        budgets=Budgets(quality=options["quality_budget"]),
        stock=options["stock"] or options["paper"],
        peers=options["peers"],
        pytorch=options["pytorch"] or options["paper"],
        paper=options["paper"],
        rounds=options["rounds"] or (_PAPERS_ROUNDS if options["paper"] else ROUNDS),
        out=out,
    )
    with console.console() as screen:
        with console.Live(screen) as live:
            cache = None if options["no_cache"] else default_cache()
            found = compare(request, live, cache, options["at_once"])
        tables.show_bench(screen, found)
        record = bench_record(found, tuple(sys.argv[1:]))
        write_bench(out, found, record)
        screen.print(f"{out}/bench.html, bench.json, bench.csv, bench.md", style="dim")
    if as_json:
        console.print_json(record)
    sys.exit(found.code)
