"""Releases as they are compared over time: bundles, and folders of exports, each with its artifacts' manifests."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from efficientvit.errors import BadInput
from efficientvit.files import parse_json
from export.bundle.contents import root_of
from export.bundle.layout import ARTIFACTS, INDEX
from export.bundle.records import Index
from export.folder.exported import BadFolder, read_manifest
from export.folder.layout import MANIFEST
from export.folder.manifest import Manifest


@dataclass(frozen=True, slots=True)
class Release:
    """One release: its artifacts by name. `version`: None where it is no bundle."""

    folder: Path
    name: str
    version: str | None
    artifacts: dict[str, Manifest]

    @property
    def label(self) -> str:
        """As plots and tables name it."""
        return self.version or self.name


def is_bundle(folder: Path) -> bool:
    """It has an index, or what only a bundle has."""
    return (folder / INDEX).is_file() or (folder / ARTIFACTS).is_dir()


def read_release(folder: Path) -> Release:
    """A bundle, one export, or a folder with exports in it. What is in it is read, not verified.

    Raises:
        BadInput: it is neither, or a manifest cannot be read.
    """
    if is_bundle(folder):
        return _bundle(folder)
    if (folder / MANIFEST).is_file():
        return Release(folder, folder.resolve().parent.name, None, {folder.resolve().name: read_manifest(folder)})
    found = sorted(path.parent for path in folder.glob(f"*/{MANIFEST}")) if folder.is_dir() else []
    artifacts = {each.name: read_manifest(each) for each in found}
    passed = {name: manifest for name, manifest in artifacts.items() if manifest.artifact is not None}
    if not passed:
        raise BadInput(
            f"{folder} is no release",
            expected="a bundle, an export, or a folder with exports in it",
            got="nothing that shipped" if found else "no manifest" if folder.is_dir() else "no folder",
            next_step="name folders such as dist/efficientvit-1.2.0 or exports",
        )
    return Release(folder, folder.resolve().name, None, passed)


def _bundle(folder: Path) -> Release:
    try:
        index = msgspec.convert(parse_json((folder / INDEX).read_bytes()), Index)
    except (OSError, ValueError) as error:  # msgspec's are as well
        raise BadFolder(
            f"{folder} is a bundle whose index cannot be read",
            expected=f"{INDEX} as `vit-export bundle` writes it",
            got=str(error),
            next_step=f"`vit-export verify-bundle {folder}` says what is wrong with it",
        ) from error
    artifacts = {each.name: read_manifest(folder / root_of(each.name)) for each in index.artifacts}
    return Release(folder, index.name, index.version, artifacts)


def in_order(releases: Sequence[Release]) -> list[Release]:
    """The oldest first: by version if all are bundles, else as they were given."""
    if all(each.version is not None for each in releases):
        return sorted(releases, key=lambda each: (each.name, _version(str(each.version))))
    return list(releases)


def _version(text: str) -> tuple[tuple[int, int, str], ...]:
    """Numbers by value, 1.10 after 1.9; a pre-release such as 1.0-rc1 or 1.0rc1 before what it leads to."""
    parts = re.findall(r"\d+|[A-Za-z]+", text)
    numbered = tuple((1, int(part), "") if part.isdigit() else (-1, 0, part) for part in parts)
    return (*numbered, (0, 0, ""))
