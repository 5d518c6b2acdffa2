"""An export's jobs, on the cores that there are: what nothing has changed for is not made, the rest side by side.

Jobs of one model that share a trace stay together in one process; all others can be made at the same time.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from efficientvit.errors import DownloadFailed
from efficientvit.weights.pretrained import fetch_pretrained
from export.cache.store import Cache
from export.folder import atomic
from export.pipeline import finished
from export.pipeline.finished import Finished, key_of_export
from export.progress import Progress
from export.request.request import Request
from export.targets.target import Job
from export.workers.exclusive import Beside
from export.workers.pool import side_by_side
from runtimes.host.machine import free_memory_bytes, this_host

_MEMORY_BYTES = 3 << 30
"""What one process may need, at the largest model."""


@dataclass(frozen=True, slots=True)
class Unit:
    """Jobs of one model that share a trace, and under which keys to keep what comes of them.

    `second`: another unit of the same model was given out before.
    """

    jobs: tuple[Job, ...]
    keys: tuple[str | None, ...]
    second: bool


def export(
    request: Request,
    progress: Progress,
    command: tuple[str, ...] = (),
    *,
    cache: Cache | None = None,
    at_once: int | None = None,
) -> Iterator[Finished]:
    """Everything that the request asks for, each as soon as it is finished.

    `cache`: where what was made before lies; None makes everything anew and keeps nothing. `at_once`: processes at
    most; by default as many as there are CPUs and memory for.

    Raises:
        BadInput: the request, the weights, the photos or the output folder cannot be used.
        DownloadFailed: `-w pretrained` cannot be had.
    """
    jobs = request.jobs()
    atomic.require_writable(request.out)
    keys: dict[int, str] = {}
    left: list[Job] = []
    for job in jobs:
        known = None
        if cache is not None and (key := key_of_export(request, job)) is not None:
            keys[id(job)] = key
            known = finished.find(cache, key, request, job)
        if known is None:
            left.append(job)
        else:
            yield known
    units = units_of(left, keys)
    count = min(len(units), at_once or default_at_once())
    if count > 1:
        if request.weights == "pretrained":  # once, and not by each process
            for model in dict.fromkeys(job.model for job in left):
                with contextlib.suppress(DownloadFailed):  # the pipeline says it
                    fetch_pretrained(model, progress=progress.download)
        yield from side_by_side(partial(_made, request, command, cache), units, progress, count)
    elif left:
        alone = Unit(tuple(left), tuple(keys.get(id(job)) for job in left), second=False)
        yield from _made(request, command, cache, alone, progress, None)
    if cache is not None and left:
        cache.prune()


def _made(
    request: Request,
    command: tuple[str, ...],
    cache: Cache | None,
    unit: Unit,
    progress: Progress,
    beside: Beside | None,
) -> Iterator[Finished]:
    from export.pipeline import run as pipeline

    keys = {id(job): key for job, key in zip(unit.jobs, unit.keys, strict=True) if key is not None}
    outcomes = pipeline.run(
        request,
        progress,
        command,
        jobs=unit.jobs,
        cache=cache,
        beside=None if beside is None else replace(beside, second=unit.second),
        before_publishing=finished.keeping(cache, request, keys),
    )
    yield from map(finished.of, outcomes)


def default_at_once() -> int:
    """As many processes as there are CPUs that may be used, and memory for."""
    return max(1, min(this_host().usable_cpus, free_memory_bytes() // _MEMORY_BYTES))


def units_of(jobs: Sequence[Job], keys: Mapping[int, str]) -> list[Unit]:
    """Jobs of one model whose first stage is the same, together, in the order of the request."""
    together: dict[tuple[str, str], list[Job]] = {}
    for job in jobs:
        together.setdefault((job.model, job.plan[0][0].name), []).append(job)
    models = [model for model, _ in together]
    return [
        Unit(tuple(own), tuple(keys.get(id(job)) for job in own), second=model in models[:place])
        for place, ((model, _), own) in enumerate(together.items())
    ]
