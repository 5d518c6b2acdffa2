"""Exports on a cluster: tasks to workers that can do them, folders back, device kits to hosts that have the device."""

import contextlib
import tempfile
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from efficientvit.errors import Refused, Unavailable, VitExportError
from efficientvit.files import parse_json
from export.cache.store import Cache
from export.cluster.abilities import better_without, needed_for, needed_to_check
from export.cluster.address import Cluster
from export.cluster.crew import Needs
from export.cluster.dispatch import Dispatch, Work
from export.cluster.local import workers_here
from export.cluster.returned import NotWhatItSays, content_of, publish
from export.cluster.shipment import Contents, Shipping
from export.cluster.tasks import Answer, Checking, Making
from export.device_kit.attach import attach
from export.device_kit.attached import on_devices
from export.device_kit.formats import FORMS
from export.device_kit.kit import KIT
from export.exits import Exit
from export.folder.exported import open_exported
from export.folder.layout import MANIFEST
from export.pipeline.finished import Finished
from export.pipeline.schedule import finished_or_raised
from export.pipeline.tasks import Result, Task, known, tasks_of, units_of
from export.progress import Progress
from export.request.request import Request
from runtimes.runtime import Evidence

if TYPE_CHECKING:
    from distributed import Client

WAIT_S = 60.0
"""For workers that can do what is asked, at the start and when some are lost."""


def export(
    request: Request,
    progress: Progress,
    command: tuple[str, ...] = (),
    *,
    cluster: Cluster,
    cache: Cache | None = None,
    wait_s: float = WAIT_S,
) -> Iterator[Finished]:
    """`Workers.export` of a cluster that is asked for nothing else."""
    with Workers(cluster, wait_s) as workers:
        yield from workers.export(request, progress, command, cache=cache)


