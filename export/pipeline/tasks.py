"""Jobs of one request or of many: what nothing has changed for is taken from the cache, the rest is made by processes.

Jobs that are prepared alike are made together.
"""

from collections import defaultdict
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from efficientvit.errors import BadOption, DownloadFailed, VitExportError
from efficientvit.spec import MODELS
from efficientvit.weights.hub import fetch_from_hub
from efficientvit.weights.located import HUB
from efficientvit.weights.pretrained import fetch_pretrained
from export.cache.store import Cache
from export.folder import atomic
from export.pipeline import finished
from export.pipeline.finished import Finished, key_of_export
from export.pipeline.task import Task
from export.request.request import Request
from export.targets.target import Job
from export.workers.exclusive import Exclusive
from export.workers.pool import default_at_once, in_processes
from export.workers.progress import Progress

if TYPE_CHECKING:
    from efficientvit.weights.source import Weights
    from export.pipeline.outcome import Outcome


Result = tuple[int, Finished | VitExportError]
"""A task's number, and what came of it."""


@dataclass(frozen=True, slots=True)
class Unit:
    """Tasks for one process. `turn`: of the units that have the same model, from 0; None of the only one."""

    tasks: tuple[Task, ...]
    turn: int | None = None


def tasks_of(request: Request) -> tuple[Task, ...]:
    """Every job of one request, numbered in its order.

    Raises:
        BadInput: an unknown model or target, or options that do not go together.
        Unavailable: what makes a target is not installed.
    """
    return tuple(Task(number, request, job) for number, job in enumerate(request.jobs()))


def export_tasks(
    tasks: Sequence[Task],
    progress: Progress,
    command: tuple[str, ...] = (),
    *,
    cache: Cache | None = None,
    at_once: int | None = None,
) -> Generator[Result]:
    """Every task, each as soon as it is finished.

    `cache`: where earlier exports are; None makes everything anew and keeps nothing. `at_once`: processes at most; by
    default as many as there are CPUs and memory for. An error that keeps a model from being prepared is the result of
    its tasks, and the others are made.

    Raises:
        BadOutput: an output folder cannot be written.
        HostShortage, StageFailed: a worker process died.
    """
    left: list[Task] = []
    yield from known(tasks, cache, left)
    make = partial(_made, command, cache)
    units = units_of(left)
    count = min(len(units), at_once or default_at_once())
    if count > 1:
        _fetch(left, progress)
        yield from in_processes(make, units, progress, count)
    else:
        for unit in units_of(left, alone=True):
            yield from make(unit, progress)
    if cache is not None and left:
        cache.prune()


def known(tasks: Sequence[Task], cache: Cache | None, left: list[Task]) -> Iterator[tuple[int, Finished]]:
    """What nothing has changed for since it was made; the other tasks are appended to `left`, with their keys.

    Raises:
        BadOutput: an output folder cannot be written.
    """
    for out in dict.fromkeys(task.request.out for task in tasks):
        atomic.require_writable(out)
    for task in tasks:
        key = None if cache is None else key_of_export(task.request, task.job)
        found = None if cache is None or key is None else finished.find(cache, key, task.request, task.job)
        if found is None:
            left.append(replace(task, key=key))
        else:
            yield task.number, found


def units_of(tasks: Sequence[Task], *, alone: bool = False) -> list[Unit]:
    """Tasks of one model, prepared alike, whose first stage is the same go together.

    Units of larger models come first: a process that is given one of them last keeps everybody waiting. `alone`: for
    one process, which prepares a model once for all first stages, in the order of the tasks. Of two jobs whose files
    have the same names the second goes into another unit.
    """
    together: dict[tuple[object, ...], list[Task]] = {}
    names: defaultdict[tuple[object, ...], list[str]] = defaultdict(list)
    for task in tasks:
        job = task.job
        like = (task.request.common, job.model)
        place = (like, "" if alone else job.plan[0][0].name)
        number = names[place].count(job.variant)
        names[place].append(job.variant)
        together.setdefault((*place, number), []).append(task)
    if not alone:
        together = dict(sorted(together.items(), key=lambda unit: _cost(unit[1][0].job), reverse=True))
    prepared = [like for like, _, _ in together]
    return [
        Unit(tuple(own), prepared[:number].count(like) if prepared.count(like) > 1 and not alone else None)
        for number, ((like, _, _), own) in enumerate(together.items())
    ]


def _cost(job: Job) -> int:
    """Multiply-adds of its model, millions: what making and judging it takes grows with them."""
    return MODELS[job.model].paper.mflops


def _fetch(tasks: Sequence[Task], progress: Progress) -> None:
    """Download once, and not in each process; what fails, the pipeline raises again."""
    for model, weights in dict.fromkeys((task.job.model, task.request.weights) for task in tasks):
        with suppress(DownloadFailed, BadOption):
            if weights == "pretrained":
                fetch_pretrained(model, progress=progress.download)
            elif weights.startswith(HUB):
                fetch_from_hub(weights, progress.download)


def outcomes_of(
    unit: Unit,
    progress: Progress,
    command: tuple[str, ...],
    cache: Cache | None,
    *,
    exclusive: Exclusive | None = None,
    weights: "Weights | None" = None,
    keyed: Sequence[Task] = (),
) -> "Iterator[tuple[Task, Outcome]]":
    """The unit's tasks, each as soon as what it asks for is published.

    `exclusive`: in a worker process. `weights`: in place of those that are named. `keyed`: the tasks with the requests
    of which their keys are, where those are others.

    Raises:
        BadInput: the request, the weights, the photos or the output folder cannot be used.
        DownloadFailed: `-w pretrained` cannot be had.
    """
    from export.pipeline.prepare import load
    from export.pipeline.run import run
    from export.pipeline.stage_cache import evaluations
    from runtimes.host.threads import one_thread
    from validation.reference.memo import remembering

    request, tasks = unit.tasks[0].request, {id(task.job): task for task in unit.tasks}
    jobs = [task.job for task in unit.tasks]
    with one_thread(), remembering(evaluations(cache)):
        loaded = load(request, jobs[0].model, jobs, progress, weights=weights)
    keep = finished.keeping(cache, keyed or unit.tasks)
    for outcome in run(
        loaded, jobs, request, progress, command,
        cache=cache, exclusive=exclusive, turn=unit.turn, before_publishing=keep,
    ):  # fmt: skip
        yield tasks[id(outcome.job)], outcome


def _made(
    command: tuple[str, ...], cache: Cache | None, unit: Unit, progress: Progress, exclusive: Exclusive | None = None
) -> Iterator[Result]:
    left = {id(task.job): task for task in unit.tasks}
    try:
        for task, outcome in outcomes_of(unit, progress, command, cache, exclusive=exclusive):
            del left[id(task.job)]
            yield task.number, finished.of(outcome)
    except VitExportError as error:
        for task in left.values():
            yield task.number, error
