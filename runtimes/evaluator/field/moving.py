"""Operators that move values, or fill with constants."""

import operator
from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

from runtimes.evaluator.field.elementwise import mul
from runtimes.evaluator.field.sizes import Sizes
from runtimes.evaluator.field.table import all_axes, aten, computes, not_across_images, operands
from runtimes.evaluator.field.tensor import FieldTensor, NoMeaning, Unlike


def moved(
    x: FieldTensor, move: Callable[[Tensor], Tensor], rows: int | None = None, *, same: bool = False
) -> FieldTensor:
    """The same values elsewhere; so are the integers that they were dequantized from. `same`: all, each once."""
    residues = move(x.residues)
    noted = x.noted if same else None
    result = FieldTensor(x.field, residues, x.rows if rows is None else rows, x.dtype, noted)
    result.nonnegative = x.nonnegative
    if x.codes is not None:
        quantizer, integers = x.codes
        result.codes = quantizer, _integers(integers, move(integers.residues), rows)
    return result


def _integers(x: FieldTensor, residues: Tensor, rows: int | None = None) -> FieldTensor:
    """Others that the same quantizer gave."""
    result = FieldTensor(x.field, residues, x.rows if rows is None else rows, x.dtype)
    result.quantizer = x.quantizer
    return result


@computes(aten.view.default, aten._unsafe_view.default, aten.reshape.default, aten._reshape_alias.default)
def view(x: FieldTensor, shape: Sequence[int], *_: Any) -> FieldTensor:
    """Any reshape that keeps each image's values in rows of its own."""
    sizes = [int(size) for size in shape]
    if -1 in sizes:
        known = prod(size for size in sizes if size != -1)
        sizes[sizes.index(-1)] = x.numel() // known if known else 0
    if prod(sizes) != x.numel():
        raise NoMeaning(f"a reshape of {tuple(x.shape)} to {tuple(shape)}")
    rows = x.rows
    if rows:
        batch = x.field.batch
        if not sizes or sizes[0] % batch:
            raise Unlike("a reshape mixes the images of a batch")
        rows = sizes[0] // batch
        sizes[0] //= x.field.repeated
    return moved(x, lambda t: t.reshape(t.shape[0], *sizes), rows, same=True)


@computes(aten.permute.default)
def permute(x: FieldTensor, dims: Sequence[int]) -> FieldTensor:
    """A transpose that leaves the images where they are."""
    order = [axis % x.dim() for axis in dims]
    if x.rows and order[0] != 0:
        raise NoMeaning("a transpose moves the images away from the first axis")
    return moved(x, lambda t: t.permute(0, *(axis + 1 for axis in order)), same=True)


@computes(aten.transpose.int)
def _transpose(x: FieldTensor, first: int, second: int) -> FieldTensor:
    order = list(range(x.dim()))
    order[first], order[second] = order[second], order[first]
    return permute(x, order)


@computes(aten.t.default)
def _t(x: FieldTensor) -> FieldTensor:
    return x if x.dim() < 2 else permute(x, [1, 0])


@computes(aten.expand.default)
def _expand(x: FieldTensor, size: Sequence[int], *, implicit: bool = False) -> FieldTensor:
    rank, batch = len(size), x.field.batch
    if x.rows and rank != x.dim():
        raise NoMeaning("a broadcast moves the images away from the first axis")
    before = [1] * (rank - x.dim()) + list(x.shape)
    sizes = [old if new == -1 else int(new) for old, new in zip(before, size, strict=True)]
    rows = x.rows
    if x.field.uniform and not rows and rank and before[0] == 1 and sizes[0] > 1 and sizes[0] % batch == 0:
        rows = sizes[0] // batch  # one value for all images
    primes, held = x.residues.shape[0], [1] * (rank - x.dim()) + list(x.residues.shape[1:])
    if rows:
        sizes[0] //= x.field.repeated
    return moved(x, lambda t: t.reshape(primes, *held).expand(primes, *sizes), rows)


@computes(aten.squeeze.dim, aten.squeeze.dims, aten.squeeze.default)
def _squeeze(x: FieldTensor, dim: Any = None) -> FieldTensor:
    axes = all_axes(dim, x) if dim is not None else tuple(range(x.dim()))
    if x.rows and 0 in axes:
        if dim is not None and x.shape[0] != 1:
            axes = tuple(axis for axis in axes if axis)
        else:
            raise NoMeaning("a squeeze drops the axis of the images")
    return view(x, [size for axis, size in enumerate(x.shape) if axis not in axes or size != 1])


@computes(aten.unsqueeze.default)
def unsqueeze(x: FieldTensor, dim: int) -> FieldTensor:
    """A new axis of size 1."""
    axis = dim % (x.dim() + 1)
    if x.rows and not axis:
        raise NoMeaning("a new axis before that of the images")
    return view(x, [*x.shape[:axis], 1, *x.shape[axis:]])


@computes(aten.slice.Tensor)
def _slice(x: FieldTensor, dim: int = 0, start: Any = None, end: Any = None, step: int = 1) -> FieldTensor:
    index = slice(start, end, step)
    axis = dim % x.dim()
    bounded = end is not None and 0 <= operator.index(end) < 2**31 - 1
    if x.rows and axis == 0 and (bounded or index.indices(x.shape[0]) != (0, x.shape[0], 1)):
        raise Unlike("a slice takes some images of a batch")
    return moved(x, lambda t: t[(slice(None),) * (axis + 1) + (index,)])


