"""The synthetic golden inputs: deterministic, varied, and blind to no rearrangement."""

import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from efficientvit.errors import BadOption
from efficientvit.images.preprocessing import Preprocessing
from efficientvit.size import ImageSize, square
from validation.inputs.synthetic import synthetic

Images = NDArray[Any]  # (n, 3, H, W)


def swap_windows(images: Images) -> Images:
    """The window grid read by columns instead of by rows."""
    n, c, s, _ = images.shape
    tiles = images.reshape(n, c, 7, s // 7, 7, s // 7)
    return tiles.transpose(0, 1, 4, 3, 2, 5).reshape(images.shape)


def transpose_windows(images: Images) -> Images:
    """Each window read by columns instead of by rows."""
    n, c, s, _ = images.shape
    tiles = images.reshape(n, c, 7, s // 7, 7, s // 7)
    return tiles.transpose(0, 1, 2, 5, 4, 3).reshape(images.shape)


REARRANGEMENTS: dict[str, Callable[[Images], Images]] = {
    "transposed": lambda x: x.swapaxes(2, 3),
    "anti-transposed": lambda x: x[:, :, ::-1, ::-1].swapaxes(2, 3),
    "flipped left-right": lambda x: x[..., ::-1],
    "flipped top-bottom": lambda x: x[:, :, ::-1],
    "turned by 90": lambda x: np.rot90(x, 1, (2, 3)),
    "turned by 180": lambda x: x[:, :, ::-1, ::-1],
    "turned by 270": lambda x: np.rot90(x, 3, (2, 3)),
    "shifted right by one": lambda x: np.roll(x, 1, 3),
    "shifted down by one": lambda x: np.roll(x, 1, 2),
    "windows by columns": swap_windows,
    "inside windows by columns": transpose_windows,
}
CHANNELS = [order for order in permutations(range(3)) if order != (0, 1, 2)]


def test_kinds_and_counts() -> None:
    golden = synthetic(Preprocessing(square(64)))

    assert Counter(golden.kinds) == {
        "natural": 5,
        "noise": 4,
        "flat": 3,
        "pattern": 4,
        "impulse": 2,
        "amplified": 2,
    }
    assert len(golden.ordinary()) >= 16
    assert len({image.tobytes() for image in golden.images}) == 20


@pytest.mark.parametrize("size", [64, 112, 224])
@pytest.mark.parametrize("seed", [0, 1])
def test_no_rearrangement_goes_unseen(size: int, seed: int) -> None:
    golden = synthetic(Preprocessing(square(size // 7 * 7)), seed)
    for kind in golden.unique_kinds:
        images = golden.of_kind(kind).images
        for name, rearrange in REARRANGEMENTS.items():
            if kind == "flat":
                continue
            seen = (rearrange(images) != images).any(axis=(1, 2, 3))
            # One pixel may lie where one rearrangement leaves it; the other image of its kind then sees it.
            enough = seen.any() if kind == "impulse" else seen.all()
            assert enough, (kind, name)
        for order in CHANNELS:
            assert (images[:, order] != images).any(), (kind, order)
    color = golden.images[golden.names.index("flat-color")]
    assert all((color[list(order)] != color).any() for order in CHANNELS)


@pytest.mark.parametrize("text", ["64x128", "224x320", "480x640"])
def test_a_rectangle_is_filled(text: str) -> None:
    """No part of it is flat, and turned or flipped it is another image."""
    size = ImageSize.parse(text)
    golden = synthetic(Preprocessing(size))
    assert golden.images.shape == size.nchw(20)
    for kind in set(golden.unique_kinds) - {"flat"}:
        images = golden.of_kind(kind).images
        for name in ("flipped left-right", "flipped top-bottom", "turned by 180", "shifted right by one"):
            seen = (REARRANGEMENTS[name](images) != images).any(axis=(1, 2, 3))
            assert seen.any() if kind == "impulse" else seen.all(), (kind, name)
        if kind != "impulse":
            corners = (images[..., rows, columns] for rows in _ENDS for columns in _ENDS)
            assert all((corner.std(axis=(1, 2, 3)) > 0).all() for corner in corners), kind


_ENDS = slice(None, 32), slice(-32, None)


def test_natural_images_have_a_1_over_f_spectrum_and_varied_contrast() -> None:
    natural = synthetic(Preprocessing()).of_kind("natural").pixels.astype(np.float64)
    contrasts = natural.std(axis=(1, 2, 3))
    assert (np.diff(contrasts) > 5).all()

    radius = np.hypot(*np.meshgrid(np.fft.fftfreq(224), np.fft.fftfreq(224)))
    amplitude = np.abs(np.fft.fft2(natural[1, :, :, 1]))
    bands = [(radius > low) & (radius <= 1.5 * low) for low in (0.02, 0.04, 0.08, 0.16, 0.3)]
    slope = np.polyfit(
        np.log([radius[band].mean() for band in bands]), np.log([amplitude[band].mean() for band in bands]), 1
    )[0]
    assert slope == pytest.approx(-1, abs=0.15)

    red, green, blue = natural[2].reshape(-1, 3).T
    assert 0.6 < np.corrcoef(red, green)[0, 1] < 0.99
    assert 0.6 < np.corrcoef(red, blue)[0, 1] < 0.99


def test_patterns_reach_both_ends_and_the_highest_frequency() -> None:
    patterns = synthetic(Preprocessing()).of_kind("pattern").pixels
    for pattern in patterns:
        assert pattern.min() == 0
        assert pattern.max() >= 250
    checkerboard, stripes = patterns[:2].astype(int)
    assert (np.abs(np.diff(checkerboard[:80, :80], axis=0)) == 255).all()
    assert (np.diff(stripes[:, -40:], axis=1) != 0).mean() > 0.8


def test_noise_is_standard_normal() -> None:
    for kind in ("noise", "amplified"):
        noise = synthetic(Preprocessing()).of_kind(kind).images
        assert noise.mean(axis=(1, 2, 3)) == pytest.approx(0, abs=0.02)
        assert noise.std(axis=(1, 2, 3)) == pytest.approx(1, abs=0.02)


def test_one_bright_pixel() -> None:
    for pixels in synthetic(Preprocessing(square(64))).of_kind("impulse").pixels:
        ground = pixels[0, 0]
        assert (pixels != ground).any(axis=-1).sum() == 1


def test_the_seed_decides_and_two_processes_agree() -> None:
    program = (
        "from efficientvit.images.preprocessing import Preprocessing\n"
        "from validation.inputs.synthetic import synthetic\n"
        "print(synthetic(Preprocessing(), 3).sha256)"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", program], cwd=root, check=True, capture_output=True, text=True)

    assert done.stdout.strip() == synthetic(Preprocessing(), 3).sha256
    assert done.stdout.strip() != synthetic(Preprocessing(), 4).sha256
    with pytest.raises(BadOption, match="seed"):
        synthetic(Preprocessing(), -1)
