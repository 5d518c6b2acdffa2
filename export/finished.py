"""Exports that are finished: what of them is shown, and those that need not be made again because nothing changed.

A verdict that was kept is bound to all that it was made of and with: weights, options, golden and calibration images,
this project's code, the tools, the runtimes, the CPU. What failed or was rejected is never kept.
"""

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from efficientvit.pretrained import cached_pretrained
from export import folder
from export.cache import Cache, key_of
from export.request import Job, Request
from runtimes.artifact import digest

MANIFEST = "manifest.json"
_EXPORT = "export"
_KEPT = ("verified", "built")
_NOT_OURS = (MANIFEST, "report.html")
"""What `attach` changes afterwards."""

_ELSEWHERE = frozenset({"models", "targets", "precision", "precisions", "out"})
"""Of a request: in the job, or of no consequence."""


@dataclass(frozen=True, slots=True)
class Finished:
    """One artifact's folder and its manifest.

    `before`: when it was verified, seconds since 1970, where nothing has changed since.
    """

    job: Job
    slug: str
    folder: Path
    manifest: Mapping[str, Any]
    before: float | None = None

    @property
    def code(self) -> int:
        """What this one alone would exit with."""
        return int(self.manifest["exit_code"])


def of(job: Job, slug: str, where: Path | None) -> Finished:
    """What was just handed over."""
    assert where is not None, "an outcome that was handed over has its folder"
    return Finished(job, slug, where, _read(where))


def key_of_export(request: Request, job: Job) -> str | None:
    """Names all that the export depends on; None where that can't be known without doing it."""
    weights = request.weights
    if weights in ("auto", "pretrained"):
        fetched = cached_pretrained(job.model)
        if fetched is None:  # whether they can be had is for the network to say
            return None
        weights = fetched.sha256
    if job.tensorrt is not None and job.tensorrt.timing_cache is not None:
        return None
    asked = {name: _content(value) for name, value in _fields(request).items() if name not in _ELSEWHERE}
    return key_of(job=_content(job), asked=asked, weights=_content(weights))


def keep(cache: Cache, key: str, finished: Finished) -> None:
    """Keep what passed."""
    if finished.manifest["status"] not in _KEPT:
        return
    source, record = finished.folder, {"slug": finished.slug}
    cache.keep(_EXPORT, key, finished.slug, record, lambda into: shutil.copytree(source, into, dirs_exist_ok=True))


def find(cache: Cache, key: str, request: Request, job: Job) -> Finished | None:
    """The export of exactly this, put into the request's folder if it does not lie there already.

    Raises:
        BadOutput: it cannot be written there.
    """
    entry = cache.find(_EXPORT, key)
    if entry is None:
        return None
    slug = str(entry.record["slug"])
    final = request.out / slug
    if not _lies_there(entry.files, entry.folder, final):
        with folder.new_folder(request.out, slug) as partial, folder.writing(final):
            for name in entry.files:
                copy = partial / name
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(entry.folder / name, copy)
            folder.publish(partial, final)
    folder.remove_failures(request.out, slug)
    return Finished(job, slug, final, _read(final), entry.made)


def _lies_there(files: Mapping[str, str], kept: Path, final: Path) -> bool:
    """Every file as it was kept; the manifest may have devices' reports in it by now."""
    for name, sha256 in files.items():
        if name not in _NOT_OURS and (not (final / name).is_file() or digest(final / name) != sha256):
            return False
    try:
        return {**_read(final), "devices": []} == {**_read(kept), "devices": []}
    except (OSError, ValueError):
        return False


def _read(where: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((where / MANIFEST).read_text(encoding="utf-8"))
    return found


def _fields(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def _content(value: Any) -> Any:
    """With what lies in the files and folders that are named, in the place of nothing: their names stay too."""
    if isinstance(value, Enum) or value is None:
        return value
    if dataclasses.is_dataclass(value):
        return {name: _content(each) for name, each in _fields(value).items()}
    if isinstance(value, Mapping):
        return {str(name): _content(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_content(each) for each in value]
    if isinstance(value, str | Path) and _exists(Path(value)):
        return [str(value), _files_digest(Path(value))]
    return value


def _files_digest(path: Path) -> str:
    if path.is_file():
        return digest(path)
    total = hashlib.sha256()
    for file in sorted(file for file in path.rglob("*") if file.is_file()):
        total.update(f"{file.relative_to(path).as_posix()}\0{digest(file)}\n".encode())
    return total.hexdigest()


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a text that is no path
        return False
