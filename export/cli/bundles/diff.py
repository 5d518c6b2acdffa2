"""`vit-export diff`: two releases."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from export.cli.options import JSON, PATH, Command, option

if TYPE_CHECKING:
    from export.commands.fail_on import FailOn


@click.command(cls=Command)
@click.argument("old", metavar="OLD", type=PATH)
@click.argument("new", metavar="NEW", type=PATH)
@option(
    "Gates",
    "--fail-on",
    "Exit 1 on these, with commas: parity, agreement, accuracy:N%, precision, latency:N%, size:N%, operators:N%, "
    "interface, weights, tools, artifacts (of two bundles, one that is gone). Example: parity,latency:5%.",
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

    Of two bundles the artifacts are paired by name, and what their manifests recorded is compared: nothing is run.

    \b
    vit-export diff released/m2-onnx-fp32 exports/m2-onnx-fp32
    vit-export diff OLD NEW --fail-on parity,agreement,latency:5%,size:2%     in CI
    vit-export diff dist/efficientvit-1.1.0 dist/efficientvit-1.2.0 --fail-on artifacts,accuracy,size:2%

    \b
    Exit codes
      0    nothing that --fail-on names got worse than it allows
      1    something did; or a folder holds nothing that may ship
      2    no folder of an export, or an unknown kind
    """  # noqa: D301 - click wants the character itself
    from export import api
    from export.bundle.releases import is_bundle
    from export.cli import console, tables

    if is_bundle(old) and is_bundle(new):
        from export.commands.fail_on import parse_fail_on

        sys.exit(_of_bundles(old, new, parse_fail_on(fail_on), as_json=as_json))
    with console.console() as screen:
        with console.Live(screen) as live:
            found = api.diff(old, new, fail_on=fail_on, no_time=no_time, progress=live)
        tables.show_diff(screen, found)
    if as_json:
        console.print_json(found.to_json())
    sys.exit(int(found.exit_code))


def _of_bundles(old: Path, new: Path, limits: "FailOn", *, as_json: bool) -> int:
    from rich.table import Table
    from rich.text import Text

    from export.bundle.compare import diff_bundles
    from export.cli import console

    found = diff_bundles(old, new)
    failures = found.failures(limits)
    code = 1 if failures else 0
    with console.console() as screen:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for heading in ("artifact", "", "old", "new", "change", "finding"):
            table.add_column(heading, overflow="fold")
        for name, findings in found.findings.items():
            if not findings:
                says = "same files" if name in found.same else "other files, nothing else"
                table.add_row(name, "", "", "", "", says, style="dim")
            for each in findings:
                change = "" if each.growth is None else f"{each.growth:+.1%}"
                style = "bold red" if each in failures.get(name, ()) else ("yellow" if each.worse else "green")
                table.add_row(name, each.kind, each.old, each.new, change, each.detail, style=style)
        screen.print(table)
        for note in found.notes:
            screen.print(Text(f"  {note}", "yellow"), soft_wrap=True)
        screen.print(Text("as recorded: nothing was run, and nothing verified (vit-export verify-bundle)", "dim"))
        if failures:
            kinds = ", ".join(dict.fromkeys(each.kind for own in failures.values() for each in own))
            screen.print(Text(f" worse than --fail-on allows: {kinds} ", "bold white on red"))
    if as_json:
        console.print_json(found.to_json(limits, code))
    return code
