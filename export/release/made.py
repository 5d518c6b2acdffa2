"""A release that was made: what `vit-export bundle` takes of the folder that `vit-export release` wrote."""

from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import msgspec

from efficientvit.digests import file_digest
from efficientvit.errors import ArtifactChanged, BadOption, NotPassed
from efficientvit.files import parse_json
from export.folder.exported import BadFolder
from export.folder.layout import MANIFEST
from export.records import field_of
from export.release.record import RELEASE, ReleasedRecord, ReleaseRecord


@dataclass(frozen=True, slots=True)
class Made:
    """A name, a version, and folders of exports; of a release in the recipe's order."""

    name: str
    version: str
    folders: tuple[Path, ...]


def asked(folders: tuple[Path, ...], name: str | None, version: str | None) -> Made:
    """What is to be bundled, and as what: exports under a name and a version, or the one release with its own.

    Raises:
        BadOption: exports without a name or a version.
        BadFolder, NotPassed, ArtifactChanged: as `made_release`.
    """
    if len(folders) == 1 and (folders[0] / RELEASE).is_file():
        made = made_release(folders[0])
        return replace(made, name=name or made.name, version=version or made.version)
    if name is None or version is None:
        raise BadOption(
            "the bundle has no name or no version",
            expected="--name and --version, or the one folder of a release, whose recipe has both",
            got=f"{len(folders)} {'folders' if len(folders) > 1 else 'folder'} of exports",
            next_step="for example --name efficientvit --version 1.2.0",
        )
    return Made(name, version, folders)


def made_release(folder: Path) -> Made:
    """What lies in `folder`, every artifact of it.

    Raises:
        BadFolder: no `release.json`, or not one of ours.
        NotPassed: not every artifact has the evidence that the recipe requires.
        ArtifactChanged: a manifest is not the one that the release was about.
    """
    record = _record(folder)
    if not record.ready:
        short = [f"{each.name}: {each.reason or each.status}" for each in record.artifacts if each.exit_code != 0]
        raise NotPassed(
            f"the release in {folder} is not ready",
            expected="every artifact with the evidence that the recipe requires",
            got="; ".join(short) or f"exit code {record.exit_code}",
            next_step="mend what is named, and run `vit-export release` with the recipe again",
        )
    return Made(record.name, record.version, tuple(_folder(folder, each) for each in record.artifacts))


def _record(folder: Path) -> ReleaseRecord:
    path = folder / RELEASE
    try:
        return msgspec.convert(parse_json(path.read_bytes()), ReleaseRecord)
    except msgspec.ValidationError as error:
        place, expected, got = field_of(error)
        raise _unusable(path, f"{place}: {expected}", got) from error
    except (OSError, ValueError) as error:
        raise _unusable(path, "the record that `vit-export release` wrote", str(error)) from error


def _folder(folder: Path, artifact: ReleasedRecord) -> Path:
    """The artifact's, whose manifest is still the one that was recorded."""
    parts = PurePosixPath(artifact.folder or "")
    if not artifact.folder or parts.is_absolute() or ".." in parts.parts:
        raise _unusable(folder / RELEASE, f"the folder of {artifact.name}, within the release", str(artifact.folder))
    place = folder / parts
    found = file_digest(place / MANIFEST) if (place / MANIFEST).is_file() else "no manifest"
    if found != artifact.manifest_sha256:
        raise ArtifactChanged(
            f"{place} is not what the release in {folder} is about",
            expected=f"{MANIFEST} with sha256 {artifact.manifest_sha256}",
            got=found,
            next_step="run `vit-export release` with the recipe again: what has not changed comes from the cache",
        )
    return place


def _unusable(path: Path, expected: str, got: str) -> BadFolder:
    return BadFolder(
        f"{path} cannot be used",
        expected=expected,
        got=got,
        next_step="run `vit-export release` with the recipe again",
    )
