"""Weights in 8, 6 or 4 bits: which tensors, and the values that are left of them.

Two forms, both Core ML's: int8 with one scale for each output channel, and a palette of 2^bits values for each
tensor. What is computed here is what the compressed file must decode to, bit for bit.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from torch import nn

Half = NDArray[np.float16]

LEAST_ELEMENTS = 2048
"""Smaller tensors aren't worth a palette."""

_ITERATIONS, _BINS = 100, 512


def compressible(model: nn.Module) -> Iterator[str]:
    """Names of the tensors that may be compressed: large weights of dense convolutions and of the classifier.

    Not the biases, not the attention biases (they enter the softmax as they are), and not the depthwise weights: a
    small share of the bytes, with the absorbed residual's 1 on the centre tap, which no palette spends values on well.
    """
    for name, module in model.named_modules():
        dense = isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.groups == 1)
        if dense and module.weight.numel() >= LEAST_ELEMENTS:
            yield f"{name}.weight"


def int8(weight: Half) -> Half:
    """(out, ...) -> the values that symmetric int8 with a scale for each output channel leaves of it.

    In fp16 throughout, as coremltools' `linear_quantize_weights` computes it.
    """
    axes = tuple(range(1, weight.ndim))
    peak = np.abs(weight).max(axis=axes, keepdims=True)
    scale: Half = (peak - -peak) / np.float16(254)
    quantised = np.clip(np.round(weight / np.where(scale > 0, scale, np.float16(1))), -127, 127)
    # By way of integers, which have no negative zero.
    result: Half = (quantised.astype(np.int8).astype(np.float32) * scale).astype(np.float16)
    return result


def palette(weight: Half, bits: int) -> tuple[Half, NDArray[np.uint8]]:
    """The 2^bits values (sorted, fewer where the tensor has fewer) and each weight's index, in the weight's shape.

    Lloyd's k-means in one dimension: sorted, each cluster is an interval, so that one step is a search and a
    difference of prefix sums. It starts where many centres are best: their density goes with the cube root of the
    values' (Panter and Dite, Proc. IRE 1951). Deterministic.
    """
    distinct = np.unique(weight)
    if len(distinct) <= 2**bits:
        return distinct, np.searchsorted(distinct, weight).astype(np.uint8)
    values = np.sort(weight.astype(np.float64), axis=None)
    sums = np.concatenate(([0.0], np.cumsum(values)))
    counts, edges = np.histogram(values, _BINS)
    share = np.concatenate(([0.0], np.cumsum(np.cbrt(counts))))
    centres = np.interp((np.arange(2**bits) + 0.5) / 2**bits * share[-1], share, edges)
    for _ in range(_ITERATIONS):
        inner = np.searchsorted(values, (centres[1:] + centres[:-1]) / 2)
        bounds = np.concatenate(([0], inner, [len(values)]))
        counts = np.diff(bounds)
        means = np.diff(sums[bounds])[counts > 0] / counts[counts > 0]
        if len(means) == len(centres) and np.array_equal(means, centres):
            break
        centres = means
    entries = np.unique(centres.astype(np.float16))
    wide = entries.astype(np.float64)
    indices = np.searchsorted((wide[1:] + wide[:-1]) / 2, weight.astype(np.float64))
    return entries, indices.astype(np.uint8)


def palettised(weight: Half, bits: int) -> Half:
    """The values that a palette leaves of a tensor, in its shape."""
    entries, indices = palette(weight, bits)
    return entries[indices]
