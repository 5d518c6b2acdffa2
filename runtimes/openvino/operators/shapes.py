"""What moves values, cuts them out or repeats them, and the arithmetic on shapes."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from runtimes.evaluator.evaluator import BadOperand
from runtimes.evaluator.field.sizes import sizes
from runtimes.evaluator.operands import ints, one, require
from runtimes.evaluator.shared import cut, depth_to_space, gathered, space_to_depth, unsqueezed
from runtimes.openvino.operators.arithmetic import INTEGERS


def shape_of(x: Tensor, output_type: str = "i64") -> Tensor:
    """Its sizes."""
    return sizes(x).to(INTEGERS[output_type])


def _reshape(x: Tensor, shape: Tensor, special_zero: bool) -> Tensor:
    """`special_zero`: 0 keeps the size that is at its place."""
    sizes = ints(shape)
    if special_zero:
        sizes = [x.shape[place] if size == 0 else size for place, size in enumerate(sizes)]
    return x.reshape(sizes)


def _transpose(x: Tensor, order: Tensor) -> Tensor:
    return x.permute(ints(order) or list(reversed(range(x.dim()))))


def _squeeze(x: Tensor, axes: Tensor | None = None, allow_axis_skip: bool = False) -> Tensor:
    """`allow_axis_skip`: an axis of another size than 1 is left, and not an error; the rank is dynamic then."""
    chosen = [] if axes is None else [axis % x.dim() for axis in ints(axes)]
    kept = [axis for axis in chosen if x.shape[axis] != 1]
    require(allow_axis_skip or not kept, f"axes {kept} of {tuple(x.shape)}")
    return x.squeeze(tuple(chosen)) if chosen else x.squeeze()


def _split(x: Tensor, axis: Tensor, num_splits: int) -> tuple[Tensor, ...]:
    (at,) = ints(axis)
    require(x.shape[at] % num_splits == 0, f"{num_splits} parts of {x.shape[at]}")
    return tuple(x.split(x.shape[at] // num_splits, at))


def _variadic_split(x: Tensor, axis: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
    """-1, once, takes what is left."""
    (at,), sizes = ints(axis), ints(lengths)
    if -1 in sizes:
        sizes[sizes.index(-1)] = x.shape[at] - sum(sizes) - 1
    return tuple(x.split(sizes, at))


def _slice(x: Tensor, start: Tensor, stop: Tensor, step: Tensor, axes: Tensor | None = None) -> Tensor:
    starts = ints(start)
    chosen = list(range(len(starts))) if axes is None else ints(axes)
    for axis, first, last, by in zip(chosen, starts, ints(stop), ints(step), strict=True):
        x = cut(x, axis % x.dim(), first, last, by)
    return x


def _strided_slice(  # noqa: PLR0917 - in the order of the specification
    x: Tensor,
    begin: Tensor,
    end: Tensor,
    begin_mask: Sequence[int],
    end_mask: Sequence[int],
    new_axis_mask: Sequence[int],
    shrink_axis_mask: Sequence[int],
    ellipsis_mask: Sequence[int],
    stride: Tensor | None = None,
) -> Tensor:
    """As NumPy's slices. A mask that is too short is 0 beyond its end; 1 in the first two: from or to the edge."""
    firsts, lasts = ints(begin), ints(end)
    steps = [1] * len(firsts) if stride is None else ints(stride)
    require(len(firsts) == len(lasts) == len(steps), "begin, end and stride of different lengths")
    masks = [[bool(bit) for bit in mask] + [False] * (len(firsts) - len(mask))
             for mask in (begin_mask, end_mask, new_axis_mask, shrink_axis_mask, ellipsis_mask)]  # fmt: skip
    from_edge, to_edge, added, shrunk, rest = masks
    axis = 0
    for index, (first, last, step) in enumerate(zip(firsts, lasts, steps, strict=True)):
        require(added[index] + shrunk[index] + rest[index] <= 1, "two masks at one place")
        if rest[index]:
            axis = x.dim() - sum(not new for new in added[index + 1 :])
        elif added[index]:
            x = x.unsqueeze(axis)
            axis += 1
        elif shrunk[index]:
            require(not from_edge[index], "shrink_axis_mask with begin_mask")
            x = x.select(axis, first)
        else:
            x = cut(x, axis, None if from_edge[index] else first, None if to_edge[index] else last, step)
            axis += 1
    return x


def _gather(
    x: Tensor, axis: Tensor, batch_dims: int = 0, indices: Tensor | None = None, places: Tensor | None = None
) -> Tensor:
    """An index below 0 counts from the end; since opset 8: before, as `places`, what is not there is given as 0."""
    require(batch_dims == 0, f"batch_dims {batch_dims}")
    (at,) = ints(axis)
    if indices is not None:
        return gathered(x, indices, at)
    if places is None:
        raise BadOperand("no indices")
    require(min(ints(places), default=0) >= 0, "an index below 0 before opset 8")
    return gathered(x, places, at)


