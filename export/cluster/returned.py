"""What a worker gave back, checked before anybody sees it: every byte by its digest, the folder by its manifest."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from efficientvit.errors import BadInput, Refused, VitExportError
from efficientvit.files import parse_json
from export.cluster.blobs import is_inside
from export.cluster.tasks import Folder
from export.folder import atomic
from export.folder.exported import artifact_of, open_exported, read_manifest
from export.folder.layout import MANIFEST

_GOOD = ("verified", "built", "not_run")


class NotWhatItSays(Refused):
    """A worker returned a file of another digest, or a folder that its manifest does not describe."""


def publish(folder: Folder, contents: Mapping[str, bytes], out: Path) -> tuple[Path, dict[str, Any]]:
    """Write the folder below `out`, check it, and put it in its place in one step; its path and its manifest.

    Raises:
        NotWhatItSays: it is refused, and nothing of it is left.
        BadOutput: it cannot be written.
    """
    if not is_inside(folder.name) or "/" in folder.name or not folder.name.startswith(folder.slug):
        raise _refused(folder.slug, "a folder named after the artifact", folder.name)
    with atomic.new_folder(out, folder.slug) as partial:
        _write(folder, partial, contents)
        status = _checked(folder.slug, partial)
        final = out / (folder.slug if status in _GOOD else f"{folder.slug}.{status}")
        if final.name != folder.name:
            raise _refused(folder.slug, final.name, folder.name)
        manifest: dict[str, Any] = parse_json((partial / MANIFEST).read_bytes())
        atomic.publish(partial, final)
    if status in _GOOD:
        atomic.remove_failures(out, folder.slug)
    return final, manifest


def publish_into(
    out: Path, folders: Sequence[Folder], contents: Mapping[str, bytes], check: Callable[[Path], object]
) -> None:
    """Write the folders' files, check them, and put each entry in its place in `out` in one step, beside what is there.

    `check`: of where they lie until then; it raises where they are not what else the worker says of them.

    Raises:
        NotWhatItSays: something is refused, and nothing of it is left.
        BadOutput: it cannot be written.
    """
    with atomic.new_folder(out, out.name) as partial:
        for folder in folders:
            _write(folder, partial, contents)
        for manifest in partial.glob(f"*/{MANIFEST}"):
            _checked(manifest.parent.name, manifest.parent)
        try:
            check(partial)
        except Refused as error:
            raise _refused(out.name, "files that its result describes", _said(error)) from error
        for entry in sorted(partial.iterdir()):
            atomic.publish(entry, out / entry.name)
            atomic.remove_failures(out, entry.name)


def content_of(digest: str, contents: Mapping[str, bytes], what: str) -> bytes:
    """The bytes that were announced under this digest.

    Raises:
        NotWhatItSays: they are others, or none came.
    """
    content = contents.get(digest)
    found = "nothing" if content is None else f"sha256 {hashlib.sha256(content).hexdigest()}"
    if content is None or found != f"sha256 {digest}":
        raise NotWhatItSays(
            f"a worker returned {what} that is not the file that it announced",
            expected=f"sha256 {digest}",
            got=found,
            next_step="look after that worker's memory, disk and network; another one is asked",
        )
    return content


def _write(folder: Folder, partial: Path, contents: Mapping[str, bytes]) -> None:
    for name, digest in folder.files.items():
        if not is_inside(name):
            raise _refused(folder.slug, "files inside the folder", name)
        content = content_of(digest, contents, f"{folder.slug}/{name}")
        path = partial / name
        with atomic.writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def _checked(slug: str, partial: Path) -> str:
    """The manifest's status, once it is known that the files are those that the manifest is about."""
    try:
        manifest = read_manifest(partial)
        if manifest.status in _GOOD:
            open_exported(partial)
        elif manifest.stages and manifest.stages[-1].artifact is not None and manifest.stages[-1].artifact.path:
            artifact_of(partial, manifest)
    except (BadInput, Refused) as error:
        raise _refused(slug, "files that its manifest describes", _said(error)) from error
    return str(manifest.status)


def _said(error: VitExportError) -> str:
    return f"{error.what}: expected {error.expected}, got {error.got}"


def _refused(slug: str, expected: str, got: str) -> NotWhatItSays:
    return NotWhatItSays(
        f"a worker returned a folder for {slug} that is refused",
        expected=expected,
        got=got,
        next_step="look after that worker; another one is asked",
    )
