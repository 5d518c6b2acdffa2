"""`vit-export tune`: the fastest form of a model within a loss of accuracy."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from export.cli.options import (
    CALIBRATE,
    GOLDEN,
    IMAGE_SIZE,
    JOBS,
    JSON,
    MODEL,
    NO_CACHE,
    NORMALIZATION,
    PATH,
    READING,
    WEIGHTS,
    Command,
    Name,
    option,
    skip_bad,
)
from export.cli.target_options import Precision

if TYPE_CHECKING:
    from rich.console import Console


def _targets() -> tuple[str, ...]:
    from export.targets.registry import TARGETS

    return (*TARGETS, "all")


@click.command(cls=Command)
@click.argument("model", metavar="MODEL", type=MODEL)
@option(
    "Target",
    "-t --target targets",
    "Targets to search; several with commas, or all. [default: onnx and openvino, as installed]",
    multiple=True,
    type=Name("target", _targets),
    metavar="NAME",
)
@IMAGE_SIZE
@option(
    "Target", "--batch", "Batch size, in images.", type=click.IntRange(1), default=1, show_default=True, metavar="N"
)
@option(
    "Precision",
    "-p --precision precisions",
    "Search only these; several with commas. [default: all; int8 with --calibrate]",
    multiple=True,
    type=Precision(),
)
@CALIBRATE
@skip_bad("--calibrate, --golden or --eval")
@WEIGHTS
@READING
@GOLDEN
@NORMALIZATION
@option(
    "Gates",
    "--eval eval_folder",
    "Folder of labeled images, one sub-folder for each class, named by index or label: accuracy is measured on them.",
    type=PATH,
    required=True,
    metavar="DIR",
)
@option(
    "Gates",
    "--labels",
    "The classes' names, one a line. [default: the checkpoint's, the folder's, or ImageNet's]",
    metavar="FILE",
)
@option(
    "Gates",
    "--budget",
    "Top-1 accuracy that may be lost, in percentage points.",
    type=float,
    default=0.5,
    show_default=True,
    metavar="POINTS",
)
@option(
    "Timing", "--threads", "Threads of the runtime.", type=click.IntRange(1), default=1, show_default=True, metavar="N"
)
@option(
    "Timing",
    "--rounds",
    "Rounds of fresh sessions; more is steadier. [default: 7]",
    type=click.IntRange(1),
    metavar="N",
)
@option(
    "Timing",
    "--time-limit",
    "Minutes after which nothing more is made; what was made is still timed. [default: none]",
    type=click.FloatRange(0, min_open=True),
    metavar="MIN",
)
@option(
    "Output",
    "-o --out",
    "Folder for the page, the record and the exports.",
    type=PATH,
    default=Path("tuned"),
    show_default=True,
    metavar="DIR",
)
@JOBS
@NO_CACHE
@JSON
def tune(model: str, as_json: bool, out: Path, **options: Any) -> None:
    """Find the fastest form of MODEL (m0 to m5) that loses at most --budget of its accuracy, on this host.

    Precisions, weight formats and layers left in floats are exported and judged like any export. What passes is timed
    in one run, in turns. DIR gets tune.html, tune.json, and front/ with the exports that no other beats in latency,
    size and accuracy together. What cannot be timed here is ranked by size and accuracy. A search that was ended goes
    on from the cache.

    \b
    vit-export tune m2 -w best.pth --calibrate photos/ --eval val/
    vit-export tune m2 -w best.pth --calibrate photos/ --eval val/ --budget 1 -t onnx,openvino,coreml
    vit-export tune m5 -w best.pth --calibrate photos/ --eval val/ --time-limit 20

    \b
    Exit codes
      0    every target has a form within the budget
      1    a target has none: everything tried was rejected or loses more
      2    usage, or input that cannot be used
      3    a target has none that was checked here, or the weights are an untrained fallback
      4    everything of a target failed
    """  # noqa: D301 - click wants the character itself
    from export.cache.store import default_cache
    from export.cli import console
    from export.request.evaluation import Evaluation
    from export.tuning.files import write_tuned
    from export.tuning.record import TuneRecord
    from export.tuning.request import TuneRequest
    from export.tuning.run import tune as search
    from validation.timing.interleaved import ROUNDS

    same = ("budget", "precisions", "calibrate", "weights", "ema", "override", "image_size", "batch", "golden",
            "skip_bad_photos", "labels", "threads")  # fmt: skip
    minutes = options["time_limit"]
    request = TuneRequest(
        model=model,
        targets=_asked(options["targets"]),
        evaluation=Evaluation(options["eval_folder"]),
        preprocessing={name: options[name] for name in ("mean", "std") if options[name] is not None},
        rounds=options["rounds"] or ROUNDS,
        time_limit_s=None if minutes is None else 60 * minutes,
        out=out,
        **{name: options[name] for name in same},
    )
    with console.console() as screen:
        with console.Live(screen) as live:
            cache = None if options["no_cache"] else default_cache()
            command = tuple(sys.argv[1:])
            found = search(request, live, command, cache=cache, at_once=options["at_once"])
        record = TuneRecord.of(found, command).to_json()
        write_tuned(out, record)
        _show(screen, record)
        screen.print(f"{out}/tune.html, tune.json", style="dim")
    if as_json:
        console.print_json(record)
    sys.exit(int(found.code))


def _asked(targets: tuple[str, ...]) -> tuple[str, ...]:
    """Each once, `all` spelled out; by default those of which every host has the runtime, as far as installed."""
    from export.targets.registry import TARGETS
    from runtimes.registry import native_runtime

    if not targets:
        return tuple(
            name for name in ("onnx", "openvino") if native_runtime(TARGETS[name].format).unavailable() is None
        )
    return tuple(dict.fromkeys(each for name in targets for each in (TARGETS if name == "all" else (name,))))


def _show(screen: "Console", record: Mapping[str, Any]) -> None:
    """What passed, the fastest first; what was rejected or not tried, and why; the choice."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("candidate", "ms", "±", "MB", "lost", "error", "front", ""):
        table.add_column(heading, justify="left" if heading in ("candidate", "front", "") else "right")
    untimed: dict[str, str] = {}
    for each in record["candidates"]:
        if each["status"] not in ("verified", "built"):
            continue
        latency, drop, chosen = each["latency"], each["drop_points"], each["name"] == record["chosen"]
        if each["untimed"] is not None:
            untimed[each["target"]] = each["untimed"]
        note = "fastest within the budget" if chosen else f"best of {each['target']}" if each["best"] else ""
        table.add_row(
            each["name"],
            *(("-", "") if latency is None else (f"{latency['median_ms']:.2f}", f"{latency['iqr_ms']:.2f}")),
            f"{each['bytes'] / 1e6:.2f}",
            "-" if drop is None else f"{drop:+.2f}",
            f"{float(each['error']):.1e}",
            "yes" if each["front"] else "",
            note or ("" if each["within_budget"] else "over the budget, within noise"),
            style="bold green" if chosen else "",
        )
    screen.print(table)
    for target, why in untimed.items():
        text = f"{target} was not timed here ({why}): ranked by size and accuracy only"
        screen.print(Text(text, "yellow"), soft_wrap=True)
    for each in record["candidates"]:
        if each["reason"] is not None:
            text = f"  {each['name']} {each['status'].replace('_', ' ')}: {each['reason']}"
            screen.print(Text(text, "dim" if each["status"] == "not_tried" else "yellow"), soft_wrap=True)
    if record["out_of_time"]:
        screen.print(Text("time was up: the same command goes on from the cache", "bold yellow"))
    if record["chosen"] is None:
        text = f"nothing that was timed here loses at most {record['budget_points']:g} points"
        screen.print(Text(text, "bold yellow"))
    for each in record["candidates"]:
        if each["folder"] is not None:
            screen.print(Text(each["folder"], "bold" if each["name"] == record["chosen"] else "dim"), soft_wrap=True)
