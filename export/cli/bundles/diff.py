"""`vit-export diff`: two releases."""

import sys
from pathlib import Path

import click

from export.cli.options import JSON, PATH, Command, option


@click.command(cls=Command)
@click.argument("old", metavar="OLD", type=PATH)
@click.argument("new", metavar="NEW", type=PATH)
@option(
    "Gates",
    "--fail-on",
    "Exit 1 on these, with commas: parity, agreement, accuracy:N%, precision, latency:N%, size:N%, operators:N%, "
    "interface, weights, tools. Example: parity,latency:5%.",
    default="parity",
    show_default=True,
    metavar="KINDS",
)
@option("Output", "--no-time", "Compare everything but latency.", is_flag=True)
@JSON
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
        console.print_json(diff_record(found, failures, code))
    sys.exit(code)
