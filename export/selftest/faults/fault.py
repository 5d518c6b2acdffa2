"""What a fault is, and the decorator that enters the function that plants it in its format's table."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from runtimes.artifact import digest

Rng = np.random.Generator
"""Places and magnitudes are drawn at random, from a seed that whoever plants shows."""

NUMBERS = ("structure", "precision", "overflow", "quality")
"""Gates that compare logits: a wrong constant may be seen there too."""

T = TypeVar("T")
Plant = Callable[[T, Rng], object]
"""Spoils what was opened, in place, or returns the spoiled version where T cannot be changed."""

_NOT_OF_THE_PROGRAM = ("interface", "ranges")
"""Gates whose faults leave the program as it was, unless they say otherwise: a range is calibration's to say."""

Planting = Callable[[Plant[T], Path, Rng], AbstractContextManager[None]]
"""Opens a file for `Plant` and writes it back: the fault is there at least as long as the context is."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault in the file of one stage. `gate` must see it, `others` may as well; `rare`: another one is like it.

    `program`: it changes what the file's program computes, so that the proof has to tell it apart, if the format's
    reader gives it one.
    """

    name: str
    says: str
    target: str
    variant: str
    stage: str
    gate: str
    planted: Callable[[Path, Rng], AbstractContextManager[None]]
    others: tuple[str, ...] = ()
    rare: bool = False
    program: bool = True

    def __str__(self) -> str:
        return f"{self.name}-{self.target}-{self.variant}-{self.stage}"


class Table(Generic[T]):
    """A decorator for functions that plant a fault, and the faults that it collected, in order of definition.

    `place`: the variant and the stage where nothing else is said.
    """

    def __init__(self, target: str, planting: Planting[T], place: str = "") -> None:
        self._target = target
        self._planting = planting
        self._place = place
        self._faults: list[Fault] = []

    def __call__(
        self, gate: str, *places: str, also: tuple[str, ...] = (), rare: bool = False, program: bool | None = None
    ) -> Callable[[Plant[T]], Plant[T]]:
        """Enter the function once for each of `places`, such as "fp32 trace"."""
        changes = gate not in _NOT_OF_THE_PROGRAM if program is None else program

        def collect(plant: Plant[T]) -> Plant[T]:
            for variant, stage in (place.split() for place in places or (self._place,)):
                planted = partial(self._planting, plant)
                name, says = plant.__name__, first_line(plant)
                self._faults.append(Fault(name, says, self._target, variant, stage, gate, planted, also, rare, changes))
            return plant

        return collect

    def __iter__(self) -> Iterator[Fault]:
        return iter(self._faults)


def in_file(opened: Callable[[Path], AbstractContextManager[T]]) -> Planting[T]:
    """Plant in what `opened` yields, which saves it on exit. Raises ValueError where the file is what it was."""

    @contextmanager
    def planting(plant: Plant[T], path: Path, rng: Rng) -> Iterator[None]:
        before = digest(path)
        with opened(path) as content:
            plant(content, rng)
        if digest(path) == before:
            raise ValueError("the fault changed nothing")
        yield

    return planting


def first_line(function: Callable[..., object]) -> str:
    """What a plant says of itself."""
    return (function.__doc__ or "").strip().splitlines()[0]


def pick(rng: Rng, items: Sequence[Any]) -> Any:
    """One at random."""
    assert items, "the fault has nothing to be planted in"
    return items[int(rng.integers(len(items)))]


def one_changed(values: NDArray[Any], rng: Rng, change: Callable[[Any], Any]) -> NDArray[Any]:
    """`values`, one of them at random changed in place."""
    flat = values.reshape(-1)
    i = int(rng.integers(flat.size))
    flat[i] = change(flat[i])
    return values


def next_up(value: Any) -> Any:
    """A unit in the last place more."""
    return np.nextafter(value, value.dtype.type(np.inf))


def nearer_to_zero(integer: Any) -> Any:
    """An integer off by one."""
    return integer - (np.sign(integer) or 1)


def alike(items: Sequence[Any], key: Callable[[Any], object]) -> list[tuple[Any, Any]]:
    """Every pair of which `key` gives the same, such as a shape: they can change places."""
    keys = [key(item) for item in items]
    return [(one, other) for i, one in enumerate(items) for j, other in enumerate(items[:i]) if keys[i] == keys[j]]
