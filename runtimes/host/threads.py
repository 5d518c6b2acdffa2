"""The number of threads that PyTorch and numpy compute on."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def one_thread() -> Iterator[None]:
    """PyTorch and numpy's BLAS on one thread inside the block: wherever a reference, a budget or a proof is computed.

    Budgets must not depend on how many cores there are. Nor would more pay where others want the cores: threads of
    OpenMP and of OpenBLAS wait for each other by spinning. With PyTorch on both of two cores and one of them busy an
    export took 125 s, and 49 s on one thread; a norm of 100,000 numbers takes twenty times as long.
    """
    from threadpoolctl import threadpool_limits

    with torch_threads(1), threadpool_limits(1, user_api="blas"):
        yield


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """PyTorch on `count` threads inside the block, as a runtime is asked to be."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
