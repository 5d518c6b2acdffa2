"""The export of one request: its jobs as tasks, and the first error of one is the error of all."""

from collections.abc import Generator, Iterator
from contextlib import closing

from efficientvit.errors import VitExportError
from export.cache.store import Cache
from export.pipeline.finished import Finished
from export.pipeline.tasks import Result, export_tasks, tasks_of
from export.request.request import Request
from export.workers.progress import Progress


def export(
    request: Request,
    progress: Progress,
    command: tuple[str, ...] = (),
    *,
    cache: Cache | None = None,
    at_once: int | None = None,
) -> Iterator[Finished]:
    """Everything that the request asks for, each as soon as it is finished; `cache`, `at_once`: as in `export_tasks`.

    Raises:
        BadInput: the request, the weights, the photos or the output folder cannot be used.
        DownloadFailed: `-w pretrained` is unavailable.
    """
    return finished_or_raised(export_tasks(tasks_of(request), progress, command, cache=cache, at_once=at_once))


def finished_or_raised(made: Generator[Result]) -> Iterator[Finished]:
    """The results of tasks, up to the first that is an error: it is raised, and nothing more is made.

    Raises:
        VitExportError: a task's.
    """
    with closing(made):
        for _, found in made:
            if isinstance(found, VitExportError):
                raise found
            yield found
