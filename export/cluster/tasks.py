"""What runs on a worker. Every answer says where it was given; only a defect of ours is raised there."""

import hashlib
import os
import pickle
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Protocol, cast

from efficientvit.errors import HostShortage, VitExportError
from export.cache.fingerprint import unchanged
from export.cache.store import default_cache
from export.cluster import kit_run
from export.cluster.abilities import needed_for
from export.cluster.blobs import Blobs, Tree
from export.cluster.shards import Across
from export.cluster.shipment import Shipment
from export.pipeline import finished
from export.pipeline.tasks import Unit, outcomes_of
from export.workers.exclusive import Exclusive
from export.workers.progress import Progress
from runtimes.host.shortage import shortage_of
from validation.accuracy.sharing import Alone, Sharing, sharing

_SHIPPED = "shipped"


@dataclass(frozen=True, slots=True)
class Folder:
    """A finished folder, or what a call wrote: the number of its task, names and digests of its files."""

    number: int
    slug: str
    name: str
    files: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Answer:
    """Of one task. `worker`: its address. One of the others is given.

    `missing`: digests of files that the worker has to be sent first. `unfit`: the host cannot do it, another may.
    `error`: what the work itself came to. `contents`: of the folders and the report, by the digest that the worker
    found; whoever takes them hashes them again.
    """

    worker: str
    missing: frozenset[str] = frozenset()
    unfit: VitExportError | None = None
    error: VitExportError | None = None
    folders: tuple[Folder, ...] = ()
    report: str | None = None
    contents: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Making:
    """Tasks of one model for one worker; `turn`: the unit's.

    `topic`: where progress is logged. `cached`: it may use what it kept.
    """

    shipment: Shipment
    command: tuple[str, ...]
    topic: str
    turn: int | None
    cached: bool

    @property
    def digests(self) -> frozenset[str]:
        """Of the files that it needs."""
        return self.shipment.digests

    def done(self, blobs: Blobs, scratch: Path, worker: str, others: Sequence[str]) -> Answer:
        """Make, judge, time; `others` help with labeled images."""
        cache = default_cache() if self.cached else None
        exclusive, asked = only_one_measures(), self.shipment.tasks
        with (
            exclusive.working(),
            sharing(self._shared(others)),
            self.shipment.opened(blobs, scratch) as tasks,
        ):
            # The keys are of what the client has: elsewhere they are others, and nothing is kept.
            keyed = [replace(task, request=each.request) for task, each in zip(tasks, asked, strict=True)]
            outcomes = outcomes_of(
                Unit(tasks, self.turn),
                cast(Progress, Logged(self.topic)),
                self.command,
                cache,
                exclusive=exclusive,
                weights=self.shipment.weights_of(blobs),
                keyed=keyed,
            )
            folders, contents = [], dict[str, bytes]()
            for task, outcome in outcomes:
                if isinstance(outcome.error, HostShortage):  # another host may have what this one lacks
                    raise outcome.error
                folders.append(_folder(task.number, finished.of(outcome), contents))
        if cache is not None:
            cache.prune()
        return Answer(worker, folders=tuple(folders), contents=contents)

    def _shared(self, others: Sequence[str]) -> Sharing:
        needs = needed_for((task.job for task in self.shipment.tasks), timed=False)
        return helped(None if self.shipment.request.evaluation is None else (needs, others))


@dataclass(frozen=True, slots=True)
class Checking:
    """A device kit to be run by a worker that has the device. `script`: what runs it, in the kit.

    `number`: of the task that made the kit.
    """

    number: int
    kit: Tree
    script: str
    timed: bool
    topic: str

    @property
    def digests(self) -> frozenset[str]:
        """Of the files that it needs."""
        return self.kit.digests

    def done(self, blobs: Blobs, scratch: Path, worker: str, _: Sequence[str]) -> Answer:
        """The report of the kit's own script."""
        exclusive = only_one_measures()
        with exclusive.working(), exclusive.alone():
            Logged(self.topic).step(f"{self.script}: on {worker}")
            content = kit_run.report(blobs.place(self.kit, scratch), self.script, timed=self.timed)
        digest = hashlib.sha256(content).hexdigest()
        return Answer(worker, report=digest, contents={digest: content})


