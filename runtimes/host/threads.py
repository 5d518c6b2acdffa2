"""The number of threads that PyTorch computes on."""

from collections.abc import Iterator
from contextlib import contextmanager

REFERENCE_THREADS = 1
"""Budgets must not depend on how many cores there are.

Nor would more pay where others want the cores: OpenMP's threads wait for each other by spinning, and with PyTorch on
both of two cores and one of them busy an export took 125 s, and 49 s on one thread.
"""


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
