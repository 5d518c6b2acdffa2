"""What operators of several formats have in common."""

import torch
from torch import Tensor

from runtimes.evaluator.operands import Ints, ints


def same_padding(size: int, kernel: int, stride: int, dilation: int = 1) -> tuple[int, int]:
    """How much has to lie around an axis for ceil(size / stride) windows: the smaller half, then the larger."""
    total = max(0, (-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1 - size)
    return total // 2, total - total // 2


def unsqueezed(x: Tensor, axes: Ints) -> Tensor:
    """With axes of size 1 at these places of the result."""
    places = ints(axes)
    rank = x.dim() + len(places)
    for axis in sorted(axis % rank for axis in places):
        x = x.unsqueeze(axis)
    return x


def cut(x: Tensor, axis: int, start: int | None, stop: int | None, step: int) -> Tensor:
    """x[start:stop:step] along an axis, as Python slices, whose steps may be negative."""
    places = range(*slice(start, stop, step).indices(x.shape[axis]))
    if step < 0:
        return x.index_select(axis, torch.tensor(list(places), dtype=torch.int64))
    index = [slice(None)] * x.dim()
    index[axis] = slice(places.start, max(places.start, places.stop), step)
    return x[tuple(index)]


def within(indices: Tensor, size: int) -> Tensor:
    """A negative index counts from the end."""
    return torch.where(indices < 0, indices + size, indices)


def gathered(x: Tensor, indices: Tensor, axis: int) -> Tensor:
    """The entries of an axis at `indices`, whose shape takes the axis' place."""
    axis %= x.dim()
    shape = (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])
    return x.index_select(axis, within(indices, x.shape[axis]).reshape(-1)).reshape(shape)


def total(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    """The sum, in the type of `x`."""
    return x.sum(axes, keepdim=keep, dtype=x.dtype)


def product(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    """The product over several axes, in the type of `x`."""
    for axis in sorted((axis % x.dim() for axis in axes), reverse=True):
        x = x.prod(axis, keepdim=keep, dtype=x.dtype)
    return x


def by_channel(value: Tensor, x: Tensor) -> Tensor:
    """(C,) so that it broadcasts with (N, C, ...)."""
    return value.reshape([1, -1] + [1] * (x.dim() - 2))


def batch_normalized(x: Tensor, scale: Tensor, shift: Tensor, mean: Tensor, variance: Tensor, epsilon: float) -> Tensor:
    """(x - mean) * scale / sqrt(variance + epsilon) + shift, each of the channels."""
    factor = scale * torch.rsqrt(variance + epsilon)
    return (x - by_channel(mean, x)) * by_channel(factor, x) + by_channel(shift, x)


def depth_to_space(x: Tensor, block: int, *, depth_first: bool) -> Tensor:
    """(N, C, H, W) -> (N, C / b^2, H * b, W * b)."""
    count, channels, height, width = x.shape
    left = channels // block**2
    if depth_first:
        moved = x.reshape(count, left, block, block, height, width).permute(0, 1, 4, 2, 5, 3)
    else:
        moved = x.reshape(count, block, block, left, height, width).permute(0, 3, 4, 1, 5, 2)
    return moved.reshape(count, left, height * block, width * block)


def space_to_depth(x: Tensor, block: int, *, depth_first: bool) -> Tensor:
    """(N, C, H, W) -> (N, C * b^2, H / b, W / b)."""
    count, channels, height, width = x.shape
    rows, columns = height // block, width // block
    order = (0, 1, 3, 5, 2, 4) if depth_first else (0, 3, 5, 1, 2, 4)
    moved = x.reshape(count, channels, rows, block, columns, block).permute(order)
    return moved.reshape(count, channels * block * block, rows, columns)
