"""Resize: along every axis a linear map, whose matrix follows from the sizes alone."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from runtimes.evaluator.evaluator import BadOperand
from runtimes.evaluator.operands import Ints, ints, require

_NEAREST: Mapping[str, Callable[[float], int]] = {
    "round_prefer_floor": lambda at: math.ceil(at - 0.5),
    "round_prefer_ceil": lambda at: math.floor(at + 0.5),
    "floor": math.floor,
    "ceil": math.ceil,
}


def _places(count: int, size: int, scale: float, mode: str) -> list[float]:
    """Where each of the `count` results lies among the `size` values."""
    if mode == "half_pixel" or (mode == "pytorch_half_pixel" and count > 1):
        return [(index + 0.5) / scale - 0.5 for index in range(count)]
    if mode == "pytorch_half_pixel":
        return [0.0]
    if mode == "asymmetric":
        return [index / scale for index in range(count)]
    if mode == "align_corners":
        require(abs(scale * size - count) < 1e-3, f"corners aligned by a scale of {scale} for {size}")
        return [index * (size - 1) / (count - 1) if count > 1 else 0.0 for index in range(count)]
    raise BadOperand(f"coordinate_transformation_mode {mode}")


def _linear(part: float, _: float) -> list[float]:
    return [0, 1 - part, part, 0]


def _cubic(part: float, a: float) -> list[float]:
    """The weights of the two values before and the two behind. Source: Keys, 1981."""

    def near(t: float) -> float:
        return ((a + 2) * t - (a + 3)) * t * t + 1

    def far(t: float) -> float:
        return ((a * t - 5 * a) * t + 8 * a) * t - 4 * a

    return [far(1 + part), near(part), near(1 - part), far(2 - part)]


_WEIGHTS: Mapping[str, Callable[[float, float], list[float]]] = {"linear": _linear, "cubic": _cubic}


def _matrix(places: Sequence[float], size: int, weights: Callable[[float], list[float]]) -> Tensor:
    """(size, results), beyond the edges the values at the edges."""
    matrix = torch.zeros((size, len(places)), dtype=torch.float64)
    for index, place in enumerate(places):
        first = math.floor(place)
        for offset, weight in enumerate(weights(place - first), start=-1):
            matrix[min(max(first + offset, 0), size - 1), index] += weight
    return matrix


def resize(  # noqa: PLR0913, PLR0917 - in the order of the specification
    x: Tensor,
    coordinate_transformation_mode: str,
    mode: str,
    nearest_mode: str,
    cubic_coeff_a: float,
    exclude_outside: int,
    extrapolation_value: float,
    roi: Tensor | None = None,
    scales: Tensor | None = None,
    sizes: Tensor | None = None,
    antialias: int = 0,
    axes: Ints | None = None,
    keep_aspect_ratio_policy: str = "stretch",
) -> Tensor:
    """`roi`, `extrapolation_value`: of a coordinate_transformation_mode that is not supported."""
    require(not antialias and not exclude_outside, f"antialias {antialias}, exclude_outside {exclude_outside}")
    require(keep_aspect_ratio_policy == "stretch", f"keep_aspect_ratio_policy {keep_aspect_ratio_policy}")
    chosen = [axis % x.dim() for axis in (range(x.dim()) if axes is None else ints(axes))]
    if sizes is not None and sizes.numel():
        counts = ints(sizes)
        factors = [count / x.shape[axis] for axis, count in zip(chosen, counts, strict=True)]
    else:
        require(scales is not None and scales.numel() == len(chosen), "neither sizes nor scales")
        factors = [] if scales is None else [float(factor) for factor in scales]
        counts = [math.floor(x.shape[axis] * factor) for axis, factor in zip(chosen, factors, strict=True)]
    for axis, count, factor in zip(chosen, counts, factors, strict=True):
        size = x.shape[axis]
        if count == size and factor == 1:
            continue
        places = _places(count, size, factor, coordinate_transformation_mode)
        if mode == "nearest":
            require(nearest_mode in _NEAREST, f"nearest_mode {nearest_mode}")
            nearest = [min(max(_NEAREST[nearest_mode](place), 0), size - 1) for place in places]
            x = x.index_select(axis, torch.tensor(nearest))
        else:
            require(mode in _WEIGHTS and x.is_floating_point(), f"mode {mode} of {x.dtype}")
            matrix = _matrix(places, size, lambda part: _WEIGHTS[mode](part, cubic_coeff_a)).to(x.dtype)
            x = torch.matmul(x.movedim(axis, -1), matrix).movedim(-1, axis)
    return x


OPERATORS: Mapping[str, Callable[..., Any]] = {"Resize": resize}
