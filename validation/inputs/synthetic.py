"""Synthetic golden inputs: seeded, and without the symmetries behind which a fault could hide."""

import zlib

import numpy as np
from numpy.typing import NDArray

from efficientvit.errors import BadOption
from efficientvit.images.preprocessing import Preprocessing
from efficientvit.size import ImageSize
from validation.inputs.golden_set import GoldenImage, GoldenSet, Kind

Pixels = NDArray[np.uint8]
Color = tuple[int, int, int]

_CONTRASTS = (12.0, 28.0, 44.0, 60.0, 80.0)  # standard deviation of the brightness, in 8-bit units
_NOISE, _AMPLIFIED = 4, 2
_FLAT: dict[str, Color] = {"black": (0, 0, 0), "gray": (128, 128, 128), "color": (200, 60, 25)}
_SATURATED: Pixels = np.array([(r, g, b) for r in (0, 255) for g in (0, 255) for b in (0, 255)], dtype=np.uint8)


def synthetic(preprocessing: Preprocessing, seed: int = 0) -> GoldenSet:
    """20 images of the preprocessing's size: 5 natural, 4 noise, 3 flat, 4 patterns, 2 impulses, 2 amplified.

    Every image has a random stream of its own, from the seed, its kind and its index. The same seed gives the
    same bytes on the same NumPy build; across builds the set's `sha256` says whether it did, and a saved set
    is the authority.

    Raises:
        BadOption: the seed is negative.
    """
    if seed < 0:
        raise BadOption("the golden seed cannot be used", expected="0 or more", got=str(seed))
    size = preprocessing.image_size

    def noise(kind: Kind, index: int) -> GoldenImage:
        values = _stream(seed, kind, index).standard_normal((3, size.height, size.width), dtype=np.float32)
        return GoldenImage(f"{kind}-{index}", kind, values)

    def natural(index: int, contrast: float) -> GoldenImage:
        pixels = _natural(size, contrast, _stream(seed, Kind.NATURAL, index))
        return GoldenImage(f"natural-{index}", Kind.NATURAL, pixels)

    members = [
        *(natural(i, contrast) for i, contrast in enumerate(_CONTRASTS)),
        *(noise(Kind.NOISE, i) for i in range(_NOISE)),
        *(GoldenImage(f"flat-{name}", Kind.FLAT, _flat(size, color)) for name, color in _FLAT.items()),
        GoldenImage("pattern-checkerboard", Kind.PATTERN, _checkerboard(size)),
        GoldenImage("pattern-stripes", Kind.PATTERN, _stripes(size)),
        GoldenImage("pattern-blocks", Kind.PATTERN, _blocks(size, _stream(seed, Kind.PATTERN, 0))),
        GoldenImage("pattern-gradient", Kind.PATTERN, _gradient(size)),
        GoldenImage("impulse-black", Kind.IMPULSE, _impulse(size, "black", (255, 240, 120), (0.31, 0.67))),
        GoldenImage("impulse-gray", Kind.IMPULSE, _impulse(size, "gray", (255, 40, 215), (0.83, 0.45))),
        *(noise(Kind.AMPLIFIED, i) for i in range(_AMPLIFIED)),
    ]
    return GoldenSet(tuple(members), preprocessing)


def _stream(seed: int, kind: Kind, index: int) -> np.random.Generator:
    # One stream an image, so that adding an image leaves the others as they are.
    return np.random.default_rng([seed, zlib.crc32(kind.encode()), index])


def _natural(size: ImageSize, contrast: float, stream: np.random.Generator) -> Pixels:
    """A colored field with the 1/f amplitude spectrum of natural images (Field, JOSA A 1987).

    Its channels are correlated, as in photographs: mostly brightness, a third as much color.
    """
    height, width = size.height, size.width
    rows, columns = np.fft.fftfreq(height)[:, None, None], np.fft.rfftfreq(width)[None, :, None]
    frequency = np.hypot(rows, columns)
    frequency[0, 0] = np.inf  # the mean is set below
    spectrum = np.fft.rfft2(stream.standard_normal((height, width, 4)), axes=(0, 1)) / frequency
    field = np.fft.irfft2(spectrum, s=(height, width), axes=(0, 1))
    field /= field.std(axis=(0, 1))
    brightness = stream.uniform(96, 160) + contrast * (field[..., :1] + field[..., 1:] / 3)
    return _to_bytes(brightness)


def _flat(size: ImageSize, color: Color) -> Pixels:
    return np.full((size.height, size.width, 3), color, dtype=np.uint8)


def _checkerboard(size: ImageSize) -> Pixels:
    """Squares of one pixel, in opposite colors that differ, in hue or phase, in four unequal quarters."""
    y, x = np.indices((size.height, size.width))
    quarter = 1 + 2 * (y >= size.height * 5 // 8) + (x >= size.width * 3 // 8)  # 1..4: blue, green, cyan, red
    pixels: Pixels = _SATURATED[np.where((x + y) % 2 == 0, quarter, 7 - quarter)]
    return pixels


def _stripes(size: ImageSize) -> Pixels:
    """Slanting saturated stripes that narrow to one pixel towards the right, offset between the channels."""
    y, x, channel = np.indices((size.height, size.width, 3))
    phase = (x * x + (1 + channel) * size.width * y // 5 + 3 * channel * size.width) // (2 * size.width)
    pixels: Pixels = (phase % 2 * 255).astype(np.uint8)
    return pixels


def _blocks(size: ImageSize, stream: np.random.Generator) -> Pixels:
    """An 11 x 11 mosaic of the eight saturated colors; its edges fall on no patch or window border."""
    row, column = (np.arange(side) * 11 // side for side in (size.height, size.width))
    colors = stream.integers(len(_SATURATED), size=(11, 11))
    pixels: Pixels = _SATURATED[colors[row[:, None], column[None, :]]]
    return pixels


def _gradient(size: ImageSize) -> Pixels:
    """Red rises to the right, green falls downwards, blue rises along the diagonal, quadratically."""
    y, x = np.indices((size.height, size.width))
    x, y = x / max(size.width - 1, 1), y / max(size.height - 1, 1)
    return _to_bytes(255 * np.stack([x, 1 - y, ((x + y) / 2) ** 2], axis=-1))


def _impulse(size: ImageSize, ground: str, peak: Color, at: tuple[float, float]) -> Pixels:
    """One pixel, at a share of the height and width that no flip or transposition maps onto itself."""
    pixels = _flat(size, _FLAT[ground])
    pixels[int(at[0] * size.height), int(at[1] * size.width)] = peak
    return pixels


def _to_bytes(values: NDArray[np.float64]) -> Pixels:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
