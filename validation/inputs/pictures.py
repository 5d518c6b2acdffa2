"""Images for the preprocessing in a file: of many sizes where it takes any, textured to the last pixel."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from efficientvit.size import ImageSize

SIZES = (
    (480, 640),
    (640, 480),
    (375, 500),
    (500, 333),
    (333, 333),
    (224, 224),
    (96, 130),
    (257, 1021),
    (720, 1280),
    (1512, 1134),
    (1200, 500),
)
"""Height and width, pixels: larger and smaller than the input, upright and flat, odd and even; one more than twice as
high as wide, whose columns Pillow 13 would take first."""

_OF_ONE_SIZE = 4
_BLOCKS = (37, 11, 3)
"""Sides of the squares that an image is made of, pixels: edges at every scale, on no border of another size."""


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """`pixels`: (h, w, 3) uint8, R G B, read-only."""

    name: str
    pixels: NDArray[np.uint8]


@cache
def pictures(size: ImageSize | None, seed: int = 0) -> tuple[Picture, ...]:
    """Seeded images of this size, or of `SIZES` where it is None."""
    sizes = [size] * _OF_ONE_SIZE if size else [ImageSize(height=height, width=width) for height, width in SIZES]
    return tuple(_picture(index, each, seed) for index, each in enumerate(sizes))


def _picture(index: int, size: ImageSize, seed: int) -> Picture:
    """Squares of three sizes in random colors, one upon the other, and grain in each pixel."""
    stream = np.random.default_rng([seed, index, size.height, size.width])
    values = stream.integers(0, 64, (size.height, size.width, 3), dtype=np.uint8)
    for side in _BLOCKS:
        rows, columns = (-(-length // side) for length in (size.height, size.width))
        squares = stream.integers(0, 64, (rows, columns, 3), dtype=np.uint8)
        values += squares.repeat(side, axis=0)[: size.height].repeat(side, axis=1)[:, : size.width]
    values.flags.writeable = False
    return Picture(f"picture-{index} ({size.height}x{size.width})", values)