def _pad(x: Tensor, begin: Tensor, end: Tensor, pad_mode: str, value: Tensor | None = None) -> Tensor:
    """Less than 0 cuts off."""
    before, after = ints(begin), ints(end)
    if pad_mode == "constant":
        both = [size for pair in zip(reversed(before), reversed(after), strict=True) for size in pair]
        return functional.pad(x, both, value=0.0 if value is None else one(value))
    if pad_mode not in _MIRRORED:
        raise BadOperand(f"pad_mode {pad_mode}")
    for axis, (low, high) in enumerate(zip(before, after, strict=True)):
        size = x.shape[axis]
        require(0 <= low <= size and 0 <= high <= size, f"padding of {low} and {high} for {size}")
        if low or high:
            places = [_MIRRORED[pad_mode](place, size) for place in range(-low, size + high)]
            require(all(0 <= place < size for place in places), f"padding of {low} and {high} for {size}")
            x = x.index_select(axis, torch.tensor(places))
    return x


_MIRRORED: Mapping[str, Callable[[int, int], int]] = {
    "edge": lambda place, size: min(max(place, 0), size - 1),
    "reflect": lambda place, size: abs(place) if place < size else 2 * (size - 1) - place,
    "symmetric": lambda place, size: -1 - place if place < 0 else place if place < size else 2 * size - 1 - place,
}


def _broadcast(x: Tensor, shape: Tensor, mode: str, axes_mapping: Tensor | None = None) -> Tensor:
    sizes = ints(shape)
    if mode == "explicit":
        require(axes_mapping is not None, "no axes_mapping")
        places = [] if axes_mapping is None else ints(axes_mapping)
        spread = [1] * len(sizes)
        for place, size in zip(places, x.shape, strict=True):
            spread[place] = size
        x = x.reshape(spread)
    elif mode == "bidirectional":
        sizes = list(torch.broadcast_shapes(tuple(x.shape), tuple(sizes)))
    else:
        require(mode == "numpy", f"mode {mode}")
    return x.expand(sizes)


def _tile(x: Tensor, repeats: Tensor) -> Tensor:
    return x.tile(ints(repeats))


def _depth_to_space(x: Tensor, block_size: int, mode: str) -> Tensor:
    """(N, C, H, W) -> (N, C / b^2, H * b, W * b)."""
    require(x.dim() == 4 and mode in ("blocks_first", "depth_first"), f"mode {mode} of {x.dim()} axes")
    return depth_to_space(x, block_size, depth_first=mode == "depth_first")


def _space_to_depth(x: Tensor, block_size: int, mode: str) -> Tensor:
    """(N, C, H, W) -> (N, C * b^2, H / b, W / b)."""
    require(x.dim() == 4 and mode in ("blocks_first", "depth_first"), f"mode {mode} of {x.dim()} axes")
    return space_to_depth(x, block_size, depth_first=mode == "depth_first")


def _shuffle_channels(x: Tensor, axis: int, group: int) -> Tensor:
    at = axis % x.dim()
    parts = x.reshape(*x.shape[:at], group, x.shape[at] // group, *x.shape[at + 1 :])
    return parts.transpose(at, at + 1).reshape(x.shape)


def _range(start: Tensor, stop: Tensor, step: Tensor, output_type: str) -> Tensor:
    """Of integers."""
    require(output_type in INTEGERS and not start.is_floating_point(), f"a range of {output_type}")
    (first,), (last,), (by,) = ints(start), ints(stop), ints(step)
    return torch.arange(first, last, by, dtype=INTEGERS[output_type])


def _top(
    x: Tensor, k: Tensor, axis: int, mode: str, sort: str, index_element_type: str = "i32", stable: bool = False
) -> tuple[Tensor, Tensor]:
    """Of equal values the first. `stable` asks for just that."""
    require(sort == "value" and mode in ("max", "min"), f"sort {sort}, mode {mode}")
    (count,) = ints(k)
    values, places = x.sort(dim=axis, descending=mode == "max", stable=True)
    return values.narrow(axis, 0, count), places.narrow(axis, 0, count).to(INTEGERS[index_element_type])


OPERATORS: Mapping[str, Callable[..., Any]] = {
    "Broadcast": _broadcast,
    "Concat": lambda values, axis: torch.cat(values, axis),
    "DepthToSpace": _depth_to_space,
    "Gather": _gather,
    "Pad": _pad,
    "Range": _range,
    "Reshape": _reshape,
    "ShapeOf": shape_of,
    "ShuffleChannels": _shuffle_channels,
    "Slice": _slice,
    "SpaceToDepth": _space_to_depth,
    "Split": _split,
    "Squeeze": _squeeze,
    "StridedSlice": _strided_slice,
    "Tile": _tile,
    "TopK": _top,
    "Transpose": _transpose,
    "Unsqueeze": unsqueezed,
    "VariadicSplit": _variadic_split,
}
