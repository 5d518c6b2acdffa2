"""`vit-export release --junit FILE`: one suite an artifact, a case a gate, and a last one, `verdict`."""

from collections.abc import Iterator, Mapping
from typing import Any
from xml.etree.ElementTree import Element

from efficientvit.errors import VitExportError
from export.commands.junit import VERDICT, case, finding, not_asked, suites_of
from export.exits import Exit
from export.folder.findings import unproven_of
from export.release.run import Release, Released

_KINDS = {Exit.REJECTED: "failure", Exit.OK: "skipped"}


def of_release(found: Release) -> Element:
    """Of every artifact, made or not."""
    return suites_of("vit-export release", [(each.name, list(_cases(each))) for each in found.artifacts])


def _cases(each: Released) -> Iterator[Element]:
    if each.manifest is not None:
        for name, gate in each.manifest["stages"][-1]["verdict"]["gates"].items():
            if gate:
                yield case(each.name, name, _failure(name, gate))
        if (said := unproven_of(each.manifest)) is not None:
            yield not_asked(each.name, said)
    if each.exit_code is Exit.OK:
        yield case(each.name, VERDICT, None)
        return
    what = each.found.what if isinstance(each.found, VitExportError) else each.status.replace("_", " ")
    yield case(each.name, VERDICT, finding(_KINDS.get(each.exit_code, "error"), what, [each.reason or each.status]))


def _failure(name: str, gate: Mapping[str, Any]) -> Element | None:
    if gate["passed"]:
        return None
    return finding("failure", f"{name} gate over budget", [str(gate["detail"])])