@dataclass(slots=True)
class Workers:
    """Of a cluster, for the block: connected when there is something to be made. `wait_s`: for those that can do it."""

    cluster: Cluster
    wait_s: float = WAIT_S
    _client: "Client | None" = None
    _closing: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let them go; those of `local:N` end."""
        self._closing.close()
        self._client = None

    def export(
        self, request: Request, progress: Progress, command: tuple[str, ...] = (), *, cache: Cache | None = None
    ) -> Iterator[Finished]:
        """Everything that the request asks for, each as soon as it is finished, as `pipeline.schedule.export` does it.

        `cache`: where earlier exports are; workers look into their own too. None makes everything anew.

        Raises:
            BadInput: the request, the weights, the photos or the output folder cannot be used.
            Unavailable: no worker can do a job, the scheduler cannot be reached or is gone, or a download failed.
            Refused: what came back is not what it says, from every worker that was asked.
        """
        made = self.export_tasks(tasks_of(request), progress, command, cache=cache, first_error_ends=True)
        return finished_or_raised(made)

    def export_tasks(
        self,
        tasks: Sequence[Task],
        progress: Progress,
        command: tuple[str, ...] = (),
        *,
        cache: Cache | None = None,
        first_error_ends: bool = False,
    ) -> Generator[Result]:
        """Every task, each as soon as it is finished, as `pipeline.tasks.export_tasks` does it.

        `first_error_ends`: nothing is begun before there is a worker for each task, and nothing more is made after the
        first error; what waits for a device to check it is handed over before that error.

        Raises:
            BadOutput: an output folder cannot be written.
            Unavailable: the scheduler cannot be reached or is gone; with `first_error_ends`, no worker can do a task.
        """
        left: list[Task] = []
        yield from known(tasks, cache, left)
        if not left:
            return
        if self._client is None:
            self._client = self._closing.enter_context(connected(self.cluster, progress, self.wait_s))
        contents = Contents()
        dispatch = Dispatch(self._client, contents, progress, self.wait_s)
        shipping = Shipping(contents, progress)
        try:
            yield from _Exports(command, dispatch, shipping, cache is not None, first_error_ends).of(left)
        finally:
            dispatch.close()


@contextlib.contextmanager
def connected(cluster: Cluster, progress: Progress, wait_s: float) -> "Iterator[Client]":
    """A client of the cluster; of a local one, with its scheduler and workers, which end with the block.

    Raises:
        Unavailable: the scheduler cannot be reached.
    """
    import dask
    from distributed import Client

    with contextlib.ExitStack() as closing:
        progress.step(f"connecting to {cluster}")
        address = cluster.address or closing.enter_context(workers_here(cluster.local))
        try:
            with dask.config.set({"distributed.comm.timeouts.connect": f"{max(1.0, wait_s)}s"}):
                client = closing.enter_context(
                    Client(address, security=cluster.security(), timeout=wait_s, set_as_default=False)
                )
        except (OSError, RuntimeError, TimeoutError, ValueError) as error:
            raise Unavailable(
                f"cannot reach the scheduler {cluster}",
                expected=f"an answer within {wait_s:g} s",
                got=f"{type(error).__name__}: {str(error).strip().splitlines()[0][:200] if str(error).strip() else ''}",
                next_step="start it with `dask scheduler`, and give client, scheduler and workers the same TLS files",
            ) from error
        yield client


@dataclass(slots=True)
class _Exports:
    """Tasks of a client on a cluster. `cached`: workers may use what they kept."""

    command: tuple[str, ...]
    dispatch: Dispatch
    shipping: Shipping
    cached: bool
    first_error_ends: bool
    _published: dict[int, tuple[Task, Finished]] = field(default_factory=dict)
    """What a device is to check, by the number of the task."""

    def of(self, left: Sequence[Task]) -> Iterator[Result]:
        """Make and publish each; then let a device check it, if there is one."""
        self.dispatch.refresh()
        for unit in units_of(left):
            for own in self._split(unit.tasks):
                try:
                    self.dispatch.add(self._making(own, convert_first=unit.convert_first))
                except VitExportError as error:
                    yield from ((task.number, error) for task in own)
        if self.first_error_ends:
            self.dispatch.require_workers()
        try:
            for work, answer in self.dispatch.answers():
                yield from self._taken(work, answer)
        except VitExportError:
            yield from self._unchecked()
            raise
        yield from self._unchecked()  # no worker could check them

    def _unchecked(self) -> Iterator[Result]:
        yield from ((number, made) for number, (_, made) in self._published.items())

    def _taken(self, work: Work, answer: Answer) -> Iterator[Result]:
        """What is finished with this answer."""
        if isinstance(work.task, Checking):
            task, made = self._published[work.task.number]
            if (checked := self._attached(work, answer, task, made)) is not None:
                del self._published[task.number]
                yield task.number, checked
            return
        if answer.error is not None:
            if self.first_error_ends:
                raise answer.error
            yield from ((task.number, answer.error) for task in work.task.shipment.tasks)
            return
        for task, made in self._put_in_place(work, work.task, answer):
            if (check := self._checking(task, made)) is None:
                yield task.number, made
            else:
                self._published[task.number] = task, made
                self.dispatch.add(check)

    def _split(self, tasks: tuple[Task, ...]) -> list[tuple[Task, ...]]:
        """Tasks that share their first stage stay together, unless no worker has all of their converters."""
        able = self.dispatch.crew.able(_needs(tasks))
        if able or not self.dispatch.crew.offers:
            return [tasks]
        by_target: dict[str, list[Task]] = {}
        for task in tasks:
            by_target.setdefault(task.job.target.name, []).append(task)
        return [tuple(own) for own in by_target.values()]

    def _making(self, own: tuple[Task, ...], *, convert_first: bool) -> Work:
        shipment = self.shipping.of(own)
        task = Making(shipment, self.command, self.dispatch.topic, convert_first, self.cached)
        names = ", ".join(f"{each.job.target.name} {each.job.precision}" for each in own)
        return Work(task, _needs(own), f"{shipment.model} {names}")

    def _put_in_place(self, work: Work, making: Making, answer: Answer) -> Iterator[tuple[Task, Finished]]:
        """The folders, published; those of a worker that is not to be believed are made elsewhere."""
        left = {task.number: task for task in making.shipment.tasks}
        if sorted(folder.number for folder in answer.folders) != sorted(left):
            other = NotWhatItSays(
                "a worker returned other artifacts than it was asked for",
                expected=f"tasks {sorted(left)}, each once",
                got=f"tasks {sorted(folder.number for folder in answer.folders)}",
            )
            self._distrust(work, answer, other)
            return
        for folder in answer.folders:
            task = left[folder.number]
            try:
                final, manifest = publish(folder, answer.contents, task.request.out)
            except NotWhatItSays as error:
                rest = replace(making.shipment, tasks=tuple(left.values()))
                self._distrust(replace(work, task=replace(making, shipment=rest)), answer, error)
                return
            del left[folder.number]
            yield task, Finished(task.job, folder.slug, final, manifest)

    def _distrust(self, work: Work, answer: Answer, error: VitExportError) -> None:
        """The work goes to another worker."""
        self.dispatch.distrust(work, answer.worker, f"{error.what}: expected {error.expected}, got {error.got}")

    def _checking(self, task: Task, made: Finished) -> Work | None:
        """The kit of what was made where its own runtime does not run."""
        if made.manifest["status"] not in ("verified", "built") or not (made.folder / KIT).is_dir():
            return None
        if made.manifest["stages"][-1]["verdict"]["evidence"] == Evidence.NATIVE:
            return None
        exported = open_exported(made.folder)
        for needs in map(Needs, needed_to_check(made.job, exported, timed=task.request.time)):
            if self.dispatch.crew.able(needs):
                kit = self.dispatch.contents.add_tree(made.folder / KIT)
                script = FORMS[exported.artifact.format].script
                check = Checking(task.number, kit, script, task.request.time, self.dispatch.topic)
                return Work(check, needs, f"the device check of {made.slug}", optional=True)
        return None

    def _attached(self, work: Work, answer: Answer, task: Task, made: Finished) -> Finished | None:
        """The export with the device's report in its manifest; None where another worker is asked for one."""
        if answer.error is not None or answer.report is None:
            self.dispatch.progress.note(f"{work.what} failed on {answer.worker}: {answer.error}")
            return made
        try:
            content = content_of(answer.report, answer.contents, "a device report")
            with tempfile.TemporaryDirectory(prefix="vit-export-") as scratch:
                path = Path(scratch) / "device-report.json"
                path.write_bytes(content)
                attachment = attach(made.folder, path)
        except Refused as error:
            self._distrust(work, answer, error)
            return None
        manifest = parse_json((made.folder / MANIFEST).read_bytes())
        code = _code(made, task.request.required)
        status = "verified" if attachment.passed else "rejected"
        self.dispatch.progress.stage(made.slug, "on device", 0.0, status, cached=False)
        return replace(made, manifest=manifest, on_device=code)


def _needs(tasks: Sequence[Task]) -> Needs:
    jobs = [task.job for task in tasks]
    return Needs(needed_for(jobs, timed=tasks[0].request.time), better_without(jobs))


def _code(made: Finished, required: Evidence) -> int:
    """What the export exits with, now that devices have run the artifact."""
    exported = open_exported(made.folder)
    devices = on_devices(exported)
    if devices.failed:
        return int(Exit.REJECTED)
    enough = devices.evidence is not None and devices.evidence.at_least(required)
    return int(Exit.OK) if enough and not exported.manifest.weights.fallback else made.code
