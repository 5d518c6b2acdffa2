"""Exports that run at the same time, in processes of their own, and what is measured only while the others rest."""

from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import c_int
from dataclasses import dataclass
from multiprocessing.synchronize import Condition


@dataclass(frozen=True, slots=True)
class Beside:
    """One of them. A worker is `working` except where it waits; whoever is `alone` waits until no other works.

    `second`: another worker evaluates the same model's reference at this moment. `busy` and `wanting` count workers;
    `changed` guards both.
    """

    changed: Condition
    busy: c_int
    wanting: c_int
    second: bool = False

    @contextmanager
    def working(self) -> Iterator[None]:
        """Inside the block, which doesn't begin while somebody wants to be alone, nobody else is."""
        with self.changed:
            self.changed.wait_for(lambda: self.wanting.value == 0)
            self.busy.value += 1
        try:
            yield
        finally:
            with self.changed:
                self.busy.value -= 1
                self.changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """For a moment of a worker's, inside `working`: the others have finished, or wait for this as well."""
        with self.changed:
            self.busy.value -= 1
            self.wanting.value += 1
            self.changed.notify_all()
            try:
                self.changed.wait_for(lambda: self.busy.value == 0)
                yield  # the condition's lock is held: nobody else begins
            finally:
                self.wanting.value -= 1
                self.busy.value += 1
                self.changed.notify_all()