class Doing(Protocol):
    """A task, with the digests of the files that it needs."""

    @property
    def digests(self) -> frozenset[str]:
        """Of what has to be here first."""

    def done(self, blobs: Blobs, scratch: Path, worker: str, others: Sequence[str]) -> Answer:
        """Do it. `worker`: this one's address; `others`: of those that may work for the client."""


def do(task: Doing, crew: Sequence[str]) -> Answer:
    """A task, on the worker that this is called on. `crew`: the workers that may work for this client."""
    from distributed.worker import get_worker

    worker = get_worker()
    address, folder = str(worker.address), Path(worker.local_directory)
    blobs = Blobs(folder / _SHIPPED)
    try:
        if not unchanged():
            raise HostShortage(
                f"the installation of the worker {address} has changed since it started",
                next_step="start the worker again",
            )
        if missing := blobs.missing(task.digests):
            return Answer(address, missing=missing)
        with tempfile.TemporaryDirectory(prefix="job-", dir=folder) as scratch:
            return task.done(blobs, Path(scratch), address, [each for each in crew if each != address])
    except HostShortage as error:
        return Answer(address, unfit=error)
    except VitExportError as error:
        shortage = shortage_of(error)  # a folder that cannot be written is the request's fault on one host alone
        return Answer(address, unfit=shortage) if shortage is not None else Answer(address, error=error)
    except Exception as error:
        if (shortage := shortage_of(error)) is None:
            raise
        return Answer(address, unfit=shortage)
    finally:
        blobs.prune()


async def receive(contents: Mapping[str, bytes], dask_worker: Any) -> None:
    """Keep files that a client sends; runs beside the worker's task.

    Raises:
        ValueError: one has another digest.
        OSError: it cannot be written.
    """
    import asyncio

    blobs = Blobs(Path(dask_worker.local_directory) / _SHIPPED)
    for digest, content in contents.items():
        await asyncio.to_thread(blobs.put, digest, content)


class Abandoned(BaseException):
    """Nobody waits for this task any more. No `Exception`: nothing on the way up may take it for a failed stage."""


class Logged:
    """`Progress` on a worker: each call becomes an event at the scheduler. Raises where the task was canceled."""

    def __init__(self, topic: str) -> None:
        self._topic = topic

    def __getattr__(self, name: str) -> Callable[..., None]:
        from distributed.worker import get_worker

        worker = get_worker()
        task, address = worker.get_current_task(), str(worker.address)

        def log(*given: object, **named: object) -> None:
            state = worker.state.tasks.get(task)
            if state is None or state.state == "cancelled":
                raise Abandoned
            worker.log_event(self._topic, {"worker": address, "said": pickle.dumps((name, given, named))})

        return log


def _folder(number: int, made: finished.Finished, contents: dict[str, bytes]) -> Folder:
    return Folder(number, made.slug, made.folder.name, files_in(made.folder, contents))


def files_in(folder: Path, contents: dict[str, bytes]) -> dict[str, str]:
    """Names and digests of all files below it, which are added to `contents`."""
    files: dict[str, str] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            digest = hashlib.sha256(content).hexdigest()
            files[path.relative_to(folder).as_posix()] = digest
            contents[digest] = content
    return files


def helped(by: tuple[frozenset[str], Sequence[str]] | None) -> Sharing:
    """Labeled images: answered with those of the other workers that offer what is needed; None: by this one alone."""
    if by is None or not by[1]:
        return Alone()
    from distributed import get_client

    needs, others = by
    return Across(get_client(), others, needs)


@cache
def only_one_measures() -> Exclusive:
    """This process among the workers that this person has on this host: they wait while one of them measures."""
    room = Path(tempfile.gettempdir()) / f"vit-export-{os.getuid()}"
    room.mkdir(mode=0o700, exist_ok=True)
    return Exclusive(room)
