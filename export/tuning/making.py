"""The candidates, made and judged by the pipeline: those of which nothing has changed come from the cache."""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from export.cache.store import Cache
from export.pipeline import finished
from export.pipeline import run as pipeline
from export.pipeline.finished import Finished, key_of_export
from export.pipeline.outcome import Outcome
from export.pipeline.stage_cache import evaluations
from export.progress import Progress
from export.tuning.request import Candidate, TuneRequest
from export.workers.exclusive import Exclusive
from export.workers.pool import in_processes
from runtimes.host.threads import REFERENCE_THREADS, torch_threads
from validation.reference.memo import remembering


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


@dataclass(frozen=True, slots=True)
class Keyed:
    """A candidate's place in its round, and the key under which its export is kept; None: it is not kept."""

    place: int
    candidate: Candidate
    key: str | None


def make(
    asked: TuneRequest,
    candidates: Sequence[Candidate],
    progress: Progress,
    *,
    cache: Cache | None = None,
    at_once: int = 1,
    command: tuple[str, ...] = (),
    until: float | None = None,
) -> list[Finished | None]:
    """One export for each of the candidates, all of one round, in their order; None for those that time was up for.

    Raises:
        BadInput: the weights, the photos or the output folder cannot be used.
    """
    found: list[Finished | None] = [None] * len(candidates)
    left: list[Keyed] = []
    for place, each in enumerate(candidates):
        key = None if cache is None else key_of_export(each.request, each.job)
        known = None if cache is None or key is None else finished.find(cache, key, each.request, each.job)
        found[place] = known
        if known is None:
            left.append(Keyed(place, each, key))
    units = list(_units(left))
    work = partial(_made, asked, command, cache, until)
    if at_once > 1 and len(units) > 1:
        made = in_processes(work, units, progress, min(at_once, len(units)))
    else:
        made = (each for unit in units for each in work(unit, progress))
    for place, one in made:
        found[place] = one
    return found


def _units(left: Sequence[Keyed]) -> Iterator[tuple[Keyed, ...]]:
    """For one process each: what begins with the same trace, or is of one target, under the same budgets."""
    together: dict[tuple[str, Path], list[Keyed]] = {}
    for each in left:
        first = each.candidate.job.plan[0][0]
        begins = first.name if first.shared else each.candidate.target
        together.setdefault((begins, each.candidate.request.out), []).append(each)
    yield from map(tuple, together.values())


def _made(
    asked: TuneRequest,
    command: tuple[str, ...],
    cache: Cache | None,
    until: float | None,
    unit: tuple[Keyed, ...],
    progress: Progress,
    exclusive: Exclusive | None = None,
) -> Iterator[tuple[int, Finished]]:
    """`exclusive`: in a worker process, where nothing is timed."""
    deadline = Deadline(progress, until)
    if deadline.over:
        return
    by_job = {id(each.candidate.job): each for each in unit}
    request = asked.common(unit[0].candidate.request.budgets.quality)

    def keep(outcome: Outcome, folder: Path) -> None:
        each = by_job[id(outcome.job)]
        keys = {} if each.key is None else {id(outcome.job): each.key}
        keeping = finished.keeping(cache, each.candidate.request, keys)
        if keeping is not None:
            keeping(outcome, folder)

    with ExitStack() as around:
        around.enter_context(torch_threads(REFERENCE_THREADS))
        around.enter_context(remembering(evaluations(cache)))  # the reference's answers to the labeled images too
        jobs = [each.candidate.job for each in unit]
        outcomes = pipeline.run(request, deadline, command, jobs=jobs, cache=cache, before_publishing=keep)
        try:
            for outcome in outcomes:
                yield by_job[id(outcome.job)].place, finished.of(outcome)
                if deadline.over:
                    return
        except TimeUp:
            return
