"""`vit-export verify --junit FILE`: the verdict in the form that CI servers read and show.

One test case a gate, one a unit of a device that reported, and a last one, `verdict`, for what the exit code says. The
elements are those of https://github.com/testmoapp/junitxml: `failure` is an artifact that must not ship, `error` a
check that could not be made, `skipped` one that the caller did not require.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from efficientvit.errors import Refused, VitExportError
from efficientvit.files import replace_file
from export.commands.verify import Verification
from export.exits import Exit
from export.folder.atomic import require_writable, writing
from export.folder.device_entry import failure
from validation.gates.result import GateResult
from validation.verdict import VerifiedArtifact

VERDICT = "verdict"
_NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, production 2


def of_verification(verification: Verification, code: Exit) -> Element:
    """`code`: what the command exits with, under the evidence that was required."""
    verdict = verification.verdict
    name = verification.folder.resolve().name
    cases = [case(name, gate.gate, _of_gate(gate)) for gate in (verdict.report.gates if verdict.report else ())]
    if verdict.report is not None and (unproven := verdict.report.unproven) is not None:
        cases.append(not_asked(name, unproven))
    for entry in verification.devices.entries:
        why = failure(entry)
        found = None if why is None else finding("failure", entry.status, [why])
        cases.append(case(name, f"{entry.device.model} {entry.unit}", found))
    said = [f"{verification.folder}: {verification.status} (when exported: {verification.recorded})"]
    if not isinstance(verdict, VerifiedArtifact):
        said.append(verdict.reason)
    if (why := verification.shortfall(code)) is not None:
        said.append(why)
    if code is Exit.OK:
        kind = None if isinstance(verdict, VerifiedArtifact) else "skipped"
    else:
        kind = "failure" if code is Exit.REJECTED else "error"
    cases.append(case(name, VERDICT, None if kind is None else finding(kind, verification.status, said)))
    return suites_of("vit-export verify", [(name, cases)])


def of_error(folder: Path, error: VitExportError) -> Element:
    """A folder on which there is no verdict: refused, or not to be judged."""
    kind = "failure" if isinstance(error, Refused) else "error"
    name = folder.resolve().name
    return suites_of("vit-export verify", [(name, [case(name, VERDICT, finding(kind, error.what, [str(error)]))])])


def prepare(path: Path) -> None:
    """Find out before the work whether `path` can be written; an older file there must not be read for this run's.

    Raises:
        BadOutput: it cannot.
    """
    require_writable(path.parent, "--junit")
    with writing(path, "--junit"):
        path.unlink(missing_ok=True)


def write(path: Path, suites: Element) -> None:
    """UTF-8, in the file's place at once or not at all.

    Raises:
        BadOutput: it cannot be written.
    """
    indent(suites)
    content = tostring(suites, encoding="utf-8", xml_declaration=True) + b"\n"
    with writing(path, "--junit"):
        replace_file(path, lambda part: part.write_bytes(content))


def _of_gate(gate: GateResult) -> Element | None:
    return None if gate.passed else finding("failure", f"{gate.gate} gate over budget", _lines(gate))


def _lines(gate: GateResult) -> Iterator[str]:
    yield gate.detail
    for kind in gate.kinds:
        if not kind.passed:
            yield f"{kind.kind}: error {kind.worst:.3e}, budget {kind.budget:.3e}, on {kind.worst_image}"


def case(suite: str, name: str, found: Element | None) -> Element:
    """One check. `found`: what `finding` gives where it did not pass."""
    made = Element("testcase", classname=_clean(f"vit-export.{suite}"), name=_clean(name))
    if found is not None:
        made.append(found)
    return made


def not_asked(suite: str, unproven: str) -> Element:
    """The proof, where there is no program to prove."""
    return case(suite, "identity", finding("skipped", unproven, [unproven]))


def finding(kind: str, message: str, lines: Iterable[str]) -> Element:
    """`kind`: failure, error or skipped."""
    element = Element(kind, message=_clean(message))
    element.text = _clean("\n".join(lines))
    return element


def suites_of(title: str, suites: Iterable[tuple[str, list[Element]]]) -> Element:
    """A document of suites: each one's name and cases."""
    document = Element("testsuites", name=title)
    for name, cases in suites:
        counted = {
            what: str(sum(case.find(kind) is not None for case in cases))
            for what, kind in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped"))
        }
        suite = SubElement(document, "testsuite", {"name": _clean(name), "tests": str(len(cases)), **counted})
        suite.extend(cases)
    return document


def _clean(text: str) -> str:
    """Without what XML cannot hold: a converter's message may hold anything."""
    return _NOT_XML.sub("\ufffd", text)
