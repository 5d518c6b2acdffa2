"""`index.json` of a bundle as types: what it holds, with a digest for each file."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from export.bundle.layout import SCHEMA
from export.folder.manifest import Manifest, Status
from export.folder.records import PrecisionRecord
from export.folder.schema import schema_of
from export.records import Count, Record, Sha256, says
from runtimes.runtime import Evidence


class IndexedFile(Record, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file."""

    path: Annotated[str, says("Relative to the bundle, with slashes.")]
    bytes: Annotated[Count, says("Size, bytes.")]
    sha256: Annotated[Sha256, says("Of its content.")]


class IndexedArtifact(Record, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One artifact, as its manifest has it."""

    name: Annotated[str, says("Of its folder in artifacts/.")]
    model: Annotated[str, says("Member of the family.")]
    format: Annotated[str, says("Kind of file.")]
    precision: Annotated[PrecisionRecord, says("Of what ships.")]
    path: Annotated[str, says("What ships, relative to the bundle.")]
    sha256: Annotated[Sha256, says("Of the file; of several, over their names and digests (runtimes/artifact.py).")]
    bytes: Annotated[Count, says("Size on disk, bytes, all its files together.")]
    status: Annotated[Status, says("The verdict when it was exported.", "verified", "built")]
    evidence: Annotated[Evidence | None, says("What the verdict rests on.", "native", "vendor", "reference")]
    trained: Annotated[bool, says("False: untrained weights, not for release.")]

    @classmethod
    def of(cls, name: str, root: str, manifest: Manifest) -> Self:
        """`root`: the artifact's folder, relative to the bundle."""
        last = manifest.stages[-1]
        assert last.artifact is not None and manifest.precision is not None, "of an artifact that ships"
        return cls(
            name=name,
            model=manifest.model.name,
            format=last.artifact.format,
            precision=manifest.precision,
            path=f"{root}/{manifest.artifact}",
            sha256=last.artifact.sha256,
            bytes=last.artifact.bytes,
            status=manifest.status,
            evidence=last.verdict.evidence,
            trained=manifest.weights.trained,
        )


class Index(Record, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a bundle holds: every file but this one and the signature."""

    schema: Annotated[Literal[1], says("Version of this schema.")] = SCHEMA
    name: Annotated[str, says("Of the release.")]
    version: Annotated[str, says("Of the release.")]
    license: Annotated[str | None, says("SPDX identifier, --license; null where none was given.")]
    vit_export: Annotated[str, says("Version of vit-export that made the bundle.")]
    artifacts: Annotated[list[IndexedArtifact], says("By name.")]
    files: Annotated[list[IndexedFile], says("By path.")]


def index_schema() -> dict[str, Any]:
    """Of index.json."""
    return schema_of(Index, "vit-export bundle index")


def bytes_of(files: Sequence[IndexedFile]) -> int:
    """All together."""
    return sum(file.bytes for file in files)
