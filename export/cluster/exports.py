"""Tasks of a client to workers that can do them, folders back, device kits to hosts that have the device."""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from efficientvit.errors import Refused, VitExportError
from efficientvit.files import parse_json
from export.cluster.abilities import better_without, needed_for, needed_to_check
from export.cluster.crew import Needs
from export.cluster.dispatch import Dispatch, Work
from export.cluster.returned import NotWhatItSays, content_of, publish
from export.cluster.shipment import Shipping
from export.cluster.tasks import Answer, Checking, Making
from export.device_kit.attach import attach
from export.device_kit.attached import on_devices
from export.device_kit.formats import FORMS
from export.device_kit.kit import KIT
from export.exits import Exit
from export.folder.exported import open_exported
from export.folder.layout import MANIFEST
from export.folder.manifest import PASSED
from export.pipeline.finished import Finished
from export.pipeline.task import Task
from export.pipeline.tasks import Result, units_of
from runtimes.runtime import Evidence


@dataclass(slots=True)
class Exports:
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
                    self.dispatch.add(self._making(own, turn=unit.turn))
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
        making = work.task
        assert isinstance(making, Making), "nothing else was added"
        if answer.error is not None:
            if self.first_error_ends:
                raise answer.error
            yield from ((task.number, answer.error) for task in making.shipment.tasks)
            return
        for task, made in self._put_in_place(work, making, answer):
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

    def _making(self, own: tuple[Task, ...], *, turn: int | None) -> Work:
        shipment = self.shipping.of(own)
        task = Making(shipment, self.command, self.dispatch.topic, turn, self.cached)
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
        if made.manifest["status"] not in PASSED or not (made.folder / KIT).is_dir():
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
