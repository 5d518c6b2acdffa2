"""The artifacts of a bundle, read from their folders; everything else in a bundle follows from them."""

from dataclasses import dataclass
from pathlib import Path

from efficientvit.digests import file_digest
from export.bundle.layout import ARTIFACTS
from export.bundle.records import Index, IndexedArtifact, IndexedFile
from export.folder.exported import artifact_of
from export.folder.layout import LABELS, MANIFEST, SETTINGS, SHIP
from export.folder.manifest import Manifest
from runtimes.artifact import Artifact


@dataclass(frozen=True, slots=True)
class Packed:
    """One artifact: its manifest, and its files with paths relative to the bundle."""

    name: str
    manifest: Manifest
    files: tuple[IndexedFile, ...]

    @property
    def root(self) -> str:
        """Its folder, relative to the bundle."""
        return root_of(self.name)

    @property
    def entry(self) -> IndexedArtifact:
        """As the index has it."""
        return IndexedArtifact.of(self.name, self.root, self.manifest)

    @property
    def manifest_path(self) -> str:
        """Relative to the bundle."""
        return f"{self.root}/{MANIFEST}"


@dataclass(frozen=True, slots=True)
class Contents:
    """What a bundle is about. `vit_export`: the version that made it."""

    name: str
    version: str
    license: str | None
    vit_export: str
    artifacts: tuple[Packed, ...]

    @property
    def files(self) -> tuple[IndexedFile, ...]:
        """Of all artifacts, by path."""
        return tuple(sorted((file for each in self.artifacts for file in each.files), key=lambda file: file.path))

    def index(self, documents: tuple[IndexedFile, ...]) -> Index:
        """The index of these artifacts and of what was written about them."""
        return Index(
            name=self.name,
            version=self.version,
            license=self.license,
            vit_export=self.vit_export,
            artifacts=[each.entry for each in self.artifacts],
            files=sorted((*self.files, *documents), key=lambda file: file.path),
        )


def root_of(name: str) -> str:
    """The folder of an artifact, relative to the bundle."""
    return f"{ARTIFACTS}/{name}"


def indexed(folder: Path, path: str) -> IndexedFile:
    """The file at `path` in `folder`, hashed."""
    file = folder / path
    return IndexedFile(path=path, bytes=file.stat().st_size, sha256=file_digest(file))


def shipped(folder: Path, manifest: Manifest) -> set[str]:
    """The files of `ship/` that the manifest speaks of, relative to the folder of the artifact; hashed.

    Raises:
        BadFolder: the manifest names no artifact.
        ArtifactChanged: the artifact or its labels are not the manifest's.
        BadOption: the manifest names a file outside of the folder.
    """
    artifact = artifact_of(folder, manifest)
    found = {file.relative_to(folder).as_posix() for file in artifact.files()}
    return found | {f"{SHIP}/{SETTINGS}"} | ({f"{SHIP}/{LABELS}"} if _has_labels(artifact) else set())


def _has_labels(artifact: Artifact) -> bool:
    return bool(artifact.interface.labels)
