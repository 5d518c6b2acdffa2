"""An export's jobs, on the cores that there are: what nothing has changed for is not made, the rest side by side.

Jobs of one model that share a trace stay together in one process; all others can be made at the same time.
"""

from collections.abc import Iterator, Sequence

from export import finished, folder
from export.cache import Cache
from export.finished import Finished, key_of_export
from export.listener import Progress
from export.request import Job, Request
from runtimes.host import this_host

_MEMORY_BYTES = 3 << 30
"""What one process may need, at the largest model."""


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
    folder.require_writable(request.out)
    keys: dict[int, str] = {}
    left: list[Job] = []
    for job in jobs:
        key = key_of_export(request, job) if cache is not None else None
        known = None
        if cache is not None and key is not None:
            keys[id(job)] = key
            known = finished.find(cache, key, request, job)
        if known is None:
            left.append(job)
        else:
            yield known
    units = _units(left)
    workers = min(len(units), at_once or default_at_once())
    if workers > 1:
        from export.workers import side_by_side

        yield from side_by_side(request, units, progress, command, cache, keys, workers)
        return
    if left:
        from export import pipeline

        for outcome in pipeline.run(request, progress, command, jobs=left, cache=cache):
            done = finished.of(outcome.job, outcome.slug, outcome.folder)
            if cache is not None and id(outcome.job) in keys:
                finished.keep(cache, keys[id(outcome.job)], done)
            yield done


def default_at_once() -> int:
    """As many processes as there are CPUs that may be used, and memory for."""
    host = this_host()
    return max(1, min(host.usable_cpus, host.memory_bytes // _MEMORY_BYTES))


def _units(jobs: Sequence[Job]) -> list[list[Job]]:
    """Those of one model whose first stage is the same, together; the models' first units before their others."""
    units: dict[tuple[str, str], list[Job]] = {}
    for job in jobs:
        units.setdefault((job.model, job.plan[0][0]), []).append(job)
    return list(units.values())
