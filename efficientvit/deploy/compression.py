"""Weights in 8, 6 or 4 bits: which tensors, and the values that are left of them.

Core ML has two forms: int8 with one scale for each output channel, and a palette of 2^bits values for each tensor, both
for large weights only and decoded to fp16. Where activations are quantized as well (Q/DQ), weights are int8 with a
float32 scale for each output channel: the dense ones for TensorRT, all of them for CPUs, whose attention biases are
quantized too, to unsigned 8 bits like the activations that they are added to. What is computed here is what the file
must hold and decode to, bit for bit.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from efficientvit.deploy.modules import StaticAttention

Half = NDArray[np.float16]

LEAST_ELEMENTS = 2048
"""Smaller tensors aren't worth a palette."""

LARGEST = 127
"""Of int8 weights, as stored."""

REDUCED = 64
"""The same where two of them, times 255 each, have to fit into 16 bits: ONNX Runtime's reduced range."""

_ITERATIONS, _BINS = 100, 512


def compressible(model: nn.Module) -> Iterator[str]:
    """Names of the tensors that may be compressed: large weights of dense convolutions and of the classifier.

    Not the biases, not the attention biases (they enter the softmax as they are), and not the depthwise weights: a
    small share of the bytes, with the absorbed residual's 1 on the center tap, which no palette spends values on well.
    """
    for name, module in model.named_modules():
        dense = isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.groups == 1)
        if dense and module.weight.numel() >= LEAST_ELEMENTS:
            yield f"{name}.weight"


def quantizable(model: nn.Module, *, depthwise: bool = False) -> Iterator[str]:
    """Names of the weights that are int8 where activations are too: of linear layers and convolutions."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and (depthwise or module.groups == 1)):
            yield f"{name}.weight"


def addends(model: nn.Module) -> Iterator[str]:
    """Names of the attention biases: what is added to an activation and has to be quantized as one."""
    for name, module in model.named_modules():
        if isinstance(module, StaticAttention):
            yield from (f"{name}.bias.{head}" for head in range(len(module.bias)))


def quantized(weight: NDArray[np.float32], largest: int = LARGEST) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """(out, ...) -> int8 of the same shape, -largest to largest, and the scale (out,) of each output channel.

    As ONNX Runtime's `quantize_static` computes it: symmetric, round half to even. A channel of zeros has scale 1.
    """
    peak = np.abs(weight).max(axis=tuple(range(1, weight.ndim))).astype(np.float64)
    scale = (2 * peak / (2 * largest)).astype(np.float32)
    scale[scale < np.finfo(np.float32).tiny] = 1
    values = np.round(weight / _along(scale, weight)).clip(-largest, largest).astype(np.int8)
    return values, scale


def affine(value: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.uint8]]:
    """A constant among unsigned activations: uint8 of the same shape, the scale () and the zero point () of it all.

    As ONNX Runtime's `quantize_static` computes it: zero is representable exactly. What is constantly 0 has scale 1.
    """
    low, high = np.minimum(value.min(), np.float32(0)), np.maximum(value.max(), np.float32(0))
    wide = (np.float64(high) - np.float64(low)) / 255
    if wide < np.finfo(np.float32).tiny:
        return np.zeros(value.shape, np.uint8), np.array(1, np.float32), np.array(0, np.uint8)
    zero, scale = np.round(-low / wide).astype(np.uint8), np.float32(wide)
    integers = (np.round(value / scale).astype(np.int64) + zero).clip(0, 255).astype(np.uint8)
    return integers, np.array(scale), np.array(zero)


def dequantized(values: NDArray[np.int8], scale: NDArray[np.float32]) -> NDArray[np.float32]:
    """What DequantizeLinear makes of them."""
    result: NDArray[np.float32] = values.astype(np.float32) * _along(scale, values)
    return result


def _along(scale: NDArray[np.float32], weight: NDArray[Any]) -> NDArray[np.float32]:
    return scale.reshape(-1, *[1] * (weight.ndim - 1))


def int8(weight: Half) -> Half:
    """(out, ...) -> the values that symmetric int8 with a scale for each output channel leaves of it.

    In fp16 throughout, as coremltools' `linear_quantize_weights` computes it.
    """
    # By way of integers, which have no negative zero.
    integers, scale = int8_parts(weight)
    result: Half = (integers.astype(np.float32) * scale).astype(np.float16)
    return result


def int8_parts(weight: Half) -> tuple[NDArray[np.int8], Half]:
    """(out, ...) -> the integers of the same shape, and the scales (out, 1, ...)."""
    axes = tuple(range(1, weight.ndim))
    peak = np.abs(weight).max(axis=axes, keepdims=True)
    scale: Half = (peak - -peak) / np.float16(254)
    quantized = np.clip(np.round(weight / np.where(scale > 0, scale, np.float16(1))), -127, 127)
    return quantized.astype(np.int8), scale


def palette(weight: Half, bits: int) -> tuple[Half, NDArray[np.uint8]]:
    """The 2^bits values (sorted, fewer where the tensor has fewer) and each weight's index, in the weight's shape.

    Lloyd's k-means in one dimension: sorted, each cluster is an interval, so that one step is a search and a
    difference of prefix sums. It starts where many centers are best: their density goes with the cube root of the
    values' (Panter and Dite, Proc. IRE 1951). Deterministic.
    """
    distinct = np.unique(weight)
    if len(distinct) <= 2**bits:
        return distinct, np.searchsorted(distinct, weight).astype(np.uint8)
    values = np.sort(weight.astype(np.float64), axis=None)
    sums = np.concatenate(([0.0], np.cumsum(values)))
    counts, edges = np.histogram(values, _BINS)
    share = np.concatenate(([0.0], np.cumsum(np.cbrt(counts))))
    centers = np.interp((np.arange(2**bits) + 0.5) / 2**bits * share[-1], share, edges)
    for _ in range(_ITERATIONS):
        inner = np.searchsorted(values, (centers[1:] + centers[:-1]) / 2)
        bounds = np.concatenate(([0], inner, [len(values)]))
        counts = np.diff(bounds)
        means = np.diff(sums[bounds])[counts > 0] / counts[counts > 0]
        if len(means) == len(centers) and np.array_equal(means, centers):
            break
        centers = means
    entries = np.unique(centers.astype(np.float16))
    wide = entries.astype(np.float64)
    indices = np.searchsorted((wide[1:] + wide[:-1]) / 2, weight.astype(np.float64))
    return entries, indices.astype(np.uint8)


def palettized(weight: Half, bits: int) -> Half:
    """The values that a palette leaves of a tensor, in its shape."""
    entries, indices = palette(weight, bits)
    return entries[indices]
