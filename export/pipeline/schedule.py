"""An export's jobs: what nothing has changed for is taken from the cache, the rest is made by worker processes."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from efficientvit.errors import BadOption, DownloadFailed
from efficientvit.weights.hub import fetch_from_hub
from efficientvit.weights.located import HUB
from efficientvit.weights.pretrained import fetch_pretrained
from export.cache.store import Cache
from export.folder import atomic
from export.pipeline import finished
from export.pipeline.finished import Finished, key_of_export
from export.progress import Progress
from export.request.request import Request
from export.targets.target import Job
from export.workers.exclusive import Exclusive
from export.workers.pool import in_processes
from runtimes.host.machine import free_memory_bytes, this_host

_MEMORY_BYTES = 3 << 30
"""What one process may need, at the largest model."""

Keyed = tuple[Job, str | None]
"""A job, and the key under which its export is kept; None where it is not kept."""


@dataclass(frozen=True, slots=True)
class Unit:
    """Jobs for one process. `convert_first`: an earlier unit has the same model, and evaluates its reference."""

    jobs: tuple[Keyed, ...]
    convert_first: bool = False


def export(
    request: Request,
    progress: Progress,
    command: tuple[str, ...] = (),
    *,
    cache: Cache | None = None,
    at_once: int | None = None,
) -> Iterator[Finished]:
    """Everything that the request asks for, each as soon as it is finished.

    `cache`: where earlier exports are; None makes everything anew and keeps nothing. `at_once`: processes at most; by
    default as many as there are CPUs and memory for.

    Raises:
        BadInput: the request, the weights, the photos or the output folder cannot be used.
        DownloadFailed: `-w pretrained` is unavailable.
    """
    left: list[Keyed] = []
    yield from known(request, cache, left)
    make = partial(_made, request, command, cache)
    units = units_of(left)
    count = min(len(units), at_once or default_at_once())
    if count > 1:
        with suppress(DownloadFailed, BadOption):  # the pipeline raises it again
            if request.weights == "pretrained":  # once, and not by each process
                for model in dict.fromkeys(job.model for job, _ in left):
                    fetch_pretrained(model, progress=progress.download)
            elif request.weights.startswith(HUB):
                fetch_from_hub(request.weights, progress.download)
        yield from in_processes(make, units, progress, count)
    elif left:
        yield from make(Unit(tuple(left)), progress)
    if cache is not None and left:
        cache.prune()


def known(request: Request, cache: Cache | None, left: list[Keyed]) -> Iterator[Finished]:
    """What nothing has changed for since it was made; the other jobs are appended to `left`.

    Raises:
        BadInput: the request or the output folder cannot be used.
    """
    jobs = request.jobs()
    atomic.require_writable(request.out)
    for job in jobs:
        key = None if cache is None else key_of_export(request, job)
        found = None if cache is None or key is None else finished.find(cache, key, request, job)
        if found is None:
            left.append((job, key))
        else:
            yield found


def _made(
    request: Request,
    command: tuple[str, ...],
    cache: Cache | None,
    unit: Unit,
    progress: Progress,
    exclusive: Exclusive | None = None,
) -> Iterator[Finished]:
    from export.pipeline import run as pipeline

    outcomes = pipeline.run(
        request,
        progress,
        command,
        jobs=[job for job, _ in unit.jobs],
        cache=cache,
        exclusive=exclusive,
        convert_first=unit.convert_first,
        before_publishing=finished.keeping(cache, request, {id(job): key for job, key in unit.jobs if key}),
    )
    yield from map(finished.of, outcomes)


def default_at_once() -> int:
    """As many processes as there are CPUs that may be used, and memory for."""
    return max(1, min(this_host().usable_cpus, free_memory_bytes() // _MEMORY_BYTES))


def units_of(jobs: Sequence[Keyed]) -> list[Unit]:
    """Jobs of one model whose first stage is the same go together, in the order of the request."""
    together: dict[tuple[str, str], list[Keyed]] = {}
    for job, key in jobs:
        together.setdefault((job.model, job.plan[0][0].name), []).append((job, key))
    models = [model for model, _ in together]
    return [
        Unit(tuple(own), convert_first=model in models[:place])
        for place, ((model, _), own) in enumerate(together.items())
    ]
