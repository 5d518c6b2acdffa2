"""`vit-export release`: a recipe of many artifacts, one verdict."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from efficientvit.errors import BadOption
from export.cli.host import CLUSTER
from export.cli.options import EXIT_CODES, JOBS, JSON, NO_CACHE, PATH, SUMMARY, Command, file, option, summary_to

if TYPE_CHECKING:
    from export.release.plan import Plan
    from export.release.run import Release, Released


@click.command(cls=Command, epilog=EXIT_CODES)
@click.argument("recipe", metavar="RECIPE", type=PATH)
@option("Output", "--dry-run", "Show what will be made, where, and with what evidence on this host.", is_flag=True)
@option(
    "Output",
    "-o --out",
    "Folder of the release. [default: the recipe's out, else releases/NAME-VERSION]",
    type=PATH,
    metavar="DIR",
)
@file("Output", "--junit", "Write the verdicts as JUnit XML, for CI.")
@JOBS
@NO_CACHE
@SUMMARY
@JSON
@CLUSTER
def release(recipe: Path, dry_run: bool, summary: Path | None, as_json: bool, **options: Any) -> None:
    """Make every artifact of RECIPE, a release.toml, and give one verdict on all.

    An artifact that is rejected or fails does not stop the others; the severest exit code is the release's. DIR gets
    one folder for each artifact, release.json, the record, and release.html, the page to read. What an earlier run has
    finished is taken from the cache: an interrupted release goes on where it was.

    \b
    vit-export release release.toml --dry-run
    vit-export release release.toml --junit release.xml
    vit-export release release.toml --cluster tcp://scheduler:8786     on many machines
    vit-export schema recipe > recipe.schema.json      completion and checks in an editor
    """  # noqa: D301 - click wants the character itself
    from export import api
    from export.cli import console

    if dry_run:
        _require_this_host(options["cluster"])
        plan = api.plan(recipe, out=options["out"])
        with console.console() as screen:
            _show_plan(screen, plan)
        if as_json:
            console.print_json(plan.to_json())
        sys.exit(int(plan.exit_code))
    from export.release.markdown import of_release

    page = summary_to(summary, f"vit-export release {recipe.name}")
    done: list[Released] = []
    with console.console() as screen:
        live = console.Live(screen)
        try:
            found = api.release(recipe, **options, command=sys.argv[1:], finished=done.append, progress=live)
        except BaseException:  # what was finished before it is there, and is shown
            live.stop()
            if done:
                _show_artifacts(screen, done)
            raise
        live.stop()
        _show_release(screen, found)
    page.add(found.exit_code, of_release(found))
    if as_json:
        console.print_json(found.to_json())
    sys.exit(int(found.exit_code))


def _require_this_host(cluster: str | None) -> None:
    if cluster is not None:
        raise BadOption(
            "--dry-run says what this host can do, and --cluster leaves the work to others",
            expected="one of the two",
            got=f"--dry-run --cluster {cluster}",
            next_step="leave --cluster out; on a worker's host, `vit-export doctor` says what it can do",
        )


def _show_plan(screen: Console, plan: "Plan") -> None:
    from export.release.plan import COLUMNS, cells

    table = _table(*COLUMNS)
    for each in plan.artifacts:
        table.add_row(*cells(each), style="yellow" if each.missing else "")
    recipe, good = plan.recipe, sum(each.missing is None for each in plan.artifacts)
    screen.print(Text(f"{recipe.name} {recipe.version}: {len(plan.artifacts)} artifacts into {plan.out}"))
    screen.print(table)
    style = "green" if good == len(plan.artifacts) else "bold yellow"
    screen.print(Text(f"{good} of {len(plan.artifacts)} can have the evidence that they need on this host", style))


def _show_release(screen: Console, found: "Release") -> None:
    from export.release.page import PAGE

    _show_artifacts(screen, found.artifacts)
    recipe = found.plan.recipe
    style = {0: "bold green", 3: "bold yellow"}.get(int(found.exit_code), "bold white on red")
    screen.print(Text(f"{recipe.name} {recipe.version}: ").append(f" {found.verdict} ", style))
    screen.print(Text(f"{found.folder / PAGE}", "dim"), soft_wrap=True)


def _show_artifacts(screen: Console, artifacts: "Sequence[Released]") -> None:
    """The table, and below it why what is not ready is not."""
    from export.cli.console import STYLE

    table = _table(
        "artifact", "verdict", "evidence", "error", "budget", "MB", "ms", right=("error", "budget", "MB", "ms")
    )
    for each in artifacts:
        name, verdict, evidence, _, *values, _ = each.cells()
        earlier = each.manifest is not None and each.checked_before
        word = Text(f"{verdict}, as before" if earlier else verdict, STYLE.get(verdict, "bold white on red"))
        table.add_row(name, word, evidence, *values)
    screen.print(table)
    for each in artifacts:
        if each.reason is not None:
            style = "yellow" if each.exit_code == 3 else "red"
            screen.print(Text(f"{each.name}: {each.reason}", style), soft_wrap=True)


def _table(*headings: str, right: "Sequence[str]" = ()) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, overflow="fold", justify="right" if heading in right else "left")
    return table
