"""Convolutions and pooling, over one, two or three axes."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict

import torch
from torch import Tensor
from torch.nn import functional

from runtimes.evaluator.operands import require
from runtimes.evaluator.shared import same_padding

Pads = tuple[list[int], list[int]]
"""Before and after every axis."""


def paddings(
    sizes: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    auto_pad: str,
    pads: Sequence[int] | None,
) -> Pads:
    """What lies around the axes of `sizes`."""
    rank = len(sizes)
    if auto_pad in ("NOTSET", ""):
        given = list(pads or [0] * 2 * rank)
        return given[:rank], given[rank:]
    if auto_pad == "VALID":
        return [0] * rank, [0] * rank
    require(auto_pad in ("SAME_UPPER", "SAME_LOWER"), f"auto_pad {auto_pad}")
    both = [same_padding(*axis) for axis in zip(sizes, kernel, strides, dilations, strict=True)]
    less, more = [small for small, _ in both], [large for _, large in both]
    return (less, more) if auto_pad == "SAME_UPPER" else (more, less)


def padded(x: Tensor, pads: Pads, value: float = 0.0) -> Tensor:
    """(N, C, ...) with `value` around."""
    if not any(pads[0] + pads[1]):
        return x
    sides = [side for before, after in reversed(list(zip(*pads, strict=True))) for side in (before, after)]
    return functional.pad(x, sides, value=value)


_CONVOLUTIONS: Mapping[int, Callable[..., Tensor]] = {
    3: functional.conv1d,
    4: functional.conv2d,
    5: functional.conv3d,
}
_TRANSPOSED: Mapping[int, Callable[..., Tensor]] = {
    3: functional.conv_transpose1d,
    4: functional.conv_transpose2d,
    5: functional.conv_transpose3d,
}
_LARGEST: Mapping[int, Callable[..., Tensor]] = {
    3: functional.max_pool1d,
    4: functional.max_pool2d,
    5: functional.max_pool3d,
}
_AVERAGE: Mapping[int, Callable[..., Tensor]] = {
    3: functional.avg_pool1d,
    4: functional.avg_pool2d,
    5: functional.avg_pool3d,
}


class Window(TypedDict, total=False):
    """The attributes of a convolution, of whatever tensors."""

    auto_pad: str
    dilations: Sequence[int] | None
    group: int
    kernel_shape: Sequence[int] | None
    pads: Sequence[int] | None
    strides: Sequence[int] | None


def convolution(  # noqa: PLR0917 - in the order of the specification
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] | None = None,
    group: int = 1,
    kernel_shape: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Tensor:
    """(N, C, ...), (O, C / group, ...) -> (N, O, ...)."""
    require(x.dim() in _CONVOLUTIONS, f"a convolution over {x.dim() - 2} axes")
    kernel, rank = list(w.shape[2:]), x.dim() - 2
    require(kernel_shape is None or list(kernel_shape) == kernel, f"kernel_shape {kernel_shape} of {kernel}")
    steps, spread = list(strides or [1] * rank), list(dilations or [1] * rank)
    before, after = paddings(x.shape[2:], kernel, steps, spread, auto_pad, pads)
    if before != after:
        x, before = padded(x, (before, after)), [0] * rank
    return _CONVOLUTIONS[x.dim()](x, w, b, steps, before, spread, group)


def _transposed(  # noqa: PLR0913, PLR0917 - in the order of the specification
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] | None = None,
    group: int = 1,
    kernel_shape: Sequence[int] | None = None,
    output_padding: Sequence[int] | None = None,
    output_shape: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Tensor:
    """(N, C, ...), (C, O / group, ...) -> (N, O, ...)."""
    require(x.dim() in _TRANSPOSED, f"a convolution over {x.dim() - 2} axes")
    rank = x.dim() - 2
    require(kernel_shape is None or list(kernel_shape) == list(w.shape[2:]), f"kernel_shape {kernel_shape}")
    require(auto_pad in ("NOTSET", "VALID") and output_shape is None, f"auto_pad {auto_pad}, {output_shape}")
    given = [0] * 2 * rank if auto_pad == "VALID" else list(pads or [0] * 2 * rank)
    require(given[:rank] == given[rank:], f"pads {pads}")
    more, steps, spread = output_padding or [0] * rank, strides or [1] * rank, dilations or [1] * rank
    return _TRANSPOSED[x.dim()](x, w, b, list(steps), given[:rank], list(more), group, list(spread))


def max_pool(  # noqa: PLR0917 - in the order of the specification
    x: Tensor,
    kernel_shape: Sequence[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    storage_order: int = 0,
    strides: Sequence[int] | None = None,
) -> Tensor:
    """`storage_order` is of the indices, which are not supported."""
    require(x.dim() in _LARGEST and x.is_floating_point(), f"pooling of {x.dtype} over {x.dim() - 2} axes")
    rank = x.dim() - 2
    steps, spread = list(strides or [1] * rank), list(dilations or [1] * rank)
    before, after = paddings(x.shape[2:], kernel_shape, steps, spread, auto_pad, pads)
    if before != after or any(2 * pad > size for pad, size in zip(before, kernel_shape, strict=True)):
        require(not ceil_mode, f"ceil_mode with pads {before}, {after}")
        x, before = padded(x, (before, after), -torch.inf), [0] * rank
    return _LARGEST[x.dim()](x, list(kernel_shape), steps, before, spread, bool(ceil_mode))


def average_pool(  # noqa: PLR0917 - in the order of the specification
    x: Tensor,
    kernel_shape: Sequence[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    count_include_pad: int = 0,
    dilations: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Tensor:
    """Padding counts where `count_include_pad`."""
    require(x.dim() in _AVERAGE, f"pooling over {x.dim() - 2} axes")
    rank = x.dim() - 2
    require(set(dilations or [1]) == {1}, f"dilations {dilations}")
    kernel, steps = list(kernel_shape), list(strides or [1] * rank)
    pad = paddings(x.shape[2:], kernel, steps, [1] * rank, auto_pad, pads)
    require(not (ceil_mode and any(pad[0] + pad[1])), f"ceil_mode with pads {pads}")
    mean = _AVERAGE[x.dim()](padded(x, pad), kernel, steps, 0, bool(ceil_mode))
    if count_include_pad or not any(pad[0] + pad[1]):
        return mean
    inside = torch.ones((1, 1, *x.shape[2:]), dtype=x.dtype)
    return mean / _AVERAGE[x.dim()](padded(inside, pad), kernel, steps)


def _over_space(x: Tensor) -> list[int]:
    return list(range(2, x.dim()))


OPERATORS: Mapping[str, Callable[..., Any]] = {
    "AveragePool": average_pool,
    "Conv": convolution,
    "ConvTranspose": _transposed,
    "GlobalAveragePool": lambda x: x.mean(_over_space(x), keepdim=True),
    "GlobalMaxPool": lambda x: x.amax(_over_space(x), keepdim=True),
    "MaxPool": max_pool,
}
