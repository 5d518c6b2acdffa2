"""Exports that run at the same time, in processes of their own, and what is measured only while the others rest."""

from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import c_int
from dataclasses import dataclass
from multiprocessing.synchronize import Condition


@dataclass(frozen=True, slots=True)
class Beside:
    """One of them. A worker is `working` except where it waits; whoever is `alone` waits until no other works.

    `second`: another worker evaluates the same model's reference at this moment. `working_now` and `wanting` count
    workers; `changed` guards both.
    """

    changed: Condition
    working_now: c_int
    wanting: c_int
    second: bool = False

    @contextmanager
    def working(self) -> Iterator[None]:
        """Inside the block, which doesn't begin while somebody wants to be alone, nobody else is."""
        self._begin()
        try:
            yield
        finally:
            self._end()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """For a moment of a worker's, inside `working`: the others have finished, or wait for this as well."""
        self._end()
        with self.changed:
            self.wanting.value += 1
            self.changed.wait_for(lambda: self.working_now.value == 0)
            self.wanting.value -= 1
            self.working_now.value = 1
            try:
                yield  # the condition's lock is held: nobody else begins
            finally:
                self.changed.notify_all()

    def _begin(self) -> None:
        with self.changed:
            self.changed.wait_for(lambda: self.wanting.value == 0)
            self.working_now.value += 1

    def _end(self) -> None:
        with self.changed:
            self.working_now.value -= 1
            self.changed.notify_all()
