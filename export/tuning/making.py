"""The candidates, made and judged by the pipeline: those of which nothing has changed come from the cache."""

import time
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from efficientvit.errors import VitExportError
from export.cache.store import Cache
from export.pipeline import finished
from export.pipeline.finished import Finished
from export.pipeline.task import Task
from export.pipeline.tasks import Unit, known, outcomes_of, units_of
from export.tuning.request import Candidate
from export.workers.exclusive import Exclusive
from export.workers.pool import in_processes
from export.workers.progress import Progress

if TYPE_CHECKING:
    from export.cluster.client import Workers


class TimeUp(BaseException):
    """The time limit was reached. No `Exception`: what isolates a stage's failure must not take it for one."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """A `Progress` that ends what is being made when time is up. `until`: by `time.monotonic`; None: never."""

    progress: Progress
    until: float | None

    @property
    def over(self) -> bool:
        """Time is up."""
        return self.until is not None and time.monotonic() > self.until

    def step(self, text: str) -> None:
        """Something long starts, unless time is up.

        Raises:
            TimeUp: it is.
        """
        if self.over:
            raise TimeUp
        self.progress.step(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.progress, name)


def make(
    candidates: Sequence[Candidate],
    progress: Progress,
    *,
    cache: Cache | None = None,
    at_once: int = 1,
    command: tuple[str, ...] = (),
    until: float | None = None,
    workers: "Workers | None" = None,
) -> list[Finished | None]:
    """One export for each of the candidates, all of one round, in their order; None for those that time was up for.

    `workers`: of a cluster, in the place of `at_once` processes.

    Raises:
        BadInput: the weights, the photos or the output folder cannot be used.
        Unavailable: no worker can make a candidate, or the scheduler is gone.
    """
    found: list[Finished | None] = [None] * len(candidates)
    tasks = [Task(place, each.request, each.job) for place, each in enumerate(candidates)]
    if workers is not None:
        for place, one in _made_elsewhere(workers, tasks, Deadline(progress, until), command, cache):
            found[place] = one
        return found
    left: list[Task] = []
    for place, one in known(tasks, cache, left):
        found[place] = one
    units = units_of(left)
    work = partial(_made, command, cache, until)
    if at_once > 1 and len(units) > 1:
        made = in_processes(work, units, progress, min(at_once, len(units)))
    else:
        made = (each for unit in units_of(left, alone=True) for each in work(unit, progress))
    for place, one in made:
        found[place] = one
    return found


def _made_elsewhere(
    workers: "Workers", tasks: Sequence[Task], deadline: Deadline, command: tuple[str, ...], cache: Cache | None
) -> Iterator[tuple[int, Finished]]:
    """Until time is up: workers stop at their next step."""
    if deadline.over:
        return
    made = workers.export_tasks(tasks, deadline, command, cache=cache, first_error_ends=True)
    with closing(made), suppress(TimeUp):
        for place, one in made:
            if isinstance(one, VitExportError):
                raise one
            yield place, one
            if deadline.over:
                return


def _made(
    command: tuple[str, ...],
    cache: Cache | None,
    until: float | None,
    unit: Unit,
    progress: Progress,
    exclusive: Exclusive | None = None,
) -> Iterator[tuple[int, Finished]]:
    """`exclusive`: in a worker process, where nothing is timed."""
    deadline = Deadline(progress, until)
    if deadline.over:
        return
    with suppress(TimeUp):
        for task, outcome in outcomes_of(unit, deadline, command, cache):
            yield task.number, finished.of(outcome)
            if deadline.over:
                return
