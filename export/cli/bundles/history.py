"""`vit-export history`: releases over time."""

import sys
from pathlib import Path

import click

from export.cli.options import JSON, PATH, Command, option, out


@click.command(cls=Command)
@click.argument("folders", metavar="DIR...", nargs=-1, required=True, type=PATH)
@out("The page, one HTML file.", "history.html", "FILE")
@option("Output", "--fail", "Exit 1 if anything got worse by more than noise. [default: report it]", is_flag=True)
@JSON
def history(folders: tuple[Path, ...], out: Path, fail: bool, as_json: bool) -> None:
    """Write a page of releases over time: size, error over budget, accuracy, latency with its noise.

    Each DIR is a bundle, an export, or a folder with exports in it. Bundles are ordered by version, others as they are
    given, the oldest first; artifacts are told apart by name. An alarm is a figure that got worse from one release to
    the next by more than its noise. The figures are the recorded ones: nothing is run, and nothing is verified.

    \b
    vit-export history dist/*
    vit-export history released/ exports/ -o history.html --fail

    \b
    Exit codes
      0    the page was written
      1    with --fail: something got worse
      2    a folder that is no release
    """  # noqa: D301 - click wants the character itself
    from rich.text import Text

    from efficientvit.files import replace_file, write_text
    from export.bundle.history import history as collect
    from export.bundle.history_page import render
    from export.cli import console
    from export.folder.atomic import require_writable, writing

    require_writable(out.parent)
    found = collect(folders)
    page = render(found)
    with writing(out):
        replace_file(out, lambda part: write_text(part, page))
    code = 1 if fail and found.alarms else 0
    with console.console() as screen:
        for alarm in found.alarms:
            text = f"{alarm.artifact}, {alarm.old} to {alarm.new}: {alarm.figure} got worse: {alarm.says}"
            screen.print(Text(text, "bold red" if fail else "yellow"), soft_wrap=True)
        for note in found.notes:
            screen.print(Text(f"  {note}", "dim"), soft_wrap=True)
        if not found.alarms:
            screen.print(Text("nothing got worse by more than noise", "green"))
        screen.print(Text(str(out), "dim"))
    if as_json:
        console.print_json({**found.to_json(), "page": str(out), "exit_code": code})
    sys.exit(code)
