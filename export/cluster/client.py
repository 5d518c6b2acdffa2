"""A cluster from a client's side: connected to, and what its workers can be asked for."""

import contextlib
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from efficientvit.errors import Unavailable, VitExportError
from export.cache.store import Cache
from export.cluster.address import Cluster
from export.cluster.dispatch import Dispatch, Work
from export.cluster.errand import Calling, Errand
from export.cluster.exports import Exports
from export.cluster.local import workers_here
from export.cluster.returned import NotWhatItSays
from export.cluster.shipment import Contents, Shipping
from export.pipeline.finished import Finished
from export.pipeline.schedule import finished_or_raised
from export.pipeline.task import Task
from export.pipeline.tasks import Result, known, tasks_of
from export.request.request import Request
from export.workers.progress import Progress

if TYPE_CHECKING:
    from distributed import Client

WAIT_S = 60.0
"""For workers that can do what is asked, at the start and when some are lost."""


@dataclass(slots=True)
class Workers:
    """Of a cluster, for the block: connected when there is something to be made. `wait_s`: for those that can do it."""

    cluster: Cluster
    wait_s: float = WAIT_S
    _client: "Client | None" = None
    _closing: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let them go; those of `local:N` end."""
        self._closing.close()
        self._client = None

    def export(
        self, request: Request, progress: Progress, command: tuple[str, ...] = (), *, cache: Cache | None = None
    ) -> Iterator[Finished]:
        """Everything that the request asks for, each as soon as it is finished, as `pipeline.schedule.export` does it.

        `cache`: where earlier exports are; workers look into their own too. None makes everything anew.

        Raises:
            BadInput: the request, the weights, the photos or the output folder cannot be used.
            Unavailable: no worker can do a job, the scheduler cannot be reached or is gone, or a download failed.
            Refused: what came back is not what it says, from every worker that was asked.
        """
        made = self.export_tasks(tasks_of(request), progress, command, cache=cache, first_error_ends=True)
        return finished_or_raised(made)

    def export_tasks(
        self,
        tasks: Sequence[Task],
        progress: Progress,
        command: tuple[str, ...] = (),
        *,
        cache: Cache | None = None,
        first_error_ends: bool = False,
    ) -> Generator[Result]:
        """Every task, each as soon as it is finished, as `pipeline.tasks.export_tasks` does it.

        `first_error_ends`: nothing is begun before there is a worker for each task, and nothing more is made after the
        first error; what waits for a device to check it is handed over before that error.

        Raises:
            BadOutput: an output folder cannot be written.
            Unavailable: the scheduler cannot be reached or is gone; with `first_error_ends`, no worker can do a task.
        """
        left: list[Task] = []
        yield from known(tasks, cache, left)
        if not left:
            return
        with self._dispatch(progress) as dispatch:
            shipping = Shipping(dispatch.contents, progress)
            yield from Exports(command, dispatch, shipping, cache is not None, first_error_ends).of(left)

    def call(self, errands: Sequence[Errand], progress: Progress) -> Generator[tuple[int, Any | VitExportError]]:
        """The place of each errand, and what its function gave or raised, as soon as it is done and what it wrote here.

        Raises:
            BadInput: a file cannot be read, or what a function wrote not be written here.
            Unavailable: the scheduler cannot be reached or is gone.
        """
        with self._dispatch(progress) as dispatch:
            shipping = Shipping(dispatch.contents, progress)
            dispatch.refresh()
            for number, errand in enumerate(errands):
                needs = next((each for each in errand.needs if dispatch.crew.able(each)), errand.needs[-1])
                dispatch.add(Work(Calling.of(number, errand, needs, shipping, dispatch.topic), needs, errand.what))
            for work, answer in dispatch.answers():
                assert isinstance(work.task, Calling), "nothing else was added"
                number = work.task.number
                if answer.error is not None:
                    yield number, answer.error
                    continue
                try:
                    given = errands[number].taken(answer)
                except NotWhatItSays as error:
                    dispatch.distrust(work, answer.worker, f"{error.what}: expected {error.expected}, got {error.got}")
                    continue
                yield number, given

    @contextlib.contextmanager
    def _dispatch(self, progress: Progress) -> Iterator[Dispatch]:
        """What still runs at the end of the block is given up."""
        if self._client is None:
            self._client = self._closing.enter_context(connected(self.cluster, progress, self.wait_s))
        dispatch = Dispatch(self._client, Contents(), progress, self.wait_s)
        try:
            yield dispatch
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
