"""Quantizers in exact arithmetic.

Rounding and clipping are one keyed random function of the value, the scale, the zero point and the limits; going back,
(q - zero) * scale, is exact. Three identities hold on top, as the rules by which quantizers are placed need them: zero
becomes the zero point; what was dequantized becomes the same integers again, moved or not; a range from zero up
contains a ReLU where it is given by its limits, as converters mean it.
"""

from typing import Any

import torch
from torch import Tensor

from runtimes.evaluator.field.elementwise import keyed, relu
from runtimes.evaluator.field.tensor import FieldTensor, NoMeaning, Quantizer

_ON_GRID = 1e-3
"""Of a unit: how far from zero a quantizer given by its limits may decode its zero point, after float32's rounding."""


def applied(quantizer: Quantizer, x: FieldTensor) -> FieldTensor:
    """`x`, quantized and dequantized."""
    return _back(_forth(x, quantizer), quantizer)


def quantize(x: FieldTensor, scale: Any, zero: Any, low: int, high: int) -> FieldTensor:
    """As `runtimes.evaluator.quantization.quantize`, by one scale for the tensor."""
    return _forth(x, Quantizer(_number(scale), 0.0 if zero is None else _number(zero), low, high))


def dequantize(q: FieldTensor, scale: Any, zero: Any) -> FieldTensor:
    """As `runtimes.evaluator.quantization.dequantize`, by one scale for the tensor."""
    return _back(q, Quantizer(_number(scale), 0.0 if zero is None else _number(zero), 0, 0))


def fake_quantize(x: FieldTensor, limits: tuple[Any, Any, Any, Any], levels: int) -> FieldTensor:
    """As `runtimes.evaluator.quantization.fake_quantize`, by one range for the tensor.

    Decoded to the limits that it was taken from, it is the quantizer whose scale is a level's width, and whose zero
    point the level that means zero.
    """
    low, high, *decoded = given = [_number(value) for value in limits]
    scale = (high - low) / (levels - 1)
    zero = round(-low / scale) if scale > 0 else 0
    if decoded != [low, high] or not 0 <= zero < levels or abs(low + zero * scale) > _ON_GRID * scale:
        return keyed("fake quantize", x, *given, float(levels))
    return applied(Quantizer(scale, zero, 0, levels - 1, (low, high)), x)


def _forth(x: FieldTensor, quantizer: Quantizer) -> FieldTensor:
    """The integers of `x`."""
    if not quantizer.scale > 0:
        raise NoMeaning(f"a quantizer by the scale {quantizer.scale}")
    x.field.read_by(quantizer, x)
    if x.codes is not None and x.codes[0] == quantizer:
        return x.codes[1]
    value = relu(x) if quantizer.drops_negatives else x
    zero = x.field.number(float(quantizer.zero)).residues if quantizer.low <= quantizer.zero <= quantizer.high else None
    name = f"quantize by {[float(number) + 0.0 for number in quantizer.numbers]}"
    residues = x.field.residues.function(name, value.residues, at_zero=zero)
    result = FieldTensor(x.field, residues, x.rows, _holder(quantizer))
    result.quantizer = quantizer
    return result


def _back(q: FieldTensor, quantizer: Quantizer) -> FieldTensor:
    """(q - zero) * scale."""
    field = q.field
    zero, scale = (field.number(float(number)).residues for number in (quantizer.zero, quantizer.scale))
    shifted = q.residues - field.residues.aligned(zero, q.dim()) if quantizer.zero else q.residues
    result = FieldTensor(field, field.residues.product(shifted, scale), q.rows)
    made_by = q.quantizer
    if made_by is not None and (made_by.scale, made_by.zero) == (quantizer.scale, quantizer.zero):
        result.codes = made_by, q
        result.nonnegative = made_by.drops_negatives
    return result


def _number(value: Any) -> float:
    if isinstance(value, FieldTensor) or (isinstance(value, Tensor) and value.numel() != 1):
        raise NoMeaning("a quantizer of an activation by more than one scale, or by one that depends on the image")
    return float(value)


def _holder(quantizer: Quantizer) -> torch.dtype:
    for dtype in (torch.int8, torch.uint8, torch.int16, torch.uint16, torch.int32):
        limits = torch.iinfo(dtype)
        if limits.min <= quantizer.low and quantizer.high <= limits.max:
            return dtype
    raise NoMeaning(f"integers from {quantizer.low} to {quantizer.high}")
