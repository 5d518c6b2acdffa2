"""A labeled data set without a network: gray patches of scikit-image's photographs; the class is the photograph.

Each photograph is cut into horizontal bands: of every three, two are for training and calibration and one is for
evaluation, so that no pixel is in both. The patches are small, noisy and turned up or down in contrast, and many show
little more than sky or cloth: no model gets all of them right.

    python -m benchmarks.patches FOLDER [--split train|evaluation] [--each N]
"""

import math
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional

PHOTOGRAPHS = (
    "astronaut.png",
    "brick.png",
    "camera.png",
    "chelsea.png",
    "coffee.png",
    "coins.png",
    "grass.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "moon.png",
    "motorcycle_left.png",
    "retina.jpg",
    "rocket.jpg",
)
"""Files of the scikit-image wheel, whose README.txt gives their sources and licenses."""

BAND, OF_THREE = 72, 3
SIDE = 48
"""Pixels: of a band, of which every third is for evaluation; of an evaluation patch."""

_NOISE = 0.04


def photographs() -> dict[str, Tensor]:
    """Name -> (H, W) luminance from 0 to 1."""
    import skimage.data

    folder = Path(skimage.data.__file__).parent
    return {
        Path(name).stem: torch.from_numpy(np.array(Image.open(folder / name).convert("L"), np.float32) / 255)
        for name in PHOTOGRAPHS
    }


def bands(height: int, *, evaluation: bool) -> list[tuple[int, int]]:
    """First and last row (exclusive) of the bands of one split that are whole."""
    starts = range(0, height - BAND + 1, BAND)
    chosen = [(start, start + BAND) for start in starts if (start // BAND % OF_THREE == 1) is evaluation]
    merged: list[tuple[int, int]] = []
    for first, last in chosen:
        if merged and merged[-1][1] == first:
            merged[-1] = (merged[-1][0], last)
        else:
            merged.append((first, last))
    return merged


def evaluation_patches(each: int, seed: int = 0, *, evaluation: bool = True) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Class and (SIDE, SIDE) 8-bit patch, `each` of every class, always the same for the same arguments."""
    rng = np.random.default_rng(seed)
    for name, photo in photographs().items():
        rows = bands(photo.shape[0], evaluation=evaluation)
        for _ in range(each):
            first, last = rows[rng.integers(len(rows))]
            top, left = rng.integers(first, last - SIDE + 1), rng.integers(photo.shape[1] - SIDE + 1)
            patch = photo[top : top + SIDE, left : left + SIDE].numpy()
            contrast, shift = rng.uniform(0.6, 1.3), rng.uniform(-0.15, 0.15)
            noisy = (patch - 0.5) * contrast + 0.5 + shift + _NOISE * rng.standard_normal(patch.shape)
            yield name, (noisy.clip(0, 1) * 255).round().astype(np.uint8)


def training_batches(size: int, batch: int, count: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """`count` batches of (batch, 3, size, size) images from 0 to 1 and (batch,) labels, augmented at random."""
    generator = torch.Generator().manual_seed(seed)
    photos = list(photographs().values())
    rows = [bands(photo.shape[0], evaluation=False) for photo in photos]

    def uniform(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=generator))

    def patch(label: int) -> Tensor:
        photo, own = photos[label], rows[label]
        first, last = own[int(uniform(0, len(own)))]
        side, angle = uniform(0.6, 1.25) * SIDE, uniform(-0.25, 0.25)
        reach = side / 2 * (abs(math.cos(angle)) + abs(math.sin(angle)))
        middle_y = uniform(first + reach, last - reach) if last - first > 2 * reach else (first + last) / 2
        middle_x = uniform(reach, photo.shape[1] - reach)
        flip = -1.0 if uniform(0, 1) < 0.5 else 1.0
        band = photo[first:last]
        height, width = band.shape
        cosine, sine = math.cos(angle), math.sin(angle)
        turn = torch.tensor(
            [
                [flip * cosine * side / width, -sine * side / width, 2 * middle_x / width - 1],
                [flip * sine * side / height, cosine * side / height, 2 * (middle_y - first) / height - 1],
            ]
        )
        # Sampled at the photograph's own scale first: a phone's picture of it would be no sharper either.
        small = functional.grid_sample(
            band[None, None],
            functional.affine_grid(turn[None], [1, 1, SIDE, SIDE], align_corners=False),
            mode="bilinear",
            padding_mode="reflection",
            align_corners=False,
        )
        small = (small - 0.5) * uniform(0.5, 1.4) + 0.5 + uniform(-0.2, 0.2)
        small = small + uniform(0, 1.5 * _NOISE) * torch.randn(small.shape, generator=generator)
        large = functional.interpolate(small.clamp(0, 1), (size, size), mode="bicubic", align_corners=False)
        return large[0].clamp(0, 1).expand(3, size, size)

    for _ in range(count):
        labels = torch.randint(0, len(photos), (batch,), generator=generator)
        yield torch.stack([patch(int(label)) for label in labels]), labels


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--split", type=click.Choice(["train", "evaluation"]), default="evaluation", show_default=True)
@click.option("--each", default=50, show_default=True, help="Patches of every class.")
def main(folder: Path, split: str, each: int) -> None:
    """Write the patches as PNG files, a folder for each class; `--calibrate` takes them."""
    for index, (name, patch) in enumerate(evaluation_patches(each, evaluation=split == "evaluation")):
        place = folder / name
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(patch).save(place / f"{index % each:03}.png")
    click.echo(f"{each} patches of each of {len(PHOTOGRAPHS)} classes in {folder}")


if __name__ == "__main__":
    main()
