"""Labeled images are answered a batch at a time, by this process or with the help of others, to the same bits.

Each batch is the same images whoever takes it, so that its answers do not depend on how the batches were divided.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Run = Callable[[Pixels], NDArray[np.floating]]
"""(B, H, W, 3) uint8 to (B, classes)."""

Rows = NDArray[np.intp]


class Answering(Protocol):
    """What gives the answers."""

    def opened(self) -> AbstractContextManager[Run]:
        """Ready to be run in the block."""


class Sharing(Protocol):
    """How batches are divided."""

    def answers(
        self, answering: Answering, pixels: Pixels, batches: Sequence[Rows], step: Callable[[int], None]
    ) -> list[NDArray[np.floating]]:
        """The answers to each batch of `pixels`, in order; `step` is given the number of one that begins here."""


class Alone:
    """This process takes all."""

    def answers(
        self, answering: Answering, pixels: Pixels, batches: Sequence[Rows], step: Callable[[int], None]
    ) -> list[NDArray[np.floating]]:
        """One after the other."""
        found = []
        with answering.opened() as run:
            for number, rows in enumerate(batches):
                step(number)
                found.append(run(pixels[rows]))
        return found


_sharing: ContextVar[Sharing | None] = ContextVar("sharing", default=None)


@contextmanager
def sharing(how: Sharing) -> Iterator[None]:
    """Inside the block, batches are divided so."""
    token = _sharing.set(how)
    try:
        yield
    finally:
        _sharing.reset(token)


def current() -> Sharing:
    """How they are divided here."""
    return _sharing.get() or Alone()
