"""Worker processes share the machine, except while one of them measures."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_SH, LOCK_UN, flock
from pathlib import Path


class Exclusive:
    """Locks on two files of a folder, in one worker; they end with its process, however that ends.

    `room` is held shared by every worker that runs, or exclusively by the one that measures. `door` is held by a worker
    that waits to be alone, so that no other starts meanwhile.
    """

    def __init__(self, folder: Path) -> None:
        self._door, self._room = (os.open(folder / name, os.O_CREAT | os.O_RDWR) for name in ("door", "room"))

    @contextmanager
    def working(self) -> Iterator[None]:
        """The block starts when no other worker measures or waits to."""
        try:
            flock(self._door, LOCK_EX)
            flock(self._room, LOCK_SH)
            flock(self._door, LOCK_UN)
            yield
        finally:
            flock(self._room, LOCK_UN)
            flock(self._door, LOCK_UN)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Inside `working`: the block starts when every other worker has finished, or waits here as well."""
        flock(self._room, LOCK_UN)
        flock(self._door, LOCK_EX)
        flock(self._room, LOCK_EX)
        try:
            yield
        finally:
            flock(self._room, LOCK_SH)
            flock(self._door, LOCK_UN)
