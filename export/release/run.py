"""`vit-export release`: every artifact of a recipe, whatever becomes of the others, and one verdict."""

import datetime
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from efficientvit.digests import file_digest
from efficientvit.errors import Unavailable, VitExportError
from export import __version__
from export.cache.store import default_cache
from export.commands.export import reason_of, row_of
from export.exits import Exit, exit_code, worst
from export.folder.layout import MANIFEST
from export.folder.manifest import HostRecord
from export.pipeline import tasks as pipeline
from export.pipeline.finished import Finished
from export.pipeline.task import Task
from export.release.artifacts import Artifact
from export.release.matrix import run_options
from export.release.plan import Plan
from export.release.record import ErrorRecord, RecipeRecord, ReleasedRecord, ReleaseRecord
from export.report.card import Row, card
from export.workers.progress import Progress
from runtimes.host.machine import this_host

if TYPE_CHECKING:
    from export.cluster.client import Workers

COLUMNS = ("artifact", "verdict", "evidence", "required", "error", "budget", "MB", "ms", "folder")


@dataclass(frozen=True, slots=True)
class Released:
    """One artifact: what was made of it, or why nothing was."""

    artifact: Artifact
    found: Finished | VitExportError

    @property
    def manifest(self) -> Mapping[str, Any] | None:
        """Of its folder; None where there is none."""
        return self.found.manifest if isinstance(self.found, Finished) else None

    @property
    def name(self) -> str:
        """Of its folder, or what it would have been called."""
        return self.found.slug if isinstance(self.found, Finished) else self.artifact.name

    @property
    def status(self) -> str:
        """As in the manifest; `failed` where there is none."""
        return str(self.manifest["status"]) if self.manifest else "failed"

    @property
    def checked_before(self) -> bool:
        """Nothing has changed since an earlier export, whose verdict this is."""
        return isinstance(self.found, Finished) and self.found.before is not None

    @property
    def exit_code(self) -> Exit:
        """What this artifact alone would exit with."""
        return Exit(self.found.code) if isinstance(self.found, Finished) else exit_code(self.found)

    @property
    def reason(self) -> str | None:
        """Why it is not ready, in words; None where it is."""
        return str(self.found) if isinstance(self.found, VitExportError) else reason_of(self.found)

    def cells(self) -> tuple[str, ...]:
        """A row under `COLUMNS`."""
        required = str(self.artifact.request.required)
        if isinstance(self.found, VitExportError):
            return (self.name, self.status, "", required, "", "", "", "", "")
        name, verdict, evidence, *others = ("" if cell is None else str(cell) for cell in row_of(self.found).cells)
        return (name, verdict, evidence, required, *others)


@dataclass(frozen=True, slots=True)
class Release:
    """Everything that a recipe asked for, in its order. `folder`: of `release.json` and `release.html`."""

    plan: Plan
    artifacts: tuple[Released, ...]
    command: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """Of the release."""
        return self.plan.out

    @property
    def exit_code(self) -> Exit:
        """The severest of the artifacts'."""
        return worst(each.exit_code for each in self.artifacts)

    @property
    def verdict(self) -> str:
        """In words: how many may ship."""
        good = sum(each.exit_code is Exit.OK for each in self.artifacts)
        return f"{good} of {len(self.artifacts)} artifacts ready"

    def record(self) -> ReleaseRecord:
        """What `release.json` holds."""
        recipe, host = self.plan.recipe, this_host()
        return ReleaseRecord(
            schema=1,
            vit_export=__version__,
            name=recipe.name,
            version=recipe.version,
            recipe=RecipeRecord(path=str(recipe.path), sha256=recipe.sha256),
            command=list(self.command),
            made=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            host=HostRecord.from_attributes(host, cores=host.physical_cores),
            ready=self.exit_code is Exit.OK,
            exit_code=int(self.exit_code),
            artifacts=[_record(each, self.folder) for each in self.artifacts],
        )

    def to_json(self) -> dict[str, Any]:
        """What `vit-export release --json` prints: `release.json`."""
        return self.record().to_json()

    def _repr_html_(self) -> str:
        recipe = self.plan.recipe
        rows = [Row(each.cells(), each.exit_code is Exit.OK) for each in self.artifacts]
        facts = [f"{each.name}: {each.reason}" for each in self.artifacts if each.reason]
        return card(f"{recipe.name} {recipe.version}", self.verdict, self.exit_code, facts, COLUMNS, rows)


def release(
    plan: Plan,
    progress: Progress,
    command: Sequence[str] = (),
    *,
    no_cache: bool = False,
    jobs: int | None = None,
    workers: "Workers | None" = None,
    finished: Callable[[Released], object] = lambda _: None,
) -> Release:
    """Make, check and hand over everything that a plan holds. An artifact that cannot be made keeps none from it.

    `jobs`: processes at most, None for what the recipe says, else as many as CPUs and memory allow. `workers`: of a
    cluster, in the place of processes. `finished`: called with each as soon as it is done. What an earlier run has
    finished, and nothing has changed of, is taken from the cache.

    Raises:
        BadOutput: a folder cannot be written.
    """
    said = run_options(plan.recipe)
    artifacts = [each.artifact for each in plan.artifacts]
    done: dict[int, Released] = {}

    def keep(number: int, found: Finished | VitExportError) -> None:
        done[number] = Released(artifacts[number], found)
        finished(done[number])

    asked = []
    for number, each in enumerate(artifacts):
        try:
            if workers is None:  # they say themselves what they can make
                each.job.target.require_installed()
        except Unavailable as error:
            keep(number, error)
        else:
            asked.append(Task(number, each.request, each.job))
    cache = None if no_cache or said.get("no_cache", False) else default_cache()
    at_once = said.get("jobs") if jobs is None else jobs
    make = partial(pipeline.export_tasks, at_once=at_once) if workers is None else workers.export_tasks
    try:
        made = make(asked, progress, tuple(command), cache=cache)
        for number, found in made:
            keep(number, found)
    except VitExportError as error:  # of no single artifact: a process died, the scheduler went
        for number in set(range(len(artifacts))) - set(done):
            keep(number, error)
    return Release(plan, tuple(done[number] for number in range(len(artifacts))), tuple(command))


def _record(each: Released, root: Path) -> ReleasedRecord:
    job = each.artifact.job
    common: dict[str, Any] = {
        "name": each.name,
        "model": job.model,
        "target": job.target.name,
        "precision": job.precision,
        "command": ["export", *each.artifact.command],
        "status": each.status,
        "evidence_required": each.artifact.request.required,
        "exit_code": int(each.exit_code),
        "reason": each.reason,
    }
    if isinstance(each.found, VitExportError):
        error = ErrorRecord(kind=type(each.found).__name__, text=str(each.found))
        return ReleasedRecord(
            **common, error=error, evidence=None, folder=None, manifest_sha256=None, artifact=None,
            artifact_sha256=None, bytes=None, checked_before=False,
        )  # fmt: skip
    manifest, folder = each.found.manifest, each.found.folder
    last = manifest["stages"][-1]
    ships = manifest["artifact"]
    return ReleasedRecord(
        **common,
        error=None,
        evidence=last["verdict"]["evidence"],
        folder=Path(os.path.relpath(folder, root)).as_posix(),
        manifest_sha256=file_digest(folder / MANIFEST),
        artifact=ships,
        artifact_sha256=last["artifact"]["sha256"] if ships else None,
        bytes=last["artifact"]["bytes"] if last["artifact"] else None,
        checked_before=each.checked_before,
    )
