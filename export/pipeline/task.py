"""One job to be done."""

from dataclasses import dataclass

from export.request.request import Request
from export.targets.target import Job


@dataclass(frozen=True, slots=True)
class Task:
    """A job of a request. `number`: the caller's, for the result. `key`: of the export in the cache, if it is kept."""

    number: int
    request: Request
    job: Job
    key: str | None = None
