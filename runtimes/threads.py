"""How many threads PyTorch computes on, for as long as something lasts."""

from collections.abc import Iterator
from contextlib import contextmanager

from runtimes.host import this_host


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """PyTorch on `count` threads inside the block."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def spare_threads() -> int:
    """Half of the CPUs that this process may use.

    OpenMP's threads wait for each other by spinning. Where another process wants the same cores, as on a CI host, they
    mostly wait: with PyTorch on both of two cores and one of them busy, an export took 125 s, and 49 s on one thread.
    """
    return max(1, this_host().usable_cpus // 2)
