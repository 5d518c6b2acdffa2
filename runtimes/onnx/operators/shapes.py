"""What moves, repeats, selects and measures tensors, and computes no new value."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from runtimes.evaluator.field.sizes import sizes
from runtimes.evaluator.operands import Ints, ints, one, require
from runtimes.evaluator.shared import cut, depth_to_space, gathered, space_to_depth, unsqueezed, within


def _size(x: Tensor) -> Tensor:
    return sizes(x).prod()


def _reshape(x: Tensor, shape: Ints, allowzero: int = 0) -> Tensor:
    """0 keeps a dimension unless `allowzero`, -1 takes what is left."""
    wanted = ints(shape)
    if not allowzero:
        wanted = [x.shape[axis] if size == 0 else size for axis, size in enumerate(wanted)]
    return x.reshape(wanted)


def _transpose(x: Tensor, perm: Sequence[int] | None = None) -> Tensor:
    return x.permute(list(reversed(range(x.dim()))) if perm is None else list(perm))


def _flatten(x: Tensor, axis: int) -> Tensor:
    first = axis + x.dim() if axis < 0 else axis
    return x.reshape(math.prod(x.shape[:first]), math.prod(x.shape[first:]))


def _squeeze(x: Tensor, axes: Ints | None = None) -> Tensor:
    chosen = [axis for axis, size in enumerate(x.shape) if size == 1] if axes is None else ints(axes)
    require(all(x.shape[axis] == 1 for axis in chosen), f"axes {chosen} of {tuple(x.shape)}")
    return x.squeeze(tuple(chosen))


def _split(
    x: Tensor, axis: int, count: int, split: Ints | None = None, num_outputs: int | None = None
) -> tuple[Tensor, ...]:
    """Into parts of these sizes, or into `count` equal ones, of which only the last may be smaller."""
    size = x.shape[axis]
    if split is None:
        require(num_outputs in (None, count), f"num_outputs {num_outputs} of {count}")
        part = math.ceil(size / count)
        require(num_outputs is not None or part * count == size, f"{count} equal parts of {size}")
        parts = [part] * (count - 1) + [size - part * (count - 1)]
    else:
        parts = ints(split)
    return tuple(x.split(parts, axis))


def _slice(x: Tensor, starts: Ints, ends: Ints, axes: Ints | None = None, steps: Ints | None = None) -> Tensor:
    first, last = ints(starts), ints(ends)
    chosen = list(range(len(first))) if axes is None else ints(axes)
    by = [1] * len(first) if steps is None else ints(steps)
    for axis, start, end, step in zip(chosen, first, last, by, strict=True):
        x = cut(x, axis, start, end, step)
    return x


def _gather_elements(x: Tensor, indices: Tensor, axis: int) -> Tensor:
    return torch.gather(x, axis, within(indices, x.shape[axis]).to(torch.int64))


def _gather_nd(x: Tensor, indices: Tensor, batch_dims: int = 0) -> Tensor:
    """The last axis of `indices` is a place in `x` behind the batch."""
    places = [within(part, x.shape[batch_dims + axis]).to(torch.int64) for axis, part in enumerate(indices.unbind(-1))]
    batch = []
    for axis in range(batch_dims):
        shape = [1] * (indices.dim() - 1)
        shape[axis] = x.shape[axis]
        batch.append(torch.arange(x.shape[axis]).reshape(shape))
    return x[(*batch, *places)]


def _scatter_elements(x: Tensor, indices: Tensor, updates: Tensor, axis: int, reduction: str = "none") -> Tensor:
    require(reduction == "none", f"reduction {reduction}")
    return torch.scatter(x, axis, within(indices, x.shape[axis]).to(torch.int64), updates)


def _scatter_nd(x: Tensor, indices: Tensor, updates: Tensor, reduction: str = "none") -> Tensor:
    """The last axis of `indices` is a place in `x`."""
    require(reduction == "none", f"reduction {reduction}")
    places = [within(part, x.shape[axis]).to(torch.int64) for axis, part in enumerate(indices.unbind(-1))]
    return x.index_put(tuple(places), updates)


def _expand(x: Tensor, shape: Ints) -> Tensor:
    return x.expand(torch.broadcast_shapes(x.shape, torch.Size(ints(shape))))


def _pad(
    x: Tensor, pads: Ints, mode: str = "constant", constant_value: Tensor | None = None, axes: Ints | None = None
) -> Tensor:
    """Before and after every axis of `axes`; a negative pad crops."""
    chosen = list(range(x.dim())) if axes is None else [axis % x.dim() for axis in ints(axes)]
    amounts = ints(pads)
    before = dict(zip(chosen, amounts[: len(chosen)], strict=True))
    after = dict(zip(chosen, amounts[len(chosen) :], strict=True))
    if mode == "constant":
        sides = [side for axis in reversed(range(x.dim())) for side in (before.get(axis, 0), after.get(axis, 0))]
        fill = 0.0 if constant_value is None or not constant_value.numel() else one(constant_value)
        return functional.pad(x, sides, value=fill)
    require(mode in _SOURCES, f"mode {mode}")
    for axis in chosen:
        size = x.shape[axis]
        places = [_SOURCES[mode](place, size) for place in range(-before[axis], size + after[axis])]
        x = x.index_select(axis, torch.tensor(places, dtype=torch.int64))
    return x


def _reflected(place: int, size: int) -> int:
    period = max(1, 2 * (size - 1))
    folded = place % period
    return folded if folded < size else period - folded


_SOURCES: Mapping[str, Callable[[int, int], int]] = {
    "edge": lambda place, size: min(max(place, 0), size - 1),
    "reflect": _reflected,
    "wrap": lambda place, size: place % size,
}


def _constant_of_shape(x: Ints, value: Tensor | None = None) -> Tensor:
    return (torch.zeros(1) if value is None else value).reshape(()).expand(ints(x))


def _range(start: Tensor, limit: Tensor, delta: Tensor, stash_type: int = 1) -> Tensor:
    if not start.is_floating_point():
        return torch.arange(int(start), int(limit), int(delta), dtype=start.dtype)
    count = max(0, math.ceil((one(limit) - one(start)) / one(delta)))
    return start + torch.arange(count, dtype=start.dtype) * delta


def _depth_to_space(x: Tensor, blocksize: int, mode: str = "DCR") -> Tensor:
    require(mode in ("DCR", "CRD"), f"mode {mode}")
    return depth_to_space(x, blocksize, depth_first=mode == "CRD")


def _space_to_depth(x: Tensor, blocksize: int, mode: str = "DCR") -> Tensor:
    require(mode == "DCR", f"mode {mode}")
    return space_to_depth(x, blocksize, depth_first=False)


def _triangle(x: Tensor, upper: int, k: Tensor | None = None) -> Tensor:
    diagonal = 0 if k is None else int(one(k))
    return torch.triu(x, diagonal) if upper else torch.tril(x, diagonal)


def _running_sum(x: Tensor, axis: Tensor, exclusive: int, reverse: int) -> Tensor:
    along = int(one(axis))
    turned = x.flip(along) if reverse else x
    total = turned.cumsum(along, dtype=x.dtype)
    if exclusive:
        total = total - turned
    return total.flip(along) if reverse else total


OPERATORS: Mapping[str, Callable[..., Any]] = {
    "Concat": lambda values, axis: torch.cat(tuple(values), axis),
    "ConstantOfShape": _constant_of_shape,
    "CumSum": _running_sum,
    "DepthToSpace": _depth_to_space,
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": gathered,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "Identity": lambda x: x,
    "Pad": _pad,
    "Range": _range,
    "Reshape": _reshape,
    "ScatterElements": _scatter_elements,
    "ScatterND": _scatter_nd,
    "Shape": sizes,
    "Size": _size,
    "Slice": _slice,
    "SpaceToDepth": _space_to_depth,
    "Split": _split,
    "Squeeze": _squeeze,
    "Tile": lambda x, repeats: x.tile(ints(repeats)),
    "Transpose": _transpose,
    "Trilu": _triangle,
    "Unsqueeze": unsqueezed,
}
