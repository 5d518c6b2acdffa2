"""`cluster` and the keywords that go with it, as several functions have them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from export.request.options import OnDisk

if TYPE_CHECKING:
    from export.cluster.client import Workers


@contextmanager
def workers_of(
    cluster: str | None, tls: Sequence[OnDisk | None], wait_s: float, jobs: int | None
) -> "Iterator[Workers | None]":
    """The cluster's workers, for the block; None where none is asked for. `tls`: authority, certificate and key.

    Raises:
        BadOption: options that do not go together.
        MissingExtra: Dask is not installed.
    """
    from export.cluster.address import cluster_of

    asked = cluster_of(cluster, tls, jobs=jobs)
    if asked is None:
        yield None
        return
    from export.cluster.client import Workers

    with Workers(asked, wait_s) as workers:
        yield workers
