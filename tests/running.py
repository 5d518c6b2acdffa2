"""The pipeline's outcomes of a request for one model, in this process."""

from collections.abc import Iterator, Mapping

from export.cache.store import Cache
from export.pipeline import prepare
from export.pipeline.outcome import Outcome
from export.pipeline.prepare import Loaded
from export.pipeline.run import run
from export.request.request import Request
from export.targets.target import Make
from runtimes.host.threads import one_thread
from tests.silent import Silent


def run_request(
    request: Request,
    loaded: Loaded | None = None,
    *,
    cache: Cache | None = None,
    stages: Mapping[str, Make] | None = None,
) -> Iterator[Outcome]:
    """Each as soon as it is done. `loaded`: the model, where it was before; `cache`, `stages`: as of `run`."""
    jobs = request.jobs()
    (name,) = dict.fromkeys(job.model for job in jobs)
    with one_thread():
        loaded = loaded or prepare.load(request, name, jobs, Silent())
    return run(loaded, jobs, request, Silent(), cache=cache, stages=stages)
