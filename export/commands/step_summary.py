"""`--summary FILE`: results as Markdown, for the page that GitHub shows of a job ($GITHUB_STEP_SUMMARY)."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from efficientvit.errors import VitExportError
from export.exits import Exit, exit_code
from export.folder.atomic import require_writable, writing
from export.folder.findings import unproven_of
from export.folder.nearest import nearest
from export.report.markdown import bullets, code, table, text
from validation.gates.table import named

OPTION = "--summary"
_WORDS = {
    Exit.OK: "✅ passed",
    Exit.REJECTED: "❌ rejected",
    Exit.BAD_INPUT: "❌ cannot be used",
    Exit.NOT_VERIFIED: "⚠️ not verified",
    Exit.FAILED: "❌ failed",
    Exit.INTERRUPTED: "⚠️ interrupted",
}

Document = Mapping[str, Any]
"""What a command prints with `--json`."""


class Summary:
    """Sections of a file that other steps write to as well: each is added to its end. Without a file, nothing is."""

    def __init__(self, path: Path | None, title: str) -> None:
        self._path, self._title = path, title

    def add(self, exit: int, lines: Sequence[str]) -> None:  # noqa: A002 - the process's
        """A section with this result.

        Raises:
            BadOutput: it cannot be written.
        """
        if self._path is None:
            return
        said = ("", f"### {text(self._title)}: {_WORDS[Exit(exit)]}", "", *lines, "")
        with writing(self._path, OPTION), self._path.open("a", encoding="utf-8", errors="replace") as file:
            file.write("\n".join(said))


@contextmanager
def reported(path: Path | None, title: str) -> Iterator[Summary]:
    """What is to be written into `path`; an error of ours in the block is written there, too.

    Raises:
        BadOutput: it cannot be written; before any work.
    """
    if path is not None:
        require_writable(path.parent, OPTION)
    summary = Summary(path, title)
    try:
        yield summary
    except VitExportError as error:
        summary.add(exit_code(error), ["```text", *str(error).replace("```", "'''").splitlines(), "```"])
        raise


def of_exports(document: Document) -> list[str]:
    """One row an artifact, and why, of those that may not ship."""
    artifacts = document["artifacts"]
    headings = ("artifact", "verdict", "evidence", "nearest to its budget", "MB:", "ms:", "top-1 lost, points:")
    return [*table(headings, map(_artifact, artifacts)), "", *_reasons(artifacts)]


def of_verdict(document: Document) -> list[str]:
    """One row a gate of one file, and what is to be said besides: of `verify --json` and `judge --json`."""
    rows = [
        (name, "passed" if gate["passed"] else "**over budget**", named(name).text(float(gate["worst"])),
         named(name).text(float(gate["budget"])), text(gate["detail"]))
        for name, gate in (document["gates"] or {}).items()
        if gate
    ]  # fmt: skip
    said = [f"{text(document['status'].replace('_', ' '))}, {document['evidence'] or 'no'} evidence"]
    if reason := document.get("reason"):
        said.append(text(reason))
    said += [f"parity on these weights is vacuous: {text(each)}" for each in document.get("vacuous") or ()]
    for suspect in ((document.get("blame") or {}).get("suspects") or ())[:3]:
        said.append(f"likely at fault: {text(suspect['says'])}")
    return [*table(("gate", "verdict", "worst:", "budget:", "finding"), rows), "", *bullets(said)]


def of_bundle(document: Document) -> list[str]:
    """What is in a bundle, whose it is, and what is wrong with it: of `verify-bundle --json`."""
    rows = [
        (code(each["name"]), each["format"], each["status"], str(each["evidence"]), f"{each['bytes'] / 1e6:.2f}")
        for each in document["artifacts"] or ()
    ]
    signed = document["signed"]
    who = "unsigned"
    if signed is not None:
        word = "signature verified" if signed["verified"] else "signature **not verified**"
        who = f"{word}: {text(signed['subject'] or signed['by'])}, sha256 {code(signed['sha256'])}"
    problems = [f"{code(each['file'])}: {text(each['problem'])}" for each in document["problems"]]
    return [*table(("artifact", "format", "verdict", "evidence", "MB:"), rows), "", *bullets([who, *problems])]


def _artifact(artifact: Document) -> tuple[str, ...]:
    last, timing, accuracy = artifact["stages"][-1], artifact["timing"], artifact.get("accuracy")
    made, verdict = last["artifact"], last["verdict"]
    good = artifact["exit_code"] == 0
    status = artifact["status"].replace("_", " ")
    return (
        code(Path(artifact["folder"]).name),
        status if good else f"**{status}**",
        verdict["evidence"] or "",
        str(nearest(verdict["gates"]) or ""),
        f"{made['bytes'] / 1e6:.2f}" if made else "",
        f"{timing['median_ms']:.2f}{' (noisy)' if timing['noisy'] else ''}" if timing["measured"] else "",
        f"{accuracy['drop_points']:.2f} of {accuracy['budget_points']:.2f}" if accuracy else "",
    )


def _reasons(artifacts: Sequence[Document]) -> Iterator[str]:
    for each in artifacts:
        verdict, failed = each["stages"][-1]["verdict"], each["failed"]
        why = failed["error"] if failed else verdict["reason"]
        if each["exit_code"] != 0:
            said = why or f"{verdict['evidence'] or 'no'} evidence, where {each['evidence_required']} is required"
            yield f"- {code(Path(each['folder']).name)}: {text(said)}"
            yield from (f"  - likely at fault: {text(one['says'])}" for one in (each.get("blame") or {"suspects": []})[
                "suspects"
            ][:3])  # fmt: skip
        if (said := unproven_of(each)) is not None:
            yield f"- {code(Path(each['folder']).name)}: {text(said)}"
        if not each["weights"]["trained"]:
            yield f"- {code(Path(each['folder']).name)}: **untrained weights**, not for release"
