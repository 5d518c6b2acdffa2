"""The least and the largest value of each tensor over many images."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtimes.runtime import Array

Tensors = Mapping[str, NDArray[Any]]


def extremes(run: Callable[[Array], Tensors], images: Array, batch: int) -> dict[str, tuple[float, float]]:
    """The least and the largest of 0 and every value of a floating-point tensor; NaN is both infinities.

    `run`: (B, 3, S, S) -> tensors by name; it is given `batch` images at a time.
    """
    found: dict[str, tuple[float, float]] = {}
    for start in range(0, len(images), batch):
        part = np.take(images, range(start, start + batch), axis=0, mode="wrap")
        for name, value in run(part).items():
            if value.dtype.kind == "f":
                low, high = float(value.min(initial=0.0)), float(value.max(initial=0.0))
                if np.isnan(low):
                    low, high = -float("inf"), float("inf")
                before = found.get(name, (0.0, 0.0))
                found[name] = min(before[0], low), max(before[1], high)
    return found
