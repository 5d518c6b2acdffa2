"""Images for the preprocessing in a file: of many sizes where it takes any, textured to the last pixel."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from efficientvit.size import ImageSize
from validation.inputs.synthetic import natural_pixels

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
)
"""Height and width, pixels: larger and smaller than the input, upright and flat, odd and even."""

_OF_ONE_SIZE = 4
_CONTRAST, _GRAIN = 55.0, 14.0
"""Standard deviations of the brightness and of the noise of each pixel, in 8-bit units."""


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """`pixels`: (h, w, 3) uint8, R G B."""

    name: str
    pixels: NDArray[np.uint8]


def pictures(size: ImageSize | None, seed: int = 0) -> tuple[Picture, ...]:
    """Seeded images of this size, or of `SIZES` where it is None."""
    sizes = [size] * _OF_ONE_SIZE if size else [ImageSize(height=height, width=width) for height, width in SIZES]
    return tuple(_picture(index, each, seed) for index, each in enumerate(sizes))


def _picture(index: int, size: ImageSize, seed: int) -> Picture:
    stream = np.random.default_rng([seed, index, size.height, size.width])
    field = natural_pixels(size, _CONTRAST, stream).astype(np.float64)
    grain = stream.normal(0, _GRAIN, (size.height, size.width, 3))
    return Picture(
        f"picture-{index} ({size.height}x{size.width})", np.clip(np.rint(field + grain), 0, 255).astype(np.uint8)
    )
