"""`vit-export verify-bundle DIR`: whether a bundle is what was released, and whose signature says so; offline."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from efficientvit.digests import file_digest
from efficientvit.errors import BadInput, VitExportError
from efficientvit.files import parse_unique_json
from export import __version__
from export.bundle import signature as signatures
from export.bundle.contents import Contents, Packed, shipped
from export.bundle.documents import DOCUMENTS, difference
from export.bundle.layout import ARTIFACTS, INDEX, SIGNATURE, STATEMENT, is_label, misnamed, same_name
from export.bundle.records import Index, IndexedArtifact, IndexedFile
from export.bundle.signature import Broken, Signed, Trust
from export.bundle.signing import require_packages
from export.bundle.tree import Problem, look_into
from export.exits import Exit
from export.folder.exported import read_manifest
from export.folder.findings import not_passed
from export.folder.layout import MANIFEST
from export.records import field_of

_LARGEST = 64 * 2**20
"""Of a JSON document, bytes."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found of a bundle: `problems` by file, who signed, and what could not be compared."""

    folder: Path
    index: Index | None
    signed: Signed | None
    problems: tuple[Problem, ...]
    notes: tuple[str, ...] = ()
    allow_unsigned: bool = False

    @property
    def code(self) -> Exit:
        """Rejected where anything is wrong; not verified where nobody was named whose signature it has to be."""
        if self.problems:
            return Exit.REJECTED
        attested = self.allow_unsigned or (self.signed is not None and self.signed.verified)
        return Exit.OK if attested else Exit.NOT_VERIFIED


def check_bundle(folder: Path, trust: Trust, *, allow_unsigned: bool = False) -> Checked:
    """Everything that can be checked without a network. Nothing in the bundle is run.

    Raises:
        MissingExtra: the extra `release` is not installed.
        BadInput: `folder` is no bundle at all, or a key or certificate of `trust` cannot be used.
    """
    require_packages("checking a bundle")
    if not (folder.is_dir() and any((folder / name).exists() for name in (INDEX, SIGNATURE, ARTIFACTS))):
        raise BadInput(
            f"{folder} is no bundle",
            expected=f"a folder with {INDEX}",
            got="none" if folder.is_dir() else "no folder",
            next_step="name a folder that `vit-export bundle` made, such as dist/efficientvit-1.0",
        )
    tree = look_into(folder)
    problems = list(tree.problems)
    notes: list[str] = []
    index = None
    try:
        index = _index(folder, tree.files)
    except Broken as error:
        problems.append(Problem(INDEX, str(error)))
    if index is not None:
        problems += _listed(folder, index, tree.files)
        packed = _artifacts(folder, index, tree.files, problems)
        if packed is not None:
            contents = Contents(index.name, index.version, index.license, index.vit_export, packed)
            problems += _documents(folder, contents, tree.files, notes)
    signed = None
    try:
        signed = _signature(folder, tree.files, trust, allow_unsigned=allow_unsigned)
    except Broken as error:
        problems.append(Problem(SIGNATURE, str(error)))
    return Checked(folder, index, signed, tuple(problems), tuple(notes), allow_unsigned)


def _index(folder: Path, files: frozenset[str]) -> Index:
    """The index, its form checked."""
    if INDEX not in files:
        raise Broken("it is missing")
    try:
        index = msgspec.convert(parse_unique_json(_content(folder, INDEX)), Index)
    except msgspec.ValidationError as error:
        place, expected, got = field_of(error)
        raise Broken(f"{place}: expected {expected}, got {got}") from error
    except ValueError as error:
        raise Broken(f"it cannot be read: {error}") from error
    if not is_label(index.name) or not is_label(index.version) or not all(map(str.isprintable, _strings(index))):
        raise Broken("its name or version is none, or it holds text that cannot be printed")
    for what, names in (("file", [file.path for file in index.files]), ("artifact", [a.name for a in index.artifacts])):
        known: dict[str, str] = {}
        for name in names:
            if (why := misnamed(name)) is not None or (what == "artifact" and "/" in name):
                raise Broken(f"the {what} {name!r} cannot be in a bundle: {why or 'it is no name'}")
            if (other := known.setdefault(same_name(name), name)) != name or names.count(name) > 1:
                raise Broken(f"it lists {name!r} twice" if other == name else f"{name!r} is {other!r} on some systems")
    return index


def _strings(index: Index) -> Iterator[str]:
    """What people are shown of it."""
    yield from (index.license or "", index.vit_export)
    for artifact in index.artifacts:
        yield from (artifact.model, artifact.format, artifact.path)


def _content(folder: Path, path: str) -> bytes:
    if (size := (folder / path).stat().st_size) > _LARGEST:
        raise Broken(f"it has {size} bytes")
    return (folder / path).read_bytes()


