"""`release.json`: what was made, from which recipe, and what was found. docs/release.md describes it."""

from typing import Annotated, Literal

from msgspec import Meta

from export.folder.manifest import HostRecord, Status
from export.records import Count, Record, Sha256, says
from runtimes.runtime import Evidence

RELEASE = "release.json"


class RecipeRecord(Record, frozen=True, kw_only=True):
    """The file that asked for it."""

    path: Annotated[str, says("As it was named.")]
    sha256: Annotated[Sha256, says("Of its bytes.")]


class ErrorRecord(Record, frozen=True, kw_only=True):
    """Why there is no verdict on an artifact."""

    kind: Annotated[str, says("Of the error: a class of efficientvit/errors.py.")]
    text: Annotated[str, says("What, expected, got, next.")]


class ReleasedRecord(Record, frozen=True, kw_only=True):
    """One artifact."""

    name: Annotated[str, says("Of its folder; of one that was not made, without what only its checkpoint can tell.")]
    model: Annotated[str, says("Member of the family.")]
    target: Annotated[str, says("Format, as --target has it.")]
    precision: Annotated[str, says("Numeric format, as --precision has it.")]
    command: Annotated[list[str], says("Arguments of `vit-export` that make it alone.")]
    status: Annotated[Status, says("As in its manifest; failed also where nothing was made.")]
    evidence: Annotated[Evidence | None, says("What the verdict rests on; null where there is none.")]
    evidence_required: Annotated[Evidence, says("What exit code 0 needs.")]
    exit_code: Annotated[int, Meta(ge=0, le=4), says("What this artifact alone exits with.")]
    reason: Annotated[str | None, says("Why it is not verified; null where it is.")]
    error: Annotated[ErrorRecord | None, says("Why there is no folder; null where there is one.")]
    folder: Annotated[str | None, says("Relative to this file; null where nothing was made.")]
    manifest_sha256: Annotated[Sha256 | None, says("Of the manifest in it.")]
    artifact: Annotated[str | None, says("What ships, relative to the folder; null if nothing may.")]
    artifact_sha256: Annotated[Sha256 | None, says("Of what ships, as the manifest has it.")]
    bytes: Annotated[Count | None, says("Size on disk of what was made last, bytes.")]
    checked_before: Annotated[bool, says("Nothing had changed since an earlier export; its verdict is this one.")]


class ReleaseRecord(Record, frozen=True, kw_only=True):
    """A release: every artifact of a recipe, and one verdict. Paths are relative to the folder it lies in."""

    schema: Annotated[Literal[1], says("Version of this schema.")]
    vit_export: Annotated[str, says("Version of vit-export.")]
    name: Annotated[str, says("Of the release.")]
    version: Annotated[str, says("Of the release.")]
    recipe: Annotated[RecipeRecord, says("The file that asked for it.")]
    command: Annotated[list[str], says("The arguments that vit-export was called with.")]
    made: Annotated[str, says("When it ended: UTC, ISO 8601.")]
    host: Annotated[HostRecord, says("Where it was made and judged.")]
    ready: Annotated[bool, says("Every artifact has the evidence that is required: exit code 0.")]
    exit_code: Annotated[int, Meta(ge=0, le=4), says("The severest of the artifacts'.")]
    artifacts: Annotated[list[ReleasedRecord], Meta(min_length=1), says("In the recipe's order.")]
