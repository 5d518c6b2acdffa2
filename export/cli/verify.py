"""`vit-export verify`: a folder is judged again."""

import sys
from pathlib import Path
from typing import Any

import click

from export.cli.options import (
    EXIT_CODES,
    JSON,
    LABELED,
    PATH,
    QUALITY_BUDGET,
    SUMMARY,
    Command,
    option,
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
@option(
    "Weights and reference",
    "--labels",
    "With --eval: the classes' names, one a line. [default: the folder's, or ImageNet's]",
    metavar="FILE",
)
@skip_bad("--eval")
@require("native", "vendor", "reference", "built")
@QUALITY_BUDGET
@LABELED
@option("Output", "--junit", "Write the verdict as JUnit XML, for CI.", type=PATH, metavar="FILE")
@SUMMARY
@JSON
def verify(
    folder: Path,
    require: str,
    weights: str | None,
    quality_budget: float | None,
    junit: Path | None,
    summary: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Check an exported folder again, on this host, against the reference that lies in it.

    With -w against one that is computed from the weights here and now: then a manifest that was forged to agree with
    the artifact does not help either.

    Device reports that were attached are judged again from their raw outputs: a device that passed is native evidence,
    one that did not rejects the artifact.
    """
    from efficientvit.errors import VitExportError
    from export.cli import console, tables
    from export.commands import junit as xml
    from export.commands.step_summary import of_verdict
    from export.commands.verify import verify as judge_again
    from export.folder.accuracy import AccuracyRecord
    from export.folder.records import gates_of, plain
    from export.request.evaluation import evaluation
    from runtimes.runtime import Evidence
    from validation.budgets import Budgets

    page = summary_to(summary, f"vit-export verify {folder.resolve().name}")
    budgets = Budgets(quality_budget, options["accuracy_budget"])
    asked = evaluation(
        options["eval_folder"], budgets, labels=options["labels"], skip_bad_photos=options["skip_bad_photos"]
    )
    if junit is not None:
        xml.prepare(junit)
    try:
        with console.console() as screen, console.Live(screen) as live:
            verification = judge_again(
                folder,
                weights,
                budgets,
                live.step,
                asked=asked,
                labels=options["labels"],
                skip_bad=options["skip_bad_photos"],
            )
    except VitExportError as error:
        if junit is not None:
            xml.write(junit, xml.of_error(folder, error))
        raise
    code = verification.code(Evidence(require))
    if junit is not None:
        xml.write(junit, xml.of_verification(verification, code))
    with console.console() as screen:
        tables.show_verification(screen, verification, code)
    report = verification.verdict.report
    found = {
        "folder": str(folder),
        "status": verification.status,
        "recorded": verification.recorded,
        "reason": getattr(verification.verdict, "reason", None),
        "evidence": verification.evidence if report else None,
        "trained": verification.trained,
        "exit_code": int(code),
        "gates": gates_of(report.gates) if report else None,
        "accuracy": AccuracyRecord.of(report.accuracy) if report else None,
        "devices": verification.devices.entries,
        "not_repeated": verification.not_repeated,
    }
    page.add(code, of_verdict(plain(found)))
    if as_json:
        console.print_json(found)
    sys.exit(int(code))
