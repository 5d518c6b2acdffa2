"""A request as it travels: its files by digest, and no path that a worker would have to share with the client."""

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
from export.progress import Progress
from export.request.evaluation import Evaluation
from export.request.request import Request
from export.targets.onnx.calibration import GOLDEN

_SEEDED = re.compile(r"seeded(:\d+)?")
_GOLDEN, _CALIBRATE, _EVAL = "golden", "calibrate", "eval"


@dataclass(frozen=True, slots=True)
class Shipment:
    """What a worker needs to know of a request. `trees`: by what asks for them; `weights`: pickled, by model.

    A label file's tree has the target's name and the path that the options have.
    """

    request: Request
    trees: Mapping[str, Tree]
    weights: Mapping[str, str]

    def digests(self, models: Sequence[str]) -> frozenset[str]:
        """Of all files that jobs of these models read."""
        own = {self.weights[model] for model in models if model in self.weights}
        return frozenset(own.union(*(tree.digests for tree in self.trees.values())))

    @contextmanager
    def opened(self, blobs: Blobs, scratch: Path) -> Iterator[Request]:
        """The request with its files below `scratch`; an error in the block names them as the client does."""
        placed = {
            what: (blobs.place(tree, scratch / f"input-{number}"), what)
            for number, (what, tree) in enumerate(self.trees.items())
        }
        paths = {what: path for what, (path, _) in placed.items()}
        evaluation = self.request.evaluation
        options = {name: _with_files(own, paths) for name, own in self.request.options.items()}
        request = replace(
            self.request,
            out=scratch / "made",
            golden=paths.get(_GOLDEN, self.request.golden),
            calibrate=str(paths.get(_CALIBRATE, self.request.calibrate or "")) or None,
            evaluation=None if evaluation is None else Evaluation(paths[_EVAL]),
            options=options,
        )
        original = {str(path): self._named(what) for what, path in paths.items()}
        try:
            yield request
        except VitExportError as error:
            for name, value in vars(error).items():
                if isinstance(value, str):
                    for path, meant in original.items():
                        value = value.replace(path, meant)  # noqa: PLW2901
                    setattr(error, name, value)
            raise

    def weights_of(self, blobs: Blobs, models: Sequence[str]) -> dict[str, Weights]:
        """Those that were sent; a worker draws seeded ones itself."""
        sent = {model: self.weights[model] for model in models if model in self.weights}
        return {model: pickle.loads(blobs.read(digest)) for model, digest in sent.items()}  # noqa: S301 - the client's

    def _named(self, what: str) -> str:
        request = self.request
        known = {_GOLDEN: request.golden, _CALIBRATE: request.calibrate, _EVAL: request.evaluation and
                 request.evaluation.folder}  # fmt: skip
        return str(known.get(what) or what)


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


def ship(request: Request, models: Sequence[str], contents: Contents, progress: Progress) -> Shipment:
    """Hash every file that the request names, and read the weights of `models`.

    Raises:
        BadInput: a file or the weights cannot be used.
        DownloadFailed: `-w pretrained` is unavailable.
    """
    named: dict[str, Path] = {}
    if request.golden is not None:
        named[_GOLDEN] = request.golden
    if request.calibrate not in (None, GOLDEN):
        named[_CALIBRATE] = Path(str(request.calibrate))
    if request.evaluation is not None:
        named[_EVAL] = request.evaluation.folder
    for own in request.options.values():
        named |= {str(path): path for path in own.files()}
    trees = {what: _tree(path, contents) for what, path in named.items()}
    weights: dict[str, str] = {}
    if _SEEDED.fullmatch(request.weights) is None:
        reading = Reading(ema=request.ema, override=request.override, head=request.head)
        for model in models:
            progress.step(f"{model}: weights")
            found = find_weights(request.weights, model, request.image_size, progress.download, reading)
            weights[model] = contents.add_bytes(pickle.dumps(found))
    return Shipment(request, trees, weights)


def _tree(path: Path, contents: Contents) -> Tree:
    try:
        return contents.add_tree(path)
    except OSError as error:
        raise BadInput(
            f"cannot read {path}",
            expected="files that can be sent to workers",
            got=error.strerror or str(error),
            next_step="name files that this host can read",
        ) from error


def _with_files(options: Any, paths: Mapping[str, Path]) -> Any:
    """A target's options with the paths that its files have here."""
    moved = {
        each.name: type(value)(paths[str(value)])
        for each in dataclasses.fields(options)
        if isinstance(value := getattr(options, each.name), str | Path) and str(value) in paths
    }
    return replace(options, **moved) if moved else options
