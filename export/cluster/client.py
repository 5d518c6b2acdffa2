"""An export on a cluster: jobs to workers that can do them, folders back, device kits to hosts that have the device."""

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
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
from export.cluster.shipment import Contents, Shipment, ship
from export.cluster.tasks import Answer, Checking, Making
from export.device_kit.attach import attach
from export.device_kit.attached import on_devices
from export.device_kit.formats import FORMS
from export.device_kit.kit import KIT
from export.exits import Exit
from export.folder.exported import open_exported
from export.folder.layout import MANIFEST
from export.pipeline.finished import Finished
from export.pipeline.schedule import Keyed, known, units_of
from export.progress import Progress
from export.request.request import Request
from export.targets.target import Job
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
    """Everything that the request asks for, each as soon as it is finished, as `pipeline.schedule.export` does it.

    `cache`: where earlier exports are; workers look into their own too. None makes everything anew.

    Raises:
        BadInput: the request, the weights, the photos or the output folder cannot be used.
        Unavailable: no worker can do a job, the scheduler cannot be reached or is gone, or a download failed.
        Refused: what came back is not what it says, from every worker that was asked.
    """
    left: list[Keyed] = []
    yield from known(request, cache, left)
    if not left:
        return
    with connected(cluster, progress, wait_s) as client:
        contents = Contents()
        models = tuple(dict.fromkeys(job.model for job, _ in left))
        shipment = ship(request, models, contents, progress)
        dispatch = Dispatch(client, contents, progress, wait_s)
        try:
            yield from _Export(request, command, shipment, dispatch, cached=cache is not None).of(left)
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
class _Export:
    """One request on a cluster. `cached`: workers may use what they kept."""

    request: Request
    command: tuple[str, ...]
    shipment: Shipment
    dispatch: Dispatch
    cached: bool

    def of(self, left: list[Keyed]) -> Iterator[Finished]:
        """Make and publish each; then let a device check it, if there is one."""
        jobs = self.request.jobs()
        places = {id(job): jobs.index(job) for job, _ in left}
        self.dispatch.refresh()
        for unit in units_of(left):
            for own in self._split(unit.jobs):
                self.dispatch.add(self._making(own, places, convert_first=unit.convert_first))
        self.dispatch.require_workers()
        published: dict[str, Finished] = {}
        try:
            for work, answer in self.dispatch.answers():
                if isinstance(work.task, Checking):
                    if (checked := self._attached(work, answer, published[work.what])) is not None:
                        del published[work.what]
                        yield checked
                    continue
                for made in self._published(work, answer, jobs):
                    if (check := self._checking(made)) is None:
                        yield made
                    else:
                        published[check.what] = made
                        self.dispatch.add(check)
        except VitExportError:
            yield from published.values()
            raise
        yield from published.values()  # that no worker could check

    def _split(self, jobs: tuple[Keyed, ...]) -> list[tuple[Keyed, ...]]:
        """Jobs that share their first stage stay together, unless no worker has all of their converters."""
        able = self.dispatch.crew.able(self._needs(jobs))
        if able or not self.dispatch.crew.offers:
            return [jobs]
        by_target: dict[str, list[Keyed]] = {}
        for keyed in jobs:
            by_target.setdefault(keyed[0].target.name, []).append(keyed)
        return [tuple(own) for own in by_target.values()]

    def _needs(self, jobs: tuple[Keyed, ...]) -> Needs:
        made = [job for job, _ in jobs]
        return Needs(needed_for(made, timed=self.request.time), better_without(made))

    def _making(self, own: tuple[Keyed, ...], places: dict[int, int], *, convert_first: bool) -> Work:
        (model,) = {job.model for job, _ in own}
        task = Making(
            shipment=self.shipment,
            model=model,
            jobs=tuple((places[id(job)], key) for job, key in own),
            command=self.command,
            topic=self.dispatch.topic,
            convert_first=convert_first,
            cached=self.cached,
        )
        names = ", ".join(f"{job.target.name} {job.precision}" for job, _ in own)
        return Work(task, self._needs(own), f"{model} {names}")

    def _published(self, work: Work, answer: Answer, jobs: tuple[Job, ...]) -> Iterator[Finished]:
        """The folders in their places; those of a worker that is not to be believed are made elsewhere."""
        assert isinstance(work.task, Making)
        left = {place for place, _ in work.task.jobs}
        if sorted(folder.job for folder in answer.folders) != sorted(left):
            other = NotWhatItSays(
                "a worker returned other artifacts than it was asked for",
                expected=f"jobs {sorted(left)} of the request, each once",
                got=f"jobs {sorted(folder.job for folder in answer.folders)}",
            )
            self._distrust(work, answer, other, left)
            return
        for folder in answer.folders:
            try:
                final, manifest = publish(folder, answer.contents, self.request.out)
            except NotWhatItSays as error:
                self._distrust(work, answer, error, left)
                return
            left.remove(folder.job)
            yield Finished(jobs[folder.job], folder.slug, final, manifest)

    def _distrust(self, work: Work, answer: Answer, error: VitExportError, left: set[int]) -> None:
        """What is left of the work goes to another worker."""
        if isinstance(work.task, Making):
            kept = tuple((place, key) for place, key in work.task.jobs if place in left)
            work = replace(work, task=replace(work.task, jobs=kept))
        self.dispatch.distrust(work, answer.worker, f"{error.what}: expected {error.expected}, got {error.got}")

    def _checking(self, made: Finished) -> Work | None:
        """The kit of what was made where its own runtime does not run."""
        if made.manifest["status"] not in ("verified", "built") or not (made.folder / KIT).is_dir():
            return None
        if made.manifest["stages"][-1]["verdict"]["evidence"] == Evidence.NATIVE:
            return None
        exported = open_exported(made.folder)
        for needs in map(Needs, needed_to_check(made.job, exported, timed=self.request.time)):
            if self.dispatch.crew.able(needs):
                kit = self.dispatch.contents.add_tree(made.folder / KIT)
                script = FORMS[exported.artifact.format].script
                task = Checking(kit, script, self.request.time, self.dispatch.topic)
                return Work(task, needs, f"the device check of {made.slug}", optional=True)
        return None

    def _attached(self, work: Work, answer: Answer, made: Finished) -> Finished | None:
        """The export with the device's report in its manifest; None where another worker is asked for one."""
        assert isinstance(work.task, Checking)
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
            self._distrust(work, answer, error, set())
            return None
        manifest = parse_json((made.folder / MANIFEST).read_bytes())
        code = _code(made, self.request.required)
        status = "verified" if attachment.passed else "rejected"
        self.dispatch.progress.stage(made.slug, "on device", 0.0, status, cached=False)
        return replace(made, manifest=manifest, on_device=code)


def _code(made: Finished, required: Evidence) -> int:
    """What the export exits with, now that devices have run the artifact."""
    exported = open_exported(made.folder)
    devices = on_devices(exported)
    if devices.failed:
        return int(Exit.REJECTED)
    enough = devices.evidence is not None and devices.evidence.at_least(required)
    return int(Exit.OK) if enough and not exported.manifest.weights.fallback else made.code
