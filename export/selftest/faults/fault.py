"""What a fault is: data that says where it is planted and which gate has to see it, and a function that plants it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

Rng = np.random.Generator
"""Places and magnitudes are drawn at random, from a seed that whoever plants shows."""


@dataclass(frozen=True, slots=True)
class FileFault:
    """A fault in the file that a stage made, of a target in a variant; `gate` must see it, `others` may as well."""

    name: str
    says: str
    target: str
    variant: str
    stage: str
    gate: str
    plant: Callable[[Path, Rng], object]
    others: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.name}-{self.target}-{self.variant}-{self.stage}"


def first_line(function: Callable[..., object]) -> str:
    """What a plant says of itself."""
    return (function.__doc__ or "").strip().splitlines()[0]
