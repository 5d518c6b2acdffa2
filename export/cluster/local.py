"""`--cluster local:N`: a scheduler and N workers on this host, for as long as a command takes."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from export.cluster.host import configured, worker_options

_QUIET = logging.CRITICAL + 1
"""Of Dask's own log: at the end of a command it reports connections that it closes itself as errors."""


@contextmanager
def workers_here(count: int) -> Iterator[str]:
    """The scheduler's address, on the loopback interface; all of it ends with the block."""
    with configured():
        from distributed import Nanny, Scheduler
        from distributed.deploy.spec import SpecCluster

        logging.getLogger("distributed").setLevel(_QUIET)
        options = {**worker_options(timing=True), "host": "127.0.0.1", "silence_logs": _QUIET}
        scheduler = {"cls": Scheduler, "options": {"host": "127.0.0.1", "port": 0, "dashboard_address": "127.0.0.1:0"}}
        with SpecCluster(
            workers={place: {"cls": Nanny, "options": options} for place in range(count)},
            scheduler=scheduler,
            silence_logs=_QUIET,
        ) as cluster:
            yield str(cluster.scheduler_address)
