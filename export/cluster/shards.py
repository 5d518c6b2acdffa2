"""`--eval` on a cluster: other workers with the same CPU answer batches of labeled images too.

The worker that judges an artifact never waits for another: it answers batches itself until all are answered, and takes
what others have finished meanwhile. Whoever dies or is busy costs time and nothing else.
"""

import hashlib
import pickle
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from export.cluster.abilities import same_bits
from runtimes.artifact import Artifact
from validation.accuracy.sharing import Answering, Pixels, Rows, Run
from validation.accuracy.top1 import ArtifactAnswers

if TYPE_CHECKING:
    from distributed import Client, Future

_SHARD_BYTES = 6_000_000
_AHEAD = 2
"""Shards that wait for each worker."""


@dataclass(frozen=True, slots=True)
class Across:
    """The other `workers` of a cluster, by their addresses; only those that offer `same_bits` and `needs` help."""

    client: "Client"
    workers: Sequence[str]
    needs: frozenset[str]

    def answers(
        self, answering: Answering, pixels: Pixels, batches: Sequence[Rows], step: Callable[[int], None]
    ) -> list[NDArray[np.floating]]:
        """Others from the first batch on, this process from the last."""
        shards = _shards(batches, pixels)
        found: dict[int, list[NDArray[np.floating]]] = {}
        helping = _Helping(self, answering, pixels, batches, shards)
        try:
            with answering.opened() as run:
                while len(found) < len(shards):
                    helping.take(found)
                    helping.give(found)
                    mine = helping.mine(found)
                    if mine is None:
                        continue
                    answers = []
                    for number in shards[mine]:
                        step(number)
                        answers.append(run(pixels[batches[number]]))
                    found[mine] = answers
        finally:
            helping.stop()
        return [answer for place in range(len(shards)) for answer in found[place]]


class _Helping:
    """The shards that others have."""

    def __init__(
        self, across: Across, answering: Answering, pixels: Pixels, batches: Sequence[Rows], shards: Sequence[range]
    ) -> None:
        self._across, self._pixels, self._batches, self._shards = across, pixels, batches, shards
        self._given: dict[int, Future[list[NDArray[np.floating]]]] = {}
        self._lost: set[int] = set()
        self._content: Any = None
        self._usable = len(shards) > 1 and bool(across.workers)
        if self._usable:
            self._content = pickle.dumps(_portable(answering))
            self._digest = hashlib.sha256(self._content).hexdigest()

    def take(self, found: dict[int, list[NDArray[np.floating]]]) -> None:
        """What has come; a shard that failed elsewhere is answered here."""
        for place, future in list(self._given.items()):
            if not future.done():
                continue
            del self._given[place]
            if future.status == "finished" and place not in found:
                found[place] = future.result()
            elif place not in found:
                self._lost.add(place)
            future.release()

    def give(self, found: dict[int, list[NDArray[np.floating]]]) -> None:
        """The first shards that nobody has, a few ahead."""
        if not self._usable:
            return
        free = [
            place
            for place in range(len(self._shards) - 1)
            if place not in found and place not in self._given and place not in self._lost
        ]
        for place in free[: max(0, _AHEAD * len(self._across.workers) - len(self._given))]:
            rows = [self._batches[number] for number in self._shards[place]]
            self._given[place] = self._across.client.submit(
                answer_shard,
                self._held(),
                self._digest,
                [self._pixels[each] for each in rows],
                workers=list(self._across.workers),
                resources=dict.fromkeys(self._across.needs | {same_bits()}, 1),
                pure=False,
            )

    def _held(self) -> Any:
        """What answers, sent to the cluster once: workers have it from each other."""
        if isinstance(self._content, bytes):
            self._content = self._across.client.scatter(self._content, workers=list(self._across.workers), hash=False)
        return self._content

    def mine(self, found: dict[int, list[NDArray[np.floating]]]) -> int | None:
        """The last shard that nobody has, or else the last that has not come."""
        left = [place for place in range(len(self._shards)) if place not in found]
        nobody = [place for place in left if place not in self._given]
        return max(nobody or left, default=None)

    def stop(self) -> None:
        """What has not come is not needed."""
        for future in self._given.values():
            future.cancel()


def answer_shard(content: bytes, digest: str, batches: list[Pixels]) -> list[NDArray[np.floating]]:
    """On another worker: the answers to these batches."""
    from runtimes.host.threads import one_thread

    with one_thread():
        run = _ready(digest, content)
        return [run(pixels) for pixels in batches]


_open: dict[str, tuple[ExitStack, Run]] = {}


def _ready(digest: str, content: bytes) -> Run:
    """What answers, opened once for all shards of it in a row."""
    if digest not in _open:
        while _open:
            _, (closing, _) = _open.popitem()
            closing.close()
        closing = ExitStack()
        _open[digest] = closing, closing.enter_context(pickle.loads(content).opened())  # noqa: S301 - the cluster's
    return _open[digest][1]


@dataclass(frozen=True, slots=True)
class _Carried:
    """An artifact's files with it."""

    answers: ArtifactAnswers
    files: tuple[tuple[str, bytes], ...]

    @contextmanager
    def opened(self) -> Iterator[Run]:
        """From files of its own."""
        artifact: Artifact = self.answers.artifact
        with tempfile.TemporaryDirectory(prefix="vit-export-shard-") as folder:
            for name, content in self.files:
                path = Path(folder) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            moved = replace(artifact, path=Path(folder) / artifact.path.name)
            with replace(self.answers, artifact=moved).opened() as run:
                yield run


def _portable(answering: Answering) -> Answering:
    if not isinstance(answering, ArtifactAnswers):
        return answering
    with tempfile.TemporaryDirectory(prefix="vit-export-shard-") as folder:
        answering.artifact.copied_to(Path(folder))
        paths = sorted(path for path in Path(folder).rglob("*") if path.is_file())
        files = tuple((path.relative_to(folder).as_posix(), path.read_bytes()) for path in paths)
    return _Carried(answering, files)


def _shards(batches: Sequence[Rows], pixels: Pixels) -> list[range]:
    """Batches in a row, of some megabytes together."""
    if not batches:
        return []
    size = len(batches[0]) * int(np.prod(pixels.shape[1:]))
    count = max(1, _SHARD_BYTES // size)
    return [range(start, min(start + count, len(batches))) for start in range(0, len(batches), count)]
