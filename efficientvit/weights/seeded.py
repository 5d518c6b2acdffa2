"""Deterministic weights that need no network and on which a parity check is able to fail.

A freshly initialized EfficientViT has a BatchNorm scale of zero at the end of every residual branch and
zero attention biases: all of attention can be wrong without moving a logit. Unscaled random weights push
the logits to 1e5 and saturate the softmax. So here:

1. every tensor is drawn from a generator seeded with the SHA-256 of its own name, nothing is zero;
2. BatchNorm scales that end a residual branch are damped, so that thirty in a row stay well conditioned;
3. every BatchNorm is calibrated in one pass over natural (1/f), noise, high-contrast *and* flat images, layer
   by layer, so that activations depend on the image and no kind of golden input is chaotic; the statistics
   are rounded to bfloat16's eight bits, which hides the last-place differences between CPUs.

`validation.self_check` measures that it worked; docs/numerics.md holds the table.
"""

import functools
import hashlib
import re

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from efficientvit.copies import copied
from efficientvit.images.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from efficientvit.model import EfficientViT, build
from efficientvit.size import ImageSize
from efficientvit.spec import ModelSpec

_DAMPED = 0.4
_GATE = 4.0
_WIDE = 2.0  # activations beyond 6, or a ReLU turned ReLU6 hides; the next BatchNorm takes the scale out again
_BEFORE_RELU = re.compile(r"(\.expand|merge\.depthwise|stem\.conv[123])\.norm\.weight$")
_RESIDUAL_ENDS = (".branch.norm.weight", ".branch.project.norm.weight", ".branch.attention.project.norm.weight")


def _generator(seed: int, name: str) -> np.random.Generator:
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:8], "little")))


def _drawn(seed: int, name: str, shape: torch.Size) -> NDArray[np.float64]:
    """The value of one parameter, by its name and shape alone."""
    rng = _generator(seed, name)
    if name.endswith("attention.bias"):
        return rng.standard_normal(shape)
    if name.endswith("norm.weight"):
        scale = rng.uniform(0.5, 1.5, shape)
        if name.endswith(_RESIDUAL_ENDS) or ".q_depthwise." in name:
            return scale * _DAMPED
        return scale * _WIDE if _BEFORE_RELU.search(name) else scale
    if name.endswith("weight"):  # convolution or linear layer: unit variance by fan-in
        value = np.asarray(rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:])))
        return value / _GATE if name.endswith("gate.expand.weight") else value * _gate(name)
    # Small where it would be added to the logits as it is: it is the same for every image.
    return (0.05 if name.startswith("head.") else 0.3) * _gate(name) * rng.standard_normal(shape)


def _gate(name: str) -> float:
    """The ReLU between a gate's two convolutions sees large values too; the second takes the scale out again."""
    return _GATE if ".gate.reduce." in name else 1.0


def natural_spectrum(rng: np.random.Generator, size: ImageSize) -> NDArray[np.float64]:
    """(3, H, W): a random image with the 1/f amplitude spectrum of photographs, about unit variance."""
    shape = size.height, size.width
    frequency = np.hypot(np.fft.fftfreq(size.height)[:, None], np.fft.rfftfreq(size.width)[None, :])
    frequency[0, 0] = 1 / max(shape)
    # Channels share most of their structure, as in photographs.
    luminance = np.fft.rfft2(rng.standard_normal(shape)) / frequency
    color = np.fft.rfft2(rng.standard_normal((3, *shape))) / frequency
    image = np.fft.irfft2(luminance + 0.5 * color, s=shape, axes=(1, 2))
    return np.asarray((image - image.mean()) / image.std())


def _high_contrast(rng: np.random.Generator, size: ImageSize) -> list[NDArray[np.float64]]:
    """(3, H, W) each: square waves, mosaics of saturated colors, stripes of every width."""
    height, width = size.height, size.width
    y, x = np.indices((height, width))
    gray = (x + y, x, y, x // 3, y // 5, x // 24 + y // 40)
    color = [np.stack([x // rng.integers(1, 9) + y // rng.integers(1, 9) for _ in range(3)]) for _ in range(4)]
    # Slanting stripes that narrow to one pixel, offset between the channels: the hardest of all.
    chirps = [
        np.stack([(x * x + width * (rng.integers(-4, 5) * y // 4 + rng.integers(8))) // (2 * width) for _ in range(3)])
        for _ in range(8)
    ]
    waves = [np.broadcast_to(wave % 2, (3, height, width)) for wave in (*gray, *color, *chirps)]
    for cells in (5, 9, 14, 30):
        row, column = (np.arange(side) * cells // side for side in (height, width))
        waves.append(rng.integers(0, 2, (3, cells, cells))[:, row[:, None], column[None, :]])
    black, white = _extremes()
    return [black + (white - black) * wave for wave in waves]


def _extremes() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(3, 1, 1) each: black and white after the ImageNet normalization."""
    mean, std = np.array(IMAGENET_MEAN)[:, None, None], np.array(IMAGENET_STD)[:, None, None]
    return -mean / std, (1 - mean) / std


def _calibration_images(size: ImageSize) -> Tensor:
    """(40, 3, H, W) float64, the same for every seed: natural, noise, high-contrast and flat images."""
    rng = _generator(0, "calibration images")
    natural = [natural_spectrum(rng, size) * contrast for contrast in (0.5, 0.8, 1.0, 1.2, 1.5)]
    noise = [rng.standard_normal((3, size.height, size.width)) * contrast for contrast in (0.5, 1.0, 1.0, 1.5)]
    black, white = _extremes()
    shades = [*rng.uniform(0, 1, (4, 3)), *np.array([(0, 0, 0), (1, 1, 1), (1, 0, 0), (0, 0, 1), (0, 1, 0)])]
    flat = [np.broadcast_to(black + (white - black) * s[:, None, None], (3, size.height, size.width)) for s in shades]
    return torch.from_numpy(np.stack(natural + noise + _high_contrast(rng, size) + flat))


@torch.no_grad()
def _calibrate(model: EfficientViT, images: Tensor) -> None:
    """Set every BatchNorm's statistics to those of what reaches it, each layer after those before it."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    model.double().train()(images)
    for norm in norms:
        assert norm.running_mean is not None and norm.running_var is not None
        norm.momentum = 0.1
        for statistic in (norm.running_mean, norm.running_var):
            statistic.copy_(statistic.bfloat16())
    model.float().eval()


def seeded(spec: ModelSpec, seed: int = 0) -> EfficientViT:
    """The model of `spec` in float32 and eval mode, its weights drawn by the rule above; each call's is its own."""
    return copied(_seeded(spec, seed))


@functools.lru_cache(maxsize=1)
@torch.no_grad()
def _seeded(spec: ModelSpec, seed: int) -> EfficientViT:
    model = build(spec)
    for name, parameter in model.named_parameters():
        parameter.copy_(torch.from_numpy(_drawn(seed, name, parameter.shape)))
    _calibrate(model, _calibration_images(spec.image_size))
    return model
