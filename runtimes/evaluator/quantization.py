"""What quantizers compute, in torch: one meaning for every format's operators.

Round half to even, then saturate: ONNX, OpenVINO and TensorRT agree on it. A scale, a zero point or a limit has one
value for the tensor, or one for every index of `axis`.
"""

import torch
from torch import Tensor

from runtimes.evaluator.evaluator import BadOperand
from runtimes.evaluator.field import quantizers
from runtimes.evaluator.field.operators import FieldTensor

_HOLDERS = (torch.int8, torch.uint8, torch.int16, torch.int32)


def quantize(x: Tensor, scale: Tensor, zero: Tensor | None, low: int, high: int, axis: int = 0) -> Tensor:
    """clamp(round(x / scale) + zero, low, high), in the narrowest integers that hold the limits.

    `axis`: of x, along which a scale or a zero point of several values lies.
    """
    if isinstance(x, FieldTensor):
        return quantizers.quantize(x, scale, zero, low, high)
    steps = torch.round(x / along(scale, x, axis))
    if zero is not None:
        steps = steps + along(zero, x, axis).to(steps.dtype)
    return steps.clamp(low, high).to(holder(low, high))


def dequantize(q: Tensor, scale: Tensor, zero: Tensor | None, axis: int = 0) -> Tensor:
    """(q - zero) * scale, in the scale's format."""
    if isinstance(q, FieldTensor):
        return quantizers.dequantize(q, scale, zero)
    if zero is None:
        return q.to(scale.dtype) * along(scale, q, axis)
    return (q.to(torch.int64) - along(zero, q, axis).to(torch.int64)).to(scale.dtype) * along(scale, q, axis)


def fake_quantize(
    x: Tensor, input_low: Tensor, input_high: Tensor, output_low: Tensor, output_high: Tensor, levels: int
) -> Tensor:
    """Quantized to `levels` values between the input's limits, and dequantized between the output's.

    The limits broadcast to `x`. Source: OpenVINO's specification of FakeQuantize-1.
    """
    if isinstance(x, FieldTensor):
        return quantizers.fake_quantize(x, (input_low, input_high, output_low, output_high), levels)
    steps = levels - 1
    within = torch.round((x - input_low) / (input_high - input_low) * steps)
    result = within / steps * (output_high - output_low) + output_low
    result = torch.where(x <= torch.minimum(input_low, input_high), output_low, result)
    return torch.where(x > torch.maximum(input_low, input_high), output_high, result)


def along(value: Tensor, x: Tensor, axis: int) -> Tensor:
    """A value for the whole of `x`, or one for every index of `axis`, shaped so that it broadcasts to `x`."""
    if value.numel() == 1:
        return value.reshape(())
    if value.dim() != 1 or value.numel() != x.shape[axis]:
        raise BadOperand(f"{tuple(value.shape)} values for axis {axis} of {tuple(x.shape)}")
    shape = [1] * x.dim()
    shape[axis] = value.numel()
    return value.reshape(shape)


def holder(low: int, high: int) -> torch.dtype:
    """The narrowest type of integers that holds both."""
    for dtype in _HOLDERS:
        limits = torch.iinfo(dtype)
        if limits.min <= low and high <= limits.max:
            return dtype
    raise BadOperand(f"integers from {low} to {high}")