@computes(aten.select.int)
def _select(x: FieldTensor, dim: int, index: int) -> FieldTensor:
    not_across_images(x, dim % x.dim())
    return moved(x, lambda t: t.select(dim % x.dim() + 1, index))


@computes(aten.unbind.int)
def _unbind(x: FieldTensor, dim: int = 0) -> list[FieldTensor]:
    return [_select(x, dim, index) for index in range(x.shape[dim])]


@computes(aten.index_select.default)
def _index_select(x: FieldTensor, dim: int, index: Tensor) -> FieldTensor:
    if isinstance(index, FieldTensor | Sizes):
        raise NoMeaning("an index depends on the image or on the number of images")
    not_across_images(x, dim % x.dim())
    return moved(x, lambda t: t.index_select(dim % x.dim() + 1, index.to(t.device)))


@computes(aten.index.Tensor)
def _index(x: FieldTensor, indices: Sequence[Tensor | None]) -> FieldTensor:
    """By constant integers, along axes that lie side by side."""
    places = [axis for axis, index in enumerate(indices) if index is not None]
    for index in indices:
        if isinstance(index, FieldTensor | Sizes) or (index is not None and index.dtype != torch.int64):
            raise NoMeaning("an index is no constant integer")
    if places != list(range(places[0], places[-1] + 1)):
        raise NoMeaning("an index takes axes that do not lie side by side")
    not_across_images(x, *places)
    chosen = (slice(None), *(slice(None) if index is None else index for index in indices))
    return moved(x, lambda t: t[chosen])


@computes(aten.flip.default)
def _flip(x: FieldTensor, dims: Sequence[int]) -> FieldTensor:
    axes = all_axes(dims, x)
    not_across_images(x, *axes)
    return moved(x, lambda t: t.flip([axis + 1 for axis in axes]))


@computes(aten.split.Tensor, aten.split_with_sizes.default)
def _split(x: FieldTensor, sizes: Any, dim: int = 0) -> list[FieldTensor]:
    axis = dim % x.dim()
    not_across_images(x, axis)
    total = x.shape[axis]
    each = [sizes] * (total // sizes) + [total % sizes] * bool(total % sizes) if isinstance(sizes, int) else list(sizes)
    starts = [sum(each[:i]) for i in range(len(each))]
    return [
        moved(x, lambda t, start=start, size=size: t.narrow(axis + 1, start, size))  # type: ignore[misc]
        for start, size in zip(starts, each, strict=True)
    ]


@computes(aten.cat.default)
def cat(tensors: Sequence[Any], dim: int = 0) -> FieldTensor:
    """Joined along an axis other than the images'."""
    values = operands(*tensors)
    first = next((value for value in values if value.rows), values[0])
    axis = dim % first.dim()
    for value in values:
        not_across_images(value, axis)
        if value.rows != first.rows and (first.field.batch > 1 or first.rows != value.shape[0]):
            raise Unlike("tensors of different numbers of images are joined")
    result = first.like(torch.cat([value.residues for value in values], axis + 1))
    result.nonnegative = all(value.nonnegative for value in values)
    codes = [value.codes for value in values if value.codes is not None]
    if len(codes) == len(values) and all(quantizer == codes[0][0] for quantizer, _ in codes):
        integers = torch.cat([each.residues for _, each in codes], axis + 1)
        result.codes = codes[0][0], _integers(codes[0][1], integers, first.rows)
    return result


@computes(aten.stack.default)
def _stack(tensors: Sequence[Any], dim: int = 0) -> FieldTensor:
    values = operands(*tensors)
    return cat([unsqueeze(value, dim if dim >= 0 else dim + values[0].dim() + 1) for value in values], dim)


@computes(aten.constant_pad_nd.default)
def pad(x: FieldTensor, margins: Sequence[int], value: float = 0) -> FieldTensor:
    """`margins`: before and after, from the last axis on."""
    if not any(margins):
        return x
    if x.rows and len(margins) == 2 * x.dim() and any(margins[-2:]):
        raise Unlike("padding adds images to a batch")
    primes = x.residues.shape[0]
    sizes = list(x.residues.shape[1:])
    inner: list[slice] = [slice(None)] * (x.dim() + 1)
    for i in range(len(margins) // 2):
        before, after = margins[2 * i : 2 * i + 2]
        axis = x.dim() - 1 - i
        sizes[axis] += before + after
        inner[axis + 1] = slice(before, before + x.residues.shape[axis + 1])
    if any(size < 0 for size in margins):
        raise NoMeaning("padding by less than nothing")
    filling = x.field.residues.of(torch.tensor(float(value), dtype=torch.float64))
    result = filling.reshape(primes, *[1] * x.dim()).expand(primes, *sizes).clone()
    result[tuple(inner)] = x.residues
    padded = x.like(result)
    padded.nonnegative = x.nonnegative and value >= 0
    if x.codes is not None and value == 0:
        quantizer, integers = x.codes
        if quantizer.low <= quantizer.zero <= quantizer.high:
            padded.codes = quantizer, _integers(integers, pad(integers, margins, quantizer.zero).residues)
    return padded


@computes(aten.new_full.default)
def _new_full(x: FieldTensor, size: Sequence[int], value: float, **_: Any) -> Tensor:
    return torch.full(tuple(size), value, dtype=torch.float64)


@computes(aten.zeros_like.default)
def _zeros_like(x: FieldTensor, **_: Any) -> FieldTensor:
    return mul(x, 0.0)
