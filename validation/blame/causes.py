"""What is wrong with a tensor, in words, where its values show it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtimes.precision import Dtype
from validation.metrics import LARGEST_HALF, Float64

_CLOSE = 1e-4

_UNEXPLAINED = 0.05
"""Of the error: what an explanation may leave over."""

_FEW = 0.25
_NAMED = 4


def cause_of_constant(value: NDArray[Any], own: NDArray[Any] | None, expected: Mapping[str, NDArray[Any]]) -> str:
    """Of a constant that is not `own`, the one of that name in the model; `expected`: all that the model has."""
    if other := next((name for name, tensor in expected.items() if _identical(value, tensor)), None):
        return f"holds '{other}'"
    if own is None:
        return "is no tensor of the model"
    for explain in (_typed, _turned, _moved, _factored):
        if (said := explain(value, own)) is not None:
            return said
    a, b = value.astype(np.float64), own.astype(np.float64)
    differ = int((a != b).sum())
    scale = float(np.abs(b).max()) or 1.0
    return f"{differ} of {a.size} values differ, at most by {float(np.abs(a - b).max()) / scale:.1e} of the largest"


def _typed(value: NDArray[Any], own: NDArray[Any]) -> str | None:
    if value.shape != own.shape:
        return f"has shape {value.shape} in place of {own.shape}"
    if value.dtype != own.dtype:
        return f"is stored as {value.dtype} in place of {own.dtype}"
    return None if value.any() else "is all zeros"


def _turned(value: NDArray[Any], own: NDArray[Any]) -> str | None:
    """Reversed or transposed."""
    for axis in range(value.ndim):
        if value.shape[axis] > 1 and np.array_equal(np.flip(value, axis), own):
            return f"is reversed along axis {axis}"
    for first in range(value.ndim):
        for second in range(first + 1, value.ndim):
            if value.shape[first] > 1 and np.array_equal(np.swapaxes(value, first, second), own):
                return f"has axes {first} and {second} exchanged"
    return None


def _moved(value: NDArray[Any], own: NDArray[Any]) -> str | None:
    """The same values in other places."""
    for axis in range(value.ndim):
        if (order := _order(np.moveaxis(value, axis, 0), np.moveaxis(own, axis, 0), 0.0)) is not None:
            return f"has axis {axis} in another order: {order}"
    same = np.array_equal(np.sort(value, axis=None), np.sort(own, axis=None))
    return "has its values in another order" if same else None


def _factored(value: NDArray[Any], own: NDArray[Any]) -> str | None:
    factor = _factor(value.astype(np.float64), own.astype(np.float64))
    return None if factor is None else f"is {factor:.6g} times what it should be"


@dataclass(frozen=True, slots=True, eq=False)
class _Pair:
    """What a layer gave in one call and what it should have given, of one shape."""

    value: Float64
    right: Float64

    def near(self, first: Float64, second: Float64) -> bool:
        """So near that the change from the one to the other explains nearly all of the error."""
        allowed = _UNEXPLAINED * float(np.linalg.norm(self.value - self.right))
        return float(np.linalg.norm(first - second)) <= allowed


_Pairs = Sequence[_Pair]


def cause_of_values(values: Sequence[Float64], expected: Sequence[Float64] | None, dtype: Dtype) -> str | None:
    """Of what a layer gave against what it should have given; None where nothing simple explains it."""
    if (said := _beyond(values, dtype)) is not None:
        return said
    if expected is None:
        return None
    if any(value.size != right.size for value, right in zip(values, expected, strict=True)):
        return None
    pairs = [_Pair(value, right.reshape(value.shape)) for value, right in zip(values, expected, strict=True)]
    for explain in (_clipped, _rectified, _reordered, _scaled, _normalized, _shifted, _channels, _constant, _border):
        if (said := explain(pairs)) is not None:
            return said
    return None


def _beyond(values: Sequence[Float64], dtype: Dtype) -> str | None:
    """Values that are no numbers, or none that the type holds."""
    largest = max(float(np.abs(value).max(initial=0, where=~np.isnan(value))) for value in values)
    if dtype is Dtype.FP16 and largest >= LARGEST_HALF:
        return f"overflow: it reaches {largest:.4g}, and float16 ends at 65504"
    if any(np.isnan(value).any() for value in values):
        return "gives NaN: a constant that it takes holds NaN, or it divides zero by zero"
    if largest == float("inf"):
        return "overflow: it reaches infinity"
    return None


def _identical(first: NDArray[Any], second: NDArray[Any]) -> bool:
    return first.shape == second.shape and first.dtype == second.dtype and bool(np.array_equal(first, second))


def _order(value: NDArray[Any], right: NDArray[Any], tolerance: float) -> str | None:
    """The places along the first axis that changed, if the one is the other with them exchanged."""
    count = len(value)
    if count < 2:
        return None
    a, b = value.reshape(count, -1).astype(np.float64), right.reshape(count, -1).astype(np.float64)
    scale = max(float(np.linalg.norm(b)), 1e-300) / count**0.5
    moved = np.flatnonzero(np.linalg.norm(a - b, axis=1) > tolerance * scale)
    if not 2 <= len(moved) <= 4096:
        return None
    taken: list[int] = []
    for place in moved:
        distances = np.linalg.norm(b[moved] - a[place], axis=1)
        nearest = int(distances.argmin())
        if not distances[nearest] <= tolerance * scale:
            return None
        taken.append(int(moved[nearest]))
    if sorted(taken) != moved.tolist():
        return None
    some = ", ".join(f"{int(a)} is {b}" for a, b in zip(moved[:_NAMED], taken, strict=False))
    return some + (" …" if len(moved) > _NAMED else "")


def _factor(value: Float64, right: Float64) -> float | None:
    square = float((right * right).sum())
    factor = float((value * right).sum()) / square if square else 0.0
    remainder = float(np.linalg.norm(value - factor * right))
    explained = remainder <= _UNEXPLAINED * abs(factor - 1) * square**0.5
    return factor if factor != 1 and abs(factor) > _CLOSE and explained else None


def _clipped(pairs: _Pairs) -> str | None:
    top = max(float(pair.value.max()) for pair in pairs)
    if not any((pair.right > top).any() for pair in pairs):
        return None
    if all(pair.near(pair.value, np.minimum(pair.right, top)) for pair in pairs):
        return f"clipped at {top:.4g}"
    return None


def _rectified(pairs: _Pairs) -> str | None:
    if all(pair.near(np.maximum(pair.value, 0), pair.right) for pair in pairs):
        return "a ReLU is missing"
    if all(pair.near(pair.value, np.maximum(pair.right, 0)) for pair in pairs):
        return "a ReLU too many"
    return None


def _reordered(pairs: _Pairs) -> str | None:
    if not all(pair.near(np.sort(pair.value, axis=None), np.sort(pair.right, axis=None)) for pair in pairs):
        return None
    value, right = pairs[0].value, pairs[0].right
    if value.ndim >= 2 and (order := _order(np.moveaxis(value, 1, 0), np.moveaxis(right, 1, 0), _CLOSE)):
        return f"channels permuted: {order}"
    for first in range(value.ndim):
        for second in range(first + 1, value.ndim):
            same = value.shape[first] == value.shape[second] > 1
            if same and pairs[0].near(np.swapaxes(value, first, second), right):
                return f"axes {first} and {second} exchanged"
    return "the values are right, their order is not"


def _scaled(pairs: _Pairs) -> str | None:
    factors = [_factor(pair.value, pair.right) for pair in pairs]
    known = [factor for factor in factors if factor is not None]
    if len(known) != len(pairs) or max(known) - min(known) > 0.01 * abs(max(known) - 1):
        return None
    return f"scaled by {known[0]:.6g}: a scale is missing, doubled or wrong"


def _normalized(pairs: _Pairs) -> str | None:
    """A softmax sums to 1 along the axis that it is of."""

    def axes(value: Float64) -> set[int]:
        return {k for k in range(1, value.ndim) if value.shape[k] > 1 and np.abs(value.sum(axis=k) - 1).max() < _CLOSE}

    is_of, should = axes(pairs[0].value), axes(pairs[0].right)
    if is_of and should and is_of.isdisjoint(should):
        return f"sums to 1 along axis {min(is_of)} in place of axis {min(should)}: softmax over the wrong axis"
    return None


def _shifted(pairs: _Pairs) -> str | None:
    """The same picture a pixel off."""
    pair = pairs[0]
    if pair.value.ndim != 4 or min(pair.value.shape[2:]) < 4:
        return None
    for down, along in ((1, 0), (0, 1), (1, 1), (1, -1)):
        for sign in (1, -1):
            y, x = sign * down, sign * along
            if pair.near(_overlap(pair.value, y, x), _overlap(pair.right, -y, -x)):
                return f"shifted by ({y}, {x}) pixels: padding on the wrong side, or a crop that is off"
    return None


def _overlap(value: Float64, y: int, x: int) -> Float64:
    """What of a picture is left after a move by (y, x) pixels, its border of one pixel apart."""
    rows, columns = value.shape[2:]
    part: Float64 = value[:, :, max(y, 0) : rows + min(y, 0), max(x, 0) : columns + min(x, 0)][:, :, 1:-1, 1:-1]
    return part


def _channels(pairs: _Pairs) -> str | None:
    """Some channels only, or each by a constant of its own."""
    value, right = pairs[0].value, pairs[0].right
    if value.ndim < 2 or value.shape[1] < 2:
        return None
    a, b = (np.moveaxis(x, 1, 0).reshape(x.shape[1], -1) for x in (value, right))
    difference = a - b
    norms = np.linalg.norm(difference, axis=1)
    wrong = np.flatnonzero(norms > 0.01 * norms.max())
    if len(wrong) == 0:
        return None
    how = ""
    if a.shape[1] > 1:
        spread = difference[wrong].std(axis=1)
        if (spread <= 0.01 * np.abs(difference[wrong].mean(axis=1))).all():
            how = "by a constant each: biases are wrong or stale"
        elif all(_factor(a[i], b[i]) is not None for i in wrong):
            how = "by a factor each: a normalization or its scale is wrong"
    if len(wrong) <= _FEW * len(b):
        some = ", ".join(map(str, wrong[:_NAMED])) + (" …" if len(wrong) > _NAMED else "")
        return f"{len(wrong)} of {len(b)} channels are off ({some}){f', {how}' if how else ''}"
    return f"{len(wrong)} of {len(b)} channels are off {how}" if how else None


def _constant(pairs: _Pairs) -> str | None:
    """Off by the same whatever the image."""
    differences = [pair.value - pair.right for pair in pairs if pair.value.ndim]
    off = np.concatenate(differences) if differences else np.zeros(0)
    if len(off) < 2:
        return None
    same = float(np.linalg.norm(off - off.mean(axis=0))) <= _UNEXPLAINED * float(np.linalg.norm(off))
    return "off by the same on every image: a bias or another constant is wrong or stale" if same else None


def _border(pairs: _Pairs) -> str | None:
    """Right within, wrong along the edges."""
    if pairs[0].value.ndim != 4 or min(pairs[0].value.shape[2:]) < 5:
        return None
    inner = (slice(None), slice(None), slice(2, -2), slice(2, -2))
    if all(pair.near(pair.value[inner], pair.right[inner]) for pair in pairs):
        return "right within, wrong along the edges: padding"
    return None