def _listed(folder: Path, index: Index, files: frozenset[str]) -> Iterator[Problem]:
    """The index lists neither more nor less than there is, and each file is the one that it lists."""
    listed = {file.path: file for file in index.files}
    there = files - {INDEX, SIGNATURE}
    yield from (Problem(path, "it is not in the index") for path in sorted(there - listed.keys()))
    yield from (Problem(path, "the index lists it, and it is missing") for path in sorted(listed.keys() - there))
    for path in sorted(listed.keys() & there):
        said, size = listed[path], (folder / path).stat().st_size
        if size != said.bytes:
            yield Problem(path, f"it has {size} bytes, and the index says {said.bytes}")
        elif (found := file_digest(folder / path)) != said.sha256:
            yield Problem(path, f"it was changed: expected sha256 {said.sha256}, got {found}")
    names = {artifact.name for artifact in index.artifacts}
    for path in sorted(there):
        top, _, rest = path.partition("/")
        if path not in DOCUMENTS and (top != ARTIFACTS or rest.partition("/")[0] not in names):
            yield Problem(path, "it belongs to no artifact of the index")


def _artifacts(folder: Path, index: Index, files: frozenset[str], problems: list[Problem]) -> tuple[Packed, ...] | None:
    """Each with its manifest; None where something is wrong with one: then nothing can be compared with them."""
    before = len(problems)
    if not index.artifacts:
        problems.append(Problem(INDEX, "it lists no artifact"))
    packed = []
    by_path = {file.path: file for file in index.files}
    for entry in index.artifacts:
        place = f"{ARTIFACTS}/{entry.name}/{MANIFEST}"
        own = tuple(by_path[path] for path in sorted(by_path) if path.startswith(f"{ARTIFACTS}/{entry.name}/"))
        try:
            packed.append(_artifact(folder, entry, own, files, place, problems))
        except Broken as error:
            problems.append(Problem(place, str(error)))
        except VitExportError as error:
            said = f"{error.what}: expected {error.expected}, got {error.got}" if error.expected else error.what
            problems.append(Problem(place, said.replace(f"{folder}/", "")))
    return tuple(packed) if len(problems) == before else None


def _artifact(
    folder: Path,
    entry: IndexedArtifact,
    own: tuple[IndexedFile, ...],
    files: frozenset[str],
    place: str,
    problems: list[Problem],
) -> Packed:
    """Its manifest passed and speaks of these files, and the index says what it says."""
    if place not in files:
        raise Broken("it is missing")
    try:
        parse_unique_json(_content(folder, place))
    except ValueError as error:
        raise Broken(f"it cannot be read: {error}") from error
    root = folder / ARTIFACTS / entry.name
    manifest = read_manifest(root)
    if reasons := list(not_passed(manifest)):
        raise Broken(f"its verdict is not passed: {'; '.join(reasons)}")
    known = {f"{ARTIFACTS}/{entry.name}/{path}" for path in (MANIFEST, *shipped(root, manifest))}
    settings = manifest.settings
    if settings is None or f"{ARTIFACTS}/{entry.name}/{settings.shipped.path}" not in known:
        raise Broken("it names no runtime settings in ship/")
    file = root / settings.shipped.path
    if file.is_file() and file_digest(file) != settings.shipped.sha256:
        raise Broken(f"{settings.shipped.path} is not the one that it is about")
    there = {file.path for file in own}
    problems += [Problem(path, "its manifest does not speak of it") for path in sorted(there - known)]
    problems += [Problem(path, "its manifest speaks of it, and the index does not list it") for path in known - there]
    said, meant = entry.to_json(), IndexedArtifact.of(entry.name, f"{ARTIFACTS}/{entry.name}", manifest).to_json()
    for field, value in meant.items():
        if said[field] != value:
            problems.append(Problem(INDEX, f"{entry.name}: {field} is {said[field]}, and its manifest says {value}"))
    return Packed(entry.name, manifest, own)


def _documents(folder: Path, contents: Contents, files: frozenset[str], notes: list[str]) -> Iterator[Problem]:
    """Card, BOM and statement say what the manifests say: what this version would write of them."""
    for path in DOCUMENTS:
        if path not in files:
            yield Problem(path, "it is missing")
        elif path == STATEMENT or contents.vit_export == __version__:
            if (why := difference(path, _content(folder, path), contents)) is not None:
                yield Problem(path, why)
        else:
            by = f"vit-export {contents.vit_export} wrote it and this is {__version__}"
            notes.append(f"{path} was not compared with the manifests ({by}), only with its digest")


def _signature(folder: Path, files: frozenset[str], trust: Trust, *, allow_unsigned: bool) -> Signed | None:
    """Who signed. What was signed has to be what is there even if nobody was named to verify it by."""
    if SIGNATURE not in files:
        if allow_unsigned and trust.anyone:
            return None
        raise Broken("it is missing: the bundle is unsigned")
    found = signatures.read_signature(folder)
    signed = signatures.signed_by(found)
    meant = signatures.signed_files(found)
    there = files - {SIGNATURE}
    if more := sorted(there - meant.keys()):
        raise Broken(f"it does not cover {', '.join(more)}")
    if less := sorted(meant.keys() - there):
        raise Broken(f"it is about {', '.join(less)}, of which there is none here")
    if other := [path for path in sorted(there) if file_digest(folder / path) != meant[path]]:
        raise Broken(f"it is about another {', '.join(other)}")
    if trust.anyone:
        return signed
    signatures.require_valid(folder, found, signed, trust)
    return replace(signed, verified=True)
