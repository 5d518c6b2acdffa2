"""Tasks as they travel: their files by digest, and no path that a worker would have to share with the client."""

import dataclasses
import hashlib
import pickle
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from efficientvit.errors import BadInput, VitExportError
from efficientvit.weights.reading import Reading
from efficientvit.weights.source import Weights, find_weights
from export.cluster.blobs import Blobs, Tree
from export.pipeline.task import Task
from export.request.evaluation import Evaluation
from export.request.request import Request
from export.targets.onnx.calibration import GOLDEN
from export.targets.target import Job
from export.workers.progress import Progress

SEEDED = re.compile(r"seeded(:\d+)?")
"""Weights that a worker draws itself."""


@dataclass(frozen=True, slots=True)
class Shipment:
    """Tasks of one model that are prepared alike. `trees`: what lies at each path that they name.

    `weights`: digest of the model's, pickled; None where a worker draws them itself.
    """

    tasks: tuple[Task, ...]
    trees: Mapping[str, Tree]
    weights: str | None

    @property
    def model(self) -> str:
        """Of all tasks."""
        return self.tasks[0].job.model

    @property
    def request(self) -> Request:
        """As the client has it: what all tasks are prepared with."""
        return self.tasks[0].request

    @property
    def digests(self) -> frozenset[str]:
        """Of all files that the tasks read."""
        own = frozenset() if self.weights is None else frozenset({self.weights})
        return own.union(*(tree.digests for tree in self.trees.values()))

    @contextmanager
    def opened(self, blobs: Blobs, scratch: Path) -> Iterator[tuple[Task, ...]]:
        """The tasks with their files below `scratch`; an error in the block names them as the client does."""
        with naming(blobs, scratch, self.trees) as paths:
            yield tuple(
                replace(task, request=_request(task.request, paths, scratch / "made"), job=_job(task.job, paths))
                for task in self.tasks
            )

    def weights_of(self, blobs: Blobs) -> Weights | None:
        """Those that were sent; a worker draws seeded ones itself."""
        if self.weights is None:
            return None
        weights: Weights = pickle.loads(blobs.read(self.weights))  # noqa: S301 - the client's
        return weights


@contextmanager
def naming(
    blobs: Blobs, scratch: Path, trees: Mapping[str, Tree], out: str | None = None
) -> Iterator[Mapping[str, str]]:
    """Where the trees lie below `scratch`, by the paths of the client; an error in the block names them as it does.

    `out`: a folder of the client, for which there is a new one.
    """
    paths = {
        path: str(blobs.place(tree, scratch / f"input-{number}")) for number, (path, tree) in enumerate(trees.items())
    }
    if out is not None:
        made = scratch / "made" / Path(out).name
        made.mkdir(parents=True)
        paths[out] = str(made)
    try:
        yield paths
    except VitExportError as error:
        for name, value in vars(error).items():
            if isinstance(value, str):
                setattr(error, name, as_named(value, paths))
        raise


def as_named(text: str, paths: Mapping[str, str]) -> str:
    """With the client's own paths, in place of where the files lie on the worker."""
    for path, placed in paths.items():
        text = text.replace(placed, path)
    return text


@dataclass(slots=True)
class Contents:
    """What a client can send, by digest: files of its own, or bytes."""

    files: dict[str, Path | bytes] = field(default_factory=dict)

    def add_bytes(self, content: bytes) -> str:
        """Their digest."""
        digest = hashlib.sha256(content).hexdigest()
        self.files[digest] = content
        return digest

    def add_tree(self, path: Path) -> Tree:
        """The file or folder, as it is now."""
        tree = Tree.of(path)
        for name, digest in tree.files:
            self.files[digest] = path / name if name else path
        return tree

    def size_bytes(self, digest: str) -> int:
        """Of one file."""
        content = self.files[digest]
        return len(content) if isinstance(content, bytes) else content.stat().st_size

    def read(self, digest: str) -> bytes:
        """Its content; whoever keeps it hashes it."""
        content = self.files[digest]
        return content if isinstance(content, bytes) else content.read_bytes()


@dataclass(slots=True)
class Shipping:
    """What tasks name is read once, for all of them."""

    contents: Contents
    progress: Progress
    _trees: dict[str, Tree] = field(default_factory=dict)
    _weights: dict[tuple[object, ...], str] = field(default_factory=dict)

    def of(self, tasks: Sequence[Task]) -> Shipment:
        """Hash every file that the tasks name, and read their weights. All are of one model and prepared alike.

        Raises:
            BadInput: a file or the weights cannot be used.
            DownloadFailed: `-w pretrained` is unavailable.
        """
        named = dict.fromkeys(str(path) for task in tasks for path in _files(task))
        trees = {path: self.tree(path) for path in named}
        return Shipment(tuple(tasks), trees, self._read(tasks[0].request, tasks[0].job.model))

    def _read(self, request: Request, model: str) -> str | None:
        """The digest of the weights."""
        if SEEDED.fullmatch(request.weights) is not None:
            return None
        reading = Reading(ema=request.ema, override=request.override, head=request.head)
        asked = (request.weights, model, request.image_size, reading)
        if asked not in self._weights:
            self.progress.step(f"{model}: weights")
            found = find_weights(request.weights, model, request.image_size, self.progress.download, reading)
            self._weights[asked] = self.contents.add_bytes(pickle.dumps(found))
        return self._weights[asked]

    def tree(self, path: str) -> Tree:
        """The file or folder, hashed once.

        Raises:
            BadInput: it cannot be read.
        """
        try:
            return self._trees.get(path) or self._trees.setdefault(path, self.contents.add_tree(Path(path)))
        except OSError as error:
            raise BadInput(
                f"cannot read {path}",
                expected="files that can be sent to workers",
                got=error.strerror or str(error),
                next_step="name files that this host can read",
            ) from error


def _files(task: Task) -> Iterator[Path]:
    """Files and folders that a task names, other than the weights."""
    request = task.request
    if request.golden is not None:
        yield request.golden
    if request.evaluation is not None:
        yield request.evaluation.folder
    for calibrate in (request.calibrate, task.job.calibrate):
        if calibrate not in (None, GOLDEN):
            yield Path(str(calibrate))
    for own in (*request.options.values(), task.job.options):
        yield from own.files()


def _request(request: Request, paths: Mapping[str, str], out: Path) -> Request:
    """With the paths that its files have here."""
    golden, evaluation = request.golden, request.evaluation
    return replace(
        request,
        out=out,
        golden=None if golden is None else Path(paths[str(golden)]),
        calibrate=moved(request.calibrate, paths),
        evaluation=None if evaluation is None else Evaluation(Path(paths[str(evaluation.folder)])),
        options={name: _with_files(own, paths) for name, own in request.options.items()},
    )


def _job(job: Job, paths: Mapping[str, str]) -> Job:
    return replace(job, calibrate=moved(job.calibrate, paths), options=_with_files(job.options, paths))


def moved(calibrate: str | None, paths: Mapping[str, str]) -> str | None:
    """What int8 is calibrated on, where it lies on the worker."""
    return calibrate if calibrate in (None, GOLDEN) else paths[str(Path(str(calibrate)))]


def _with_files(options: Any, paths: Mapping[str, str]) -> Any:
    """A target's options with the paths that its files have here."""
    files = set(options.files())
    moved = {
        each.name: type(value)(paths[str(Path(value))])
        for each in dataclasses.fields(options)
        if isinstance(value := getattr(options, each.name), str | Path) and Path(value) in files
    }
    return replace(options, **moved) if moved else options
