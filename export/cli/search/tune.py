"""`vit-export tune`: the fastest form of a model within a loss of accuracy."""

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from export.cli.host import CLUSTER
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
    out,
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
    "-t --target",
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
    "-p --precision",
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
    "--eval",
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
@out("Folder for the page, the record and the exports.", "tuned")
@JOBS
@NO_CACHE
@JSON
@CLUSTER
def tune(model: str, as_json: bool, **options: Any) -> None:
    """Find the fastest form of MODEL (m0 to m5) that loses at most --budget of its accuracy, on this host.

    Precisions, weight formats and layers left in floats are exported and judged like any export. What passes is timed
    in one run, in turns. DIR gets tune.html, tune.json, and front/ with the exports that no other beats in latency,
    size and accuracy together. What cannot be timed here is ranked by size and accuracy. A search that was ended takes
    what it finished from the cache.

    \b
    vit-export tune m2 -w best.pth --calibrate photos/ --eval val/
    vit-export tune m2 -w best.pth --calibrate photos/ --eval val/ --budget 1 -t onnx,openvino,coreml
    vit-export tune m5 -w best.pth --calibrate photos/ --eval val/ --time-limit 20
    vit-export tune m5 -w best.pth --eval val/ --cluster tcp://scheduler:8786     made by its workers, timed here

    \b
    Exit codes
      0    every target has a form within the budget
      1    a target has none, and something of it was rejected or loses more
      2    usage, or input that cannot be used
      3    a target has none, and nothing of it was checked here; or the weights are an untrained fallback
      4    everything of a target that was tried failed
    """  # noqa: D301 - click wants the character itself
    from export import api
    from export.cli import console

    with console.console() as screen:
        with console.Live(screen) as live:
            found = api.tune(model, **options, command=sys.argv[1:], progress=live)
        record = found.to_json()
        _show(screen, record)
        screen.print(f"{found.request.out}/tune.html, tune.json", style="dim")
    if as_json:
        console.print_json(record)
    sys.exit(int(found.exit_code))


_TIME_WAS_UP = {
    True: "the same command goes on from the cache",
    False: "no export was finished in it that the cache did not have: give it a longer --time-limit",
}
"""By `gets_further`."""


def _show(screen: "Console", record: Mapping[str, Any]) -> None:
    """What passed, the fastest first; what was rejected or not tried, and why; the choice."""
    from rich.table import Table
    from rich.text import Text

    from export.cli.tables import warn_untrained
    from export.folder.manifest import PASSED

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("candidate", "ms", "±", "MB", "lost", "error", "front", ""):
        table.add_column(heading, justify="left" if heading in ("candidate", "front", "") else "right")
    untimed: dict[str, str] = {}
    for each in record["candidates"]:
        if each["status"] not in PASSED:
            continue
        latency, drop, chosen = each["latency"], each["drop_points"], each["name"] == record["chosen"]
        if each["untimed"] is not None:
            untimed[each["target"]] = each["untimed"]
        note = "fastest within the budget" if chosen else f"best of {each['target']}" if each["best"] else ""
        note = note or ("" if each["within_budget"] else "over the budget, within noise")
        noisy = latency is not None and latency["noisy"]
        table.add_row(
            each["name"],
            *(("-", "") if latency is None else (f"{latency['median_ms']:.2f}", f"{latency['iqr_ms']:.2f}")),
            f"{each['bytes'] / 1e6:.2f}",
            "-" if drop is None else f"{drop:+.2f}",
            f"{float(each['error']):.1e}",
            "yes" if each["front"] else "",
            ", ".join(filter(None, (note, "noisy timing" if noisy else ""))),
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
        screen.print(Text(f"time was up; {_TIME_WAS_UP[record['gets_further']]}", "bold yellow"))
    if record["chosen"] is None:
        text = f"nothing that was timed here loses at most {record['budget_points']:g} points"
        screen.print(Text(text, "bold yellow"))
    if record["earlier_front"]:
        screen.print(Text("front/ is of an earlier search: this one found nothing to replace it with", "bold yellow"))
    warn_untrained(screen, trained=record["trained"] is not False)
    for each in record["candidates"]:
        if each["folder"] is not None:
            screen.print(Text(each["folder"], "bold" if each["name"] == record["chosen"] else "dim"), soft_wrap=True)
