"""`vit-export verify`: a folder is judged again."""

import sys
from pathlib import Path
from typing import Any

import click

from export.cli.host import CLUSTER
from export.cli.options import (
    EXIT_CODES,
    JSON,
    LABELED,
    PATH,
    QUALITY_BUDGET,
    SUMMARY,
    Command,
    file,
    labels,
    require,
    skip_bad,
    summary_to,
    weights,
)


@click.command(cls=Command, epilog=EXIT_CODES)
@click.argument("folder", metavar="DIR", type=PATH)
@weights(
    "Checkpoint that DIR was exported from: the reference is computed from it again, and nothing in DIR is trusted. "
    "[default: the reference in DIR]"
)
@labels("the folder's, or ImageNet's")
@skip_bad("--eval")
@require("native", "vendor", "reference", "built")
@QUALITY_BUDGET
@LABELED
@file("Output", "--junit", "Write the verdict as JUnit XML, for CI.")
@SUMMARY
@JSON
@CLUSTER
def verify(folder: Path, summary: Path | None, as_json: bool, **options: Any) -> None:
    """Check an exported folder again, on this host, against the reference that lies in it.

    With -w against one that is computed from the weights here and now: then a manifest that was forged to agree with
    the artifact does not help either.

    Device reports that were attached are judged again from their raw outputs: a device that passed is native evidence,
    one that did not rejects the artifact.

    With --cluster a worker judges it: one on which the file's own runtime runs, where there is one, such as a Mac for a
    Core ML package. Other workers answer labeled images too.
    """
    from export import api
    from export.cli import console, tables
    from export.commands.step_summary import of_verdict

    page = summary_to(summary, f"vit-export verify {folder.resolve().name}")
    with console.console() as screen:
        with console.Live(screen) as live:
            found = api.verify(folder, **options, progress=live)
        tables.show_verification(screen, found)
    document = found.to_json()
    page.add(found.exit_code, of_verdict(document))
    if as_json:
        console.print_json(document)
    sys.exit(int(found.exit_code))
