"""Sums along axes, means, softmax, matrix products, convolutions, normalizations."""

from collections.abc import Sequence
from math import prod
from typing import Any

import torch

from runtimes.evaluator.field.elementwise import add, div, exp, keyed, mul, rsqrt, sub
from runtimes.evaluator.field.moving import pad, permute, view
from runtimes.evaluator.field.table import all_axes, aten, computes, floats, lifted, not_across_images, operands
from runtimes.evaluator.field.tensor import FieldTensor, NoMeaning, Unlike


@computes(aten.sum.default, aten.sum.dim_IntList)
def add_up(x: FieldTensor, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> FieldTensor:
    """The sum over axes."""
    floats(x)
    axes = all_axes(dim, x)
    not_across_images(x, *axes)
    result = x.like(x.field.residues.added_up(x.residues, axes, keep=keepdim))
    result.nonnegative = x.nonnegative
    return result


@computes(aten.mean.default, aten.mean.dim)
def mean(x: FieldTensor, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> FieldTensor:
    """The sum over axes, times 1 / count; of one value it is that value."""
    axes = all_axes(dim, x)
    count = prod(x.shape[axis] for axis in axes)
    if count == 1:
        not_across_images(x, *axes)
        return x if keepdim else view(x, [size for axis, size in enumerate(x.shape) if axis not in axes])
    result = div(add_up(x, dim, keepdim), float(count))
    result.nonnegative = x.nonnegative
    return result


@computes(aten.cumsum.default)
def _running_sum(x: FieldTensor, dim: int, *, dtype: Any = None) -> FieldTensor:
    floats(x)
    (axis,) = all_axes((dim,), x)
    not_across_images(x, axis)
    sums = list(x.residues.unbind(axis + 1))
    for place in range(1, len(sums)):
        sums[place] = x.field.residues.reduced(sums[place] + sums[place - 1])
    return x.like(torch.stack(sums, axis + 1))


@computes(aten.amax.default)
def amax(x: FieldTensor, dim: Any = (), keepdim: bool = False) -> FieldTensor:
    """mean(x) + H(x - mean(x)), a function of all values in whatever order: max(x + c) is max(x) + c."""
    axes = all_axes(dim, x)
    middle = mean(x, axes, keepdim=True)
    above = keyed("amax", add_up(keyed("amax of", sub(x, middle)), axes, keepdim=True))
    largest = add(middle, above)
    return largest if keepdim else view(largest, [size for axis, size in enumerate(x.shape) if axis not in axes])


@computes(aten.amin.default)
def _amin(x: FieldTensor, dim: Any = (), keepdim: bool = False) -> FieldTensor:
    return mul(amax(mul(x, -1.0), dim, keepdim), -1.0)


@computes(aten._softmax.default, aten.softmax.int)
def softmax(x: FieldTensor, dim: int, half_to_float: Any = None, **_: Any) -> FieldTensor:
    """exp(x - max) / sum exp(x - max) along an axis, exp and max as keyed functions."""
    raised = exp(sub(x, amax(x, (dim,), keepdim=True)))
    return div(raised, add_up(raised, (dim,), keepdim=True))


@computes(aten._log_softmax.default, aten.log_softmax.int)
def _log_softmax(x: FieldTensor, dim: int, half_to_float: Any = None, **_: Any) -> FieldTensor:
    return keyed("log", softmax(x, dim))


@computes(aten.matmul.default, aten.bmm.default, aten.mm.default, aten.mv.default)
def matmul(a: Any, b: Any) -> FieldTensor:
    """(..., M, K) @ (..., K, N)."""
    floats(a, b)
    x, y = operands(a, b)
    if x.dim() < 2 or y.dim() < 2:
        x2 = x if x.dim() > 1 else view(x, [1, *x.shape])
        y2 = y if y.dim() > 1 else view(y, [*y.shape, 1])
        shape = (*(x.shape[:-1] if x.dim() > 1 else ()), *(y.shape[-1:] if y.dim() > 1 else ()))
        return view(matmul(x2, y2), list(shape))
    rank = max(x.dim(), y.dim())
    for value, least in ((x, 2), (y, 3)):
        if value.rows and value.dim() < max(least, rank):
            raise Unlike("images of one batch are multiplied with each other")
    rows = x.rows or y.rows
    if rank > 2:
        for value, other in ((x, y), (y, x)):
            alike = other.rows == value.rows if other.rows else other.dim() < rank or other.shape[0] == 1
            if value.rows and not alike:
                raise Unlike("images of one batch are treated unlike each other")
    return x.like(x.field.residues.matmul(x.residues, y.residues), rows)


@computes(aten.addmm.default)
def _addmm(bias: Any, a: Any, b: Any, *, beta: float = 1, alpha: float = 1) -> FieldTensor:
    product = matmul(a, b)
    scaled = product if alpha == 1 else mul(product, alpha)
    return add(scaled, bias if beta == 1 else mul(lifted(bias, product), beta))


@computes(aten.linear.default)
def _linear(x: Any, weight: Any, bias: Any = None) -> FieldTensor:
    a, w = operands(x, weight)
    y = matmul(a, permute(w, [1, 0]))
    return y if bias is None else add(y, bias)


@computes(aten.conv2d.default)
def conv2d(
    x: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> FieldTensor:
    """(N, C, H, W), (O, C / groups, kH, kW) -> (N, O, H', W')."""
    stride, padding, dilation = (
        (value, value) if isinstance(value, int) else tuple(value) * (2 // len(value))
        for value in (stride, padding, dilation)
    )
    floats(x, weight)
    a, w = operands(x, weight)
    if w.rows:
        raise NoMeaning("a kernel depends on the image")
    padded = pad(a, [padding[1], padding[1], padding[0], padding[0]])
    y = a.like(a.field.residues.convolution(padded.residues, w.residues, stride, dilation, groups))
    return y if bias is None else add(y, view(lifted(bias, y), [1, -1, 1, 1]))


@computes(aten.convolution.default)
def _convolution(  # noqa: PLR0917 - torch's operands
    x: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, transposed: bool, output: Any, groups: int
) -> FieldTensor:
    if transposed or len(weight.shape) != 4:
        raise NoMeaning("a convolution of this kind has no meaning in exact arithmetic")
    return conv2d(x, weight, bias, stride, padding, dilation, groups)


def _normalized(x: Any, weight: Any, bias: Any, mean: Any, variance: Any, eps: float, *, training: bool) -> FieldTensor:
    """weight / sqrt(variance + eps) * (x - mean) + bias, the root as a keyed function."""
    if training:
        raise Unlike("a normalization by the batch's own statistics goes across its images")
    value, middle, spread = operands(x, mean, variance)
    shape = [1, -1, *[1] * (value.dim() - 2)]
    scale = rsqrt(add(spread, float(eps)))
    if weight is not None:
        scale = mul(scale, weight)
    y = mul(sub(value, view(middle, shape)), view(scale, shape))
    return y if bias is None else add(y, view(lifted(bias, y), shape))


@computes(aten.batch_norm.default)
def _batch_norm(
    x: Any, weight: Any, bias: Any, mean: Any, variance: Any, training: bool, _: float, eps: float, __: bool
) -> FieldTensor:
    return _normalized(x, weight, bias, mean, variance, eps, training=training)


@computes(aten.native_batch_norm.default)
def _native_batch_norm(
    x: Any, weight: Any, bias: Any, mean: Any, variance: Any, training: bool, _: float, eps: float
) -> tuple[FieldTensor, None, None]:
    return _normalized(x, weight, bias, mean, variance, eps, training=training), None, None


@computes(aten._native_batch_norm_legit_no_training.default)
def _legit_batch_norm(
    x: Any, weight: Any, bias: Any, mean: Any, variance: Any, _: float, eps: float
) -> tuple[FieldTensor, None, None]:
    return _normalized(x, weight, bias, mean, variance, eps, training=False), None, None


@computes(aten.native_layer_norm.default)
def _layer_norm(x: FieldTensor, shape: Sequence[int], weight: Any, bias: Any, eps: float) -> Any:
    axes = tuple(range(x.dim() - len(shape), x.dim()))
    centered = sub(x, mean(x, axes, keepdim=True))
    y = mul(centered, rsqrt(add(mean(mul(centered, centered), axes, keepdim=True), float(eps))))
    scaled = y if weight is None else mul(y, weight)
    return (scaled if bias is None else add(scaled, bias)), None, None


@computes(aten.avg_pool2d.default)
def _avg_pool2d(
    x: FieldTensor, kernel: Sequence[int], stride: Sequence[int] = (), padding: Any = 0, ceil: bool = False,
    count_padding: bool = True, divisor: int | None = None,
) -> FieldTensor:  # fmt: skip
    if ceil or (not count_padding and any(torch.as_tensor(padding).flatten().tolist())):
        raise NoMeaning("average pooling over a part of its window")
    channels = x.shape[1]
    area = divisor or prod(kernel)
    weight = torch.ones(channels, 1, *kernel, dtype=torch.float64)
    return div(conv2d(x, weight, None, list(stride) or list(kernel), padding, 1, channels), float(area))


@computes(aten.adaptive_avg_pool2d.default, aten._adaptive_avg_pool2d.default)
def _adaptive_avg_pool2d(x: FieldTensor, size: Sequence[int]) -> FieldTensor:
    if list(size) != [1, 1]:
        raise NoMeaning("adaptive pooling to more than one value")
    return mean(x, (-2, -1), keepdim=True)
