"""Quantizers, and operators on quantized tensors.

One of the latter means: dequantize, compute, quantize, as a file with quantizers between its operators says it. The
products of integers alone are exact, in float64.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Unpack

import torch
from torch import Tensor

from runtimes.evaluator.evaluator import BadOperand
from runtimes.evaluator.operands import require
from runtimes.evaluator.quantization import dequantize, quantize
from runtimes.onnx.operators.windows import Window, convolution

_LIMITS = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-32768, 32767), "uint16": (0, 65535)}
_ROWS, _COLUMNS = -2, -1


def to_integers(x: Tensor, scale: Tensor, zero: Tensor | None, axis: int = 1, to: str = "uint8") -> Tensor:
    """Quantized to the type of the zero point, or to `to`."""
    name = to if zero is None else str(zero.dtype).removeprefix("torch.")
    if name not in _LIMITS:
        raise BadOperand(f"quantized to {name}")
    dtype: torch.dtype = getattr(torch, name)
    return quantize(x, scale, zero, *_LIMITS[name], axis).to(dtype)


def quantize_linear(  # noqa: PLR0917 - in the order of the specification
    x: Tensor,
    y_scale: Tensor,
    y_zero_point: Tensor | None = None,
    axis: int = 1,
    block_size: int = 0,
    output_dtype: str = "",
    precision: int = 0,
    saturate: int = 1,
) -> Tensor:
    """`saturate`: of 8-bit floats, which are not supported."""
    require(not block_size, f"block_size {block_size}")
    require(precision in (0, 1), f"precision {precision}")
    if y_zero_point is not None and output_dtype:
        require(output_dtype == str(y_zero_point.dtype).removeprefix("torch."), f"output_dtype {output_dtype}")
    return to_integers(x, y_scale, y_zero_point, axis, output_dtype or "uint8")


def dequantize_linear(
    x: Tensor,
    x_scale: Tensor,
    x_zero_point: Tensor | None = None,
    axis: int = 1,
    block_size: int = 0,
    output_dtype: str = "",
) -> Tensor:
    """`output_dtype`: a width of float, whose rounding is the evaluation's business."""
    require(not block_size, f"block_size {block_size}")
    return dequantize(x, x_scale, x_zero_point, axis)


def _dynamic(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """To uint8, between the smallest and the largest of the values and zero."""
    least, most = x.amin().clamp(max=0), x.amax().clamp(min=0)
    scale = (most - least) / 255
    zero = torch.round(-least / scale).clamp(0, 255).to(torch.uint8)
    return to_integers(x, scale, zero), scale, zero


def _centered(x: Tensor, zero: Tensor | None, shape: Sequence[int]) -> Tensor:
    """x - zero, in float64, which holds it exactly. `shape`: of a zero point of several values."""
    if zero is None:
        return x.double()
    return x.double() - (zero.reshape(()) if zero.numel() == 1 else zero.reshape(list(shape))).double()


def _conv_integer(
    x: Tensor,
    w: Tensor,
    x_zero_point: Tensor | None = None,
    w_zero_point: Tensor | None = None,
    **window: Unpack[Window],
) -> Tensor:
    centered = _centered(x, x_zero_point, ()), _centered(w, w_zero_point, [-1] + [1] * (w.dim() - 1))
    return convolution(*centered, **window).to(torch.int32)


def matmul_integer(
    a: Tensor, b: Tensor, a_zero_point: Tensor | None = None, b_zero_point: Tensor | None = None
) -> Tensor:
    """A zero point of several values has one a row of `a`, or one a column of `b`."""
    rows = [*a_zero_point.shape, 1] if a_zero_point is not None and a_zero_point.dim() == 1 else _shape(a_zero_point)
    return torch.matmul(_centered(a, a_zero_point, rows), _centered(b, b_zero_point, _shape(b_zero_point))).to(
        torch.int32
    )


def _shape(value: Tensor | None) -> Sequence[int]:
    return () if value is None else value.shape


def qlinear_conv(  # noqa: PLR0917 - in the order of the specification
    x: Tensor,
    x_scale: Tensor,
    x_zero_point: Tensor,
    w: Tensor,
    w_scale: Tensor,
    w_zero_point: Tensor,
    y_scale: Tensor,
    y_zero_point: Tensor,
    b: Tensor | None = None,
    channels_last: int = 0,
    **window: Unpack[Window],
) -> Tensor:
    """The bias is of integers, by x_scale * w_scale.

    `channels_last`, of ONNX Runtime's own: (N, H, W, C) -> (N, H', W', O), by a kernel (O, C / group, kH, kW) all the
    same.
    """
    given = x.movedim(-1, 1) if channels_last else x
    bias = None if b is None else dequantize(b, x_scale * w_scale, None, 0)
    floats = dequantize(given, x_scale, x_zero_point), dequantize(w, w_scale, w_zero_point, 0)
    y = to_integers(convolution(*floats, bias, **window), y_scale, y_zero_point)
    return y.movedim(1, -1) if channels_last else y


def _qlinear_matmul(  # noqa: PLR0917 - in the order of the specification
    a: Tensor,
    a_scale: Tensor,
    a_zero_point: Tensor,
    b: Tensor,
    b_scale: Tensor,
    b_zero_point: Tensor,
    y_scale: Tensor,
    y_zero_point: Tensor,
) -> Tensor:
    product = torch.matmul(dequantize(a, a_scale, a_zero_point, _ROWS), dequantize(b, b_scale, b_zero_point, _COLUMNS))
    return to_integers(product, y_scale, y_zero_point)


OPERATORS: Mapping[str, Callable[..., Any]] = {
    "ConvInteger": _conv_integer,
    "DequantizeLinear": dequantize_linear,
    "DynamicQuantizeLinear": _dynamic,
    "MatMulInteger": matmul_integer,
    "QLinearConv": qlinear_conv,
    "QLinearMatMul": _qlinear_matmul,
    "QuantizeLinear": quantize_linear,
}
