"""Garbage collection leaves alone what was loaded before a conversion: PyTorch is a lot to look through."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_at_rest = False


@contextmanager
def collector_at_rest() -> Iterator[None]:
    """Inside the block, objects that exist already are not collected.

    Where an outer block, or the program that this is a part of, has frozen them, it lets go of them and not this block.
    """
    global _at_rest  # noqa: PLW0603
    if _at_rest or gc.get_freeze_count() > 0:  # which looks at each: 24 ms of a million
        yield
        return
    gc.freeze()
    _at_rest = True
    try:
        yield
    finally:
        _at_rest = False
        gc.unfreeze()
