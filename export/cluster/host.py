"""`vit-export worker`: this host joins a cluster, with what it can do."""

import asyncio
import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from efficientvit.errors import Unavailable
from export.cluster import abilities
from export.cluster.address import Cluster

_NANNY: dict[str, Any] = {"nthreads": 1, "memory_limit": 0, "worker_port": 0}
"""One thing at a time, since converters hold Python's lock and redirect the process's output; and no limit of memory at
which Dask would end the process in the middle of a conversion."""

_PRELOAD = "export.cluster.in_worker"
_CONFIG = {
    # Dask would set OMP_NUM_THREADS and the like, and figures would be others than without a cluster.
    "distributed.nanny.pre-spawn-environ": {},
    # No page of results: Dask would warn that bokeh is not installed.
    "distributed.worker.http.routes": [],
    # Dask would walk the converters' deep stacks a hundred times a second, and hold Python's lock meanwhile.
    "distributed.worker.profile.enabled": False,
    # It would wake fifty times a second to see that it is awake, also while a latency is measured.
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.system-monitor.interval": "10s",
    # Nothing that a task gives back is written to disk or moved to another worker.
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": False,
}


def worker_options(*, timing: bool) -> dict[str, Any]:
    """Of Dask's nanny and worker. `timing`: latencies measured here count."""
    import dask

    preload = [_PRELOAD, *dask.config.get("distributed.worker.preload", [])]
    return {**_NANNY, "resources": dict(abilities.of_this_host(timing=timing)), "preload": preload}


@contextmanager
def configured() -> Iterator[None]:
    """Dask's settings in the block, and in the processes that start in it."""
    import dask

    with dask.config.set(_CONFIG):
        yield


def join(cluster: Cluster, *, name: str | None, timing: bool, scratch: Path | None, wait_s: float) -> None:
    """Work for the scheduler until it ends, or this process is interrupted. A worker that dies is started again.

    Raises:
        Unavailable: the scheduler cannot be reached within `wait_s`.
    """
    from distributed import Nanny

    options = worker_options(timing=timing)
    if scratch is not None:
        options["local_directory"] = str(scratch)

    async def work() -> None:
        nanny = Nanny(cluster.address, name=name, security=cluster.security(), death_timeout=wait_s, **options)
        ended = asyncio.create_task(_run(nanny))
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, ended.cancel)
        try:
            await ended
        except asyncio.CancelledError:
            await nanny.close(timeout=10, reason="interrupted")
        except (OSError, TimeoutError) as error:
            raise Unavailable(
                f"cannot reach the scheduler {cluster}",
                expected=f"an answer within {wait_s:g} s",
                got=f"{type(error).__name__}: {error}",
                next_step="start it with `dask scheduler`, and give the worker the same TLS files",
            ) from error

    with configured():
        offers = ", ".join(sorted(options["resources"]))
        logging.getLogger("distributed").info("This host offers: %s", offers)
        asyncio.run(work())


async def _run(nanny: Any) -> None:
    async with nanny:
        await nanny.finished()
