"""Garbage collection leaves alone what was loaded before a conversion: PyTorch is a lot to look through."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collector_at_rest() -> Iterator[None]:
    """Inside the block, objects that exist already are not collected."""
    if gc.get_freeze_count() > 0:  # an outer block has frozen them, and will unfreeze them
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
