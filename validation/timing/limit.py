"""What one core multiplies, measured where and when latencies are: the limit that they are read against.

    python -m validation.timing.limit

In a process of its own, whose libraries have one thread each from their import on. The shortest of many short runs
counts, by the clock: what else the host does lengthens some, never all. Not in processor time, to which Linux adds what
another thread, such as OpenVINO's, has used only after the run: the shortest was then far too short.
"""

import json
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

from efficientvit.errors import StageFailed
from runtimes.host.packages import same_packages
from runtimes.precision import Dtype
from validation.timing.alone import ERROR, said

ROUNDS, _BLOCK_NS = 3, 40e6
_ONE_THREAD = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")


@dataclass(frozen=True, slots=True)
class Limit:
    """The most that any library reached in one arithmetic, on one thread. `shape`: M, K, N of the product."""

    arithmetic: Dtype
    operations_per_s: float
    library: str
    shape: tuple[int, int, int]


Limits = Mapping[Dtype, Limit]


def measured_limits() -> Limits:
    """In a new process; of those arithmetics that a library here has.

    Raises:
        StageFailed: the process failed.
    """
    found = said([sys.executable, "-P", "-m", __name__], {**same_packages(), **_ONE_THREAD})
    if ERROR in found:
        raise StageFailed("what a core multiplies could not be measured", got=found[ERROR])
    rows = (
        Limit(Dtype(each["arithmetic"]), each["operations_per_s"], each["library"], tuple(each["shape"]))
        for each in found["limits"]
    )
    return highest(rows)


def highest(limits: Iterable[Limit]) -> Limits:
    """By arithmetic: what shares the core's caches and units can only make a product slower."""
    best: dict[Dtype, Limit] = {}
    for each in limits:
        if each.arithmetic not in best or each.operations_per_s > best[each.arithmetic].operations_per_s:
            best[each.arithmetic] = each
    return best


def _measured() -> list[Limit]:
    from validation.timing.kernels import kernels

    every = list(kernels())
    fastest = [float("inf")] * len(every)
    for each in every:
        each.run()
    for _ in range(ROUNDS):
        for place, each in enumerate(every):
            end = time.perf_counter_ns() + _BLOCK_NS
            while time.perf_counter_ns() < end:
                start = time.perf_counter_ns()
                each.run()
                fastest[place] = min(fastest[place], time.perf_counter_ns() - start)
    limits = (
        Limit(each.arithmetic, 1e9 * each.operations / ns, each.library, each.shape)
        for each, ns in zip(every, fastest, strict=True)
    )
    return list(highest(limits).values())


if __name__ == "__main__":
    print(json.dumps({"limits": [asdict(each) for each in _measured()]}))  # noqa: T201
