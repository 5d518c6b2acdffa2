"""Faults in what an app does to a photo before the model sees it: the artifact is right, its input is not."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from efficientvit.images.preprocessing import Preprocessing, normalize, to_uint8
from efficientvit.size import ImageSize
from export.selftest.faults.fault import Rng, first_line
from runtimes.runtime import Array

Rgb = NDArray[np.uint8]
"""(height, width, 3)."""

Feed = Callable[[Rgb, Preprocessing, Rng], Array]
"""A photo -> what the model is fed, (3, H, W), normalized."""


@dataclass(frozen=True, slots=True)
class InputFault:
    """A wrong preparation of a photo."""

    name: str
    says: str
    feed: Feed


FAULTS: list[InputFault] = []


def fault(feed: Feed) -> Feed:
    """Enter a wrong preparation in `FAULTS`, in order of definition."""
    FAULTS.append(InputFault(feed.__name__, first_line(feed), feed))
    return feed


def photo(size: ImageSize, seed: int = 0) -> Rgb:
    """A picture with a natural spectrum, twice as large as the model wants it, and of another shape."""
    rng = np.random.default_rng(seed)
    height, width = 2 * size.height + 37, 2 * size.width + 90
    y, x = np.meshgrid(np.fft.fftfreq(height), np.fft.fftfreq(width), indexing="ij")
    falloff = 1 / np.maximum(np.hypot(y, x), 1 / height)
    phases = np.exp(2j * np.pi * rng.random((3, height, width)))
    waves = np.fft.ifft2(falloff * phases, axes=(1, 2)).real
    waves = 128 + 50 * (waves - waves.mean()) / waves.std()
    pixels: Rgb = np.clip(np.moveaxis(waves, 0, 2), 0, 255).astype(np.uint8)
    return pixels


def right(pixels: Rgb, preprocessing: Preprocessing) -> Array:
    """As it should be."""
    prepared: Array = normalize(to_uint8(pixels, preprocessing), preprocessing)
    return prepared


@fault
def bilinear(pixels: Rgb, preprocessing: Preprocessing, rng: Rng) -> Array:
    """Resized bilinearly in place of bicubically."""
    return right(pixels, replace(preprocessing, interpolation="bilinear"))


@fault
def no_antialias(pixels: Rgb, preprocessing: Preprocessing, rng: Rng) -> Array:
    """Resized without a filter against aliasing: the nearest pixel."""
    return right(pixels, replace(preprocessing, interpolation="nearest"))


@fault
def crop_off_by_one(pixels: Rgb, preprocessing: Preprocessing, rng: Rng) -> Array:
    """Cropped one pixel beside the center."""
    axis = int(rng.integers(1, 3))
    return np.ascontiguousarray(np.roll(right(pixels, preprocessing), 1, axis))


@fault
def wrapped(pixels: Rgb, preprocessing: Preprocessing, rng: Rng) -> Array:
    """Brightened in 8 bits, which wrap around at 255."""
    more = np.uint8(rng.integers(10, 60))
    return right(pixels + more, preprocessing)


@fault
def blue_first(pixels: Rgb, preprocessing: Preprocessing, rng: Rng) -> Array:
    """B G R in place of R G B."""
    return right(np.ascontiguousarray(pixels[..., ::-1]), preprocessing)


@fault
def average_std(pixels: Rgb, preprocessing: Preprocessing, rng: Rng) -> Array:
    """All channels divided by the average of their standard deviations, as image inputs with one scale do."""
    mean = sum(preprocessing.std) / 3
    return right(pixels, replace(preprocessing, std=(mean, mean, mean)))


@fault
def not_normalized(pixels: Rgb, preprocessing: Preprocessing, rng: Rng) -> Array:
    """Values of 0 to 1, as they come out of a tensor conversion."""
    return right(pixels, replace(preprocessing, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)))
