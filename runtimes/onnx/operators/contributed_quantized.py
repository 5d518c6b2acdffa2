"""Operators of ONNX Runtime's own on quantized tensors.

Source: ContribOperators.md of ONNX Runtime. As in `quantized`, they mean: dequantize, compute, quantize.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from runtimes.evaluator.operands import require
from runtimes.evaluator.quantization import dequantize
from runtimes.onnx.operators.arithmetic import gemm
from runtimes.onnx.operators.quantized import (
    dequantize_linear,
    matmul_integer,
    qlinear_conv,
    quantize_linear,
    to_integers,
)
from runtimes.onnx.operators.windows import average_pool

_SLOPE = float(np.float32(0.01))


def _between(compute: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A function of one tensor, between quantizers."""

    def quantized(
        x: Tensor,
        x_scale: Tensor,
        y_scale: Tensor,
        x_zero_point: Tensor | None = None,
        y_zero_point: Tensor | None = None,
    ) -> Tensor:
        return to_integers(compute(dequantize(x, x_scale, x_zero_point)), y_scale, y_zero_point, to=_name(x))

    return quantized


def _name(x: Tensor) -> str:
    return str(x.dtype).removeprefix("torch.")


def _qlinear_leaky(
    x: Tensor,
    x_scale: Tensor,
    y_scale: Tensor,
    x_zero_point: Tensor | None = None,
    y_zero_point: Tensor | None = None,
    alpha: float = _SLOPE,
) -> Tensor:
    return _between(lambda given: functional.leaky_relu(given, alpha))(x, x_scale, y_scale, x_zero_point, y_zero_point)


def _qlinear_softmax(
    x: Tensor,
    x_scale: Tensor,
    y_scale: Tensor,
    y_zero_point: Tensor,
    opset: int,
    x_zero_point: Tensor | None = None,
    axis: int = -1,
) -> Tensor:
    require(opset >= 13 or axis % x.dim() == x.dim() - 1, f"axis {axis} of opset {opset}")
    return _between(lambda given: given.softmax(axis))(x, x_scale, y_scale, x_zero_point, y_zero_point)


def _qlinear_global(
    x: Tensor, x_scale: Tensor, x_zero_point: Tensor, y_scale: Tensor, y_zero_point: Tensor, channels_last: int = 0
) -> Tensor:
    first = 1 if channels_last else 2
    axes = list(range(first, first + x.dim() - 2))
    mean = _between(lambda given: given.mean(axes, keepdim=True))
    return mean(x, x_scale, y_scale, x_zero_point, y_zero_point)


def _qlinear_average(  # noqa: PLR0913, PLR0917 - in the order of the specification
    x: Tensor,
    x_scale: Tensor,
    y_scale: Tensor,
    kernel_shape: Sequence[int],
    x_zero_point: Tensor | None = None,
    y_zero_point: Tensor | None = None,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    channels_last: int = 0,
    count_include_pad: int = 0,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Tensor:
    require(not channels_last, "channels_last")

    def pool(given: Tensor) -> Tensor:
        return average_pool(given, kernel_shape, auto_pad, ceil_mode, count_include_pad, None, pads, strides)

    return _between(pool)(x, x_scale, y_scale, x_zero_point, y_zero_point)


def _qlinear_binary(compute: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    def quantized(  # noqa: PLR0917 - in the order of the specification
        a: Tensor,
        a_scale: Tensor,
        b: Tensor,
        b_scale: Tensor,
        c_scale: Tensor,
        a_zero_point: Tensor | None = None,
        b_zero_point: Tensor | None = None,
        c_zero_point: Tensor | None = None,
    ) -> Tensor:
        c = compute(dequantize(a, a_scale, a_zero_point), dequantize(b, b_scale, b_zero_point))
        return to_integers(c, c_scale, c_zero_point, to=_name(a))

    return quantized


def _qlinear_concat(values: Sequence[Tensor], y_scale: Tensor, y_zero_point: Tensor, axis: int) -> Tensor:
    """`values`: a tensor, its scale and its zero point, and so on."""
    parts = [dequantize(q, scale, zero) for q, scale, zero in zip(*[iter(values)] * 3, strict=True)]
    return to_integers(torch.cat(parts, axis), y_scale, y_zero_point)


def _qgemm(  # noqa: PLR0913, PLR0917 - in the order of the specification
    a: Tensor,
    a_scale: Tensor,
    a_zero_point: Tensor,
    b: Tensor,
    b_scale: Tensor,
    b_zero_point: Tensor,
    c: Tensor | None = None,
    y_scale: Tensor | None = None,
    y_zero_point: Tensor | None = None,
    alpha: float = 1.0,
    transa: int = 0,
    transb: int = 0,
) -> Tensor:
    """The bias is of integers, by alpha * a_scale * b_scale. Scales of `b` are of the output's columns."""
    left, right = dequantize(a, a_scale, a_zero_point), dequantize(b, b_scale, b_zero_point, 0 if transb else 1)
    bias = None if c is None else dequantize(c, a_scale * b_scale, None, c.dim() - 1)
    y = gemm(left, right, bias, alpha, alpha, transa, transb)
    return y if y_scale is None else to_integers(y, y_scale, y_zero_point)


def _matmul_integer_to_float(
    a: Tensor,
    b: Tensor,
    a_scale: Tensor,
    b_scale: Tensor,
    a_zero_point: Tensor | None = None,
    b_zero_point: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    """Scales of `b` are of its columns."""
    require(a_scale.numel() == 1, f"{a_scale.numel()} scales of the rows")
    y = matmul_integer(a, b, a_zero_point, b_zero_point).to(a_scale.dtype) * (a_scale * b_scale)
    return y if bias is None else y + bias


OPERATORS: Mapping[str, Callable[..., Any]] = {
    "com.microsoft.DequantizeLinear": dequantize_linear,
    "com.microsoft.MatMulIntegerToFloat": _matmul_integer_to_float,
    "com.microsoft.QGemm": _qgemm,
    "com.microsoft.QLinearAdd": _qlinear_binary(torch.add),
    "com.microsoft.QLinearAveragePool": _qlinear_average,
    "com.microsoft.QLinearConcat": _qlinear_concat,
    "com.microsoft.QLinearConv": qlinear_conv,
    "com.microsoft.QLinearGlobalAveragePool": _qlinear_global,
    "com.microsoft.QLinearLeakyRelu": _qlinear_leaky,
    "com.microsoft.QLinearMul": _qlinear_binary(torch.mul),
    "com.microsoft.QLinearSigmoid": _between(torch.sigmoid),
    "com.microsoft.QLinearSoftmax": _qlinear_softmax,
    "com.microsoft.QuantizeLinear": quantize_linear,
}
