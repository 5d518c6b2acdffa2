"""Exports that are finished: what of them is shown, and those that need not be made again because nothing changed.

A verdict that was kept is bound to all that it was made of and with: weights, options, golden and calibration images,
this project's code, the tools, the runtimes, the environment, the CPU. What failed or was rejected is never kept.
"""

import dataclasses
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from efficientvit.digests import digest_of, file_digest
from efficientvit.errors import BadCheckpoint
from efficientvit.files import parse_json
from efficientvit.images.label_file import IMAGENET, NONE
from efficientvit.weights.pretrained import cached_pretrained
from efficientvit.weights.source import files_of
from export.cache.fingerprint import key_of
from export.cache.store import Cache
from export.folder import atomic as folder
from export.folder.layout import DEVICE_REPORTS, MANIFEST
from export.folder.manifest import PASSED
from export.request.request import Request
from export.targets.onnx.calibration import GOLDEN
from export.targets.target import Job

if TYPE_CHECKING:
    from export.pipeline.outcome import Outcome
    from export.pipeline.task import Task

_EXPORT = "export"


@dataclass(frozen=True, slots=True)
class Finished:
    """One artifact's folder and its manifest.

    `before`: when it was verified, seconds since 1970, where nothing has changed since. `on_device`: what it exits with
    after a device of the cluster has run it.
    """

    job: Job
    slug: str
    folder: Path
    manifest: Mapping[str, Any]
    before: float | None = None
    on_device: int | None = None

    @property
    def code(self) -> int:
        """What this one alone would exit with."""
        return int(self.manifest["exit_code"]) if self.on_device is None else self.on_device


def of(outcome: "Outcome") -> Finished:
    """What was just handed over."""
    assert outcome.folder is not None and outcome.record is not None, "an outcome that was handed over has both"
    return Finished(outcome.job, outcome.slug, outcome.folder, outcome.record)


def key_of_export(request: Request, job: Job) -> str | None:
    """Names all that the export depends on; None where that can't be known without doing it."""
    if not job.options.reproducible:
        return None
    # What is in the job, or of no consequence, is left out.
    asked = {
        name: value
        for name, value in _fields(request).items()
        if name not in ("models", "targets", "precision", "precisions", "out", "weights", "options")
    }
    labels = request.labels
    try:
        read = {
            "weights": _weights(request.weights, job.model),
            "golden": request.golden and _named(request.golden),
            "calibrate": None if job.calibrate in (None, GOLDEN) else _named(str(job.calibrate)),
            "files": [_named(path) for path in job.options.files()],
            "labels": labels if labels in (None, IMAGENET, NONE) else _named(str(labels)),
            "eval": request.evaluation and _named(request.evaluation.folder),
        }
    except (OSError, _Unreadable, BadCheckpoint):
        return None
    return key_of(job=job, asked=asked, read=read)


def keeping(cache: Cache | None, tasks: "Iterable[Task]") -> "Callable[[Outcome, Path], None] | None":
    """What keeps the outcomes of these tasks before they are published, under the keys from before the work.

    Nothing is kept of what was read while somebody changed it: the key is made once more.
    """
    if cache is None:
        return None
    by_job = {id(task.job): task for task in tasks}

    def keep(outcome: "Outcome", made: Path) -> None:
        task = by_job[id(outcome.job)]
        if task.key is not None and outcome.status in PASSED and task.key == key_of_export(task.request, task.job):
            record = {"slug": outcome.slug}
            cache.keep(
                _EXPORT, task.key, outcome.slug, record, lambda into: shutil.copytree(made, into, dirs_exist_ok=True)
            )

    return keep


def find(cache: Cache, key: str, request: Request, job: Job) -> Finished | None:
    """The export of exactly this, put into the request's folder if it does not lie there already.

    Raises:
        BadOutput: it cannot be written there.
    """
    if not cache.has(_EXPORT, key):  # the output folder stays untouched
        return None
    with folder.new_folder(request.out, f"cached-{key[:12]}") as partial:
        entry = cache.fetch(_EXPORT, key, partial)
        if entry is None:
            return None
        slug = str(entry.record["slug"])
        manifest, final = _read(partial), request.out / slug
        if not _lies_there(entry.files, manifest, final):
            folder.publish(partial, final)
    folder.remove_failures(request.out, slug)
    return Finished(job, slug, final, manifest, entry.made)


def _lies_there(files: Mapping[str, str], manifest: Mapping[str, Any], final: Path) -> bool:
    """Every file as it was kept and no other; but devices may have reported since."""
    try:
        there = {path.relative_to(final).as_posix() for path in final.rglob("*") if path.is_file()}
        if {name for name in there if not name.startswith(f"{DEVICE_REPORTS}/")} != set(files):
            return False
        if any(file_digest(final / name) != sha256 for name, sha256 in files.items() if name != MANIFEST):
            return False
        return {**_read(final), "devices": []} == {**manifest, "devices": []}
    except (OSError, ValueError):
        return False


def _read(where: Path) -> dict[str, Any]:
    found: dict[str, Any] = parse_json((where / MANIFEST).read_bytes())
    return found


def _fields(value: Any) -> dict[str, Any]:
    return {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}


class _Unreadable(Exception):
    """What is named can't be read twice, or isn't there yet: whoever uses it says so."""


def _weights(option: str, model: str) -> object:
    """What `--weights` names, by its bytes; and of published ones also who publishes them."""
    if option in ("auto", "pretrained"):
        fetched = cached_pretrained(model)
        if fetched is None:  # whether they can be had is for the network to say
            raise _Unreadable
        return [fetched.sha256, fetched.source, fetched.digest_published]
    if option.startswith("seeded"):
        return option
    files = files_of(option)
    if not files:  # the hub's, or a name whose meaning the network decides
        raise _Unreadable
    return [option, *map(_named, files)]


def _named(name: str | Path) -> list[str]:
    """A file's or a folder's name, and the digest of what is in it."""
    path = Path(name)
    if path.is_file():
        return [str(name), file_digest(path)]
    if not path.is_dir():
        raise _Unreadable
    files = sorted(file for file in path.rglob("*") if not file.is_dir())
    if not all(file.is_file() for file in files):
        raise _Unreadable
    return [str(name), digest_of((file.relative_to(path).as_posix(), file_digest(file)) for file in files)]
