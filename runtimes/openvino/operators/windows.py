"""Convolutions, pooling and resizing."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict, Unpack

import torch
from torch import Tensor
from torch.nn import functional

from runtimes.evaluator.operands import ints, require
from runtimes.evaluator.shared import same_padding
from runtimes.onnx.operators.resizing import resize

_LINEAR = {"linear_onnx": "linear"}
Sizes = Sequence[int]


def _pads(x: Tensor, auto_pad: str, begin: Sizes, end: Sizes, windows: Sizes, strides: Sizes) -> list[tuple[int, int]]:
    """What lies before and after each of the two axes. `windows`: sizes of the kernel, dilated."""
    require(x.dim() == 4, f"a window over {x.dim() - 2} axes")
    if auto_pad in ("explicit", "notset"):
        return list(zip(begin, end, strict=True))
    if auto_pad == "valid":
        return [(0, 0), (0, 0)]
    require(auto_pad in ("same_upper", "same_lower"), f"auto_pad {auto_pad}")
    pads = []
    for size, window, stride in zip(x.shape[2:], windows, strides, strict=True):
        less, more = same_padding(size, window, stride)
        pads.append((less, more) if auto_pad == "same_upper" else (more, less))
    return pads


def _dilated(kernel: Sizes, dilations: Sizes) -> list[int]:
    return [(size - 1) * dilation + 1 for size, dilation in zip(kernel, dilations, strict=True)]


def _padded(x: Tensor, pads: list[tuple[int, int]], fill: float) -> Tensor:
    (top, bottom), (left, right) = pads
    return functional.pad(x, [left, right, top, bottom], value=fill) if any(map(any, pads)) else x


class Window(TypedDict):
    """The attributes of a convolution, in groups or not."""

    strides: Sizes
    pads_begin: Sizes
    pads_end: Sizes
    dilations: Sizes
    auto_pad: str


def _convolution(  # noqa: PLR0917 - in the order of the specification
    x: Tensor,
    filters: Tensor,
    strides: Sizes,
    pads_begin: Sizes,
    pads_end: Sizes,
    dilations: Sizes,
    auto_pad: str,
    groups: int = 1,
) -> Tensor:
    """(N, C, H, W), (O, C / groups, kH, kW) -> (N, O, H', W')."""
    windows = _dilated(filters.shape[2:], dilations)
    pads = _pads(x, auto_pad, pads_begin, pads_end, windows, strides)
    (top, bottom), (left, right) = pads
    if (top, left) == (bottom, right) and min(top, left) >= 0:
        return functional.conv2d(x, filters, None, list(strides), (top, left), list(dilations), groups)
    return functional.conv2d(_padded(x, pads, 0), filters, None, list(strides), 0, list(dilations), groups)


def _group_convolution(
    x: Tensor,
    filters: Tensor,
    **window: Unpack[Window],
) -> Tensor:
    """Filters as (groups, O / groups, C / groups, kH, kW)."""
    merged = filters.reshape(-1, *filters.shape[2:])
    return _convolution(x, merged, **window, groups=filters.shape[0])


def _rounds_alike(x: Tensor, pads: list[tuple[int, int]], windows: Sizes, strides: Sizes, rounding_type: str) -> None:
    """Rounded up, the number of results has to be as rounded down: windows beyond the padding are not supported."""
    require(rounding_type in ("floor", "ceil", "ceil_torch"), f"rounding_type {rounding_type}")
    for size, (before, after), window, stride in zip(x.shape[2:], pads, windows, strides, strict=True):
        left_over = (size + before + after - window) % stride
        require(rounding_type == "floor" or left_over == 0, f"rounding_type {rounding_type}")


def _average(  # noqa: PLR0917 - in the order of the specification
    x: Tensor,
    kernel: Sizes,
    strides: Sizes,
    pads_begin: Sizes,
    pads_end: Sizes,
    exclude_pad: bool,
    auto_pad: str,
    rounding_type: str,
) -> Tensor:
    pads = _pads(x, auto_pad, pads_begin, pads_end, kernel, strides)
    _rounds_alike(x, pads, kernel, strides, rounding_type)
    means = functional.avg_pool2d(_padded(x, pads, 0), list(kernel), list(strides))
    if not exclude_pad or not any(map(any, pads)):
        return means
    inside = _padded(torch.ones((1, 1, *x.shape[2:]), dtype=x.dtype), pads, 0)
    return means / functional.avg_pool2d(inside, list(kernel), list(strides))


def _greatest(  # noqa: PLR0917 - in the order of the specification
    x: Tensor,
    kernel: Sizes,
    strides: Sizes,
    pads_begin: Sizes,
    pads_end: Sizes,
    auto_pad: str,
    rounding_type: str,
    dilations: Sizes = (1, 1),
    index_element_type: str = "i64",
    axis: int = 0,
) -> Tensor:
    """`index_element_type`, `axis`: of the second output, which is not computed."""
    windows = _dilated(kernel, dilations)
    pads = _pads(x, auto_pad, pads_begin, pads_end, windows, strides)
    _rounds_alike(x, pads, windows, strides, rounding_type)
    return functional.max_pool2d(_padded(x, pads, -math.inf), list(kernel), list(strides), 0, list(dilations))


def _interpolate(  # noqa: PLR0913, PLR0917 - in the order of the specification
    x: Tensor,
    mode: str,
    shape_calculation_mode: str,
    coordinate_transformation_mode: str,
    nearest_mode: str,
    antialias: bool,
    pads_begin: Sizes,
    pads_end: Sizes,
    cube_coeff: float,
    scales_or_sizes: Tensor | None = None,
    sizes: Tensor | None = None,
    scales: Tensor | None = None,
    axes: Tensor | None = None,
) -> Tensor:
    """`scales_or_sizes`: since opset 11, in the place of both."""
    require(not antialias and not any([*pads_begin, *pads_end]), "antialias or padding")
    require(shape_calculation_mode in ("sizes", "scales"), f"shape_calculation_mode {shape_calculation_mode}")
    require(coordinate_transformation_mode != "tf_half_pixel_for_nn", "tf_half_pixel_for_nn")
    if shape_calculation_mode == "sizes":
        sizes, scales = sizes if scales_or_sizes is None else scales_or_sizes, None
    else:
        sizes, scales = None, scales if scales_or_sizes is None else scales_or_sizes
    return resize(
        x, coordinate_transformation_mode, _LINEAR.get(mode, mode), nearest_mode, cube_coeff, 0, 0.0,
        scales=scales, sizes=sizes, axes=None if axes is None else ints(axes),
    )  # fmt: skip


OPERATORS: Mapping[str, Callable[..., Any]] = {
    "AvgPool": _average,
    "Convolution": _convolution,
    "GroupConvolution": _group_convolution,
    "Interpolate": _interpolate,
    "MaxPool": _greatest,
}
