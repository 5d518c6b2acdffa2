"""Reductions, and normalizations by mean and variance."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from runtimes.evaluator.operands import ints, require
from runtimes.evaluator.shared import batch_normalized, by_channel, product, total


def _reduction(compute: Callable[[Tensor, list[int], bool], Tensor]) -> Callable[..., Tensor]:
    """Over one axis or several."""

    def reduce(x: Tensor, axes: Tensor, keep_dims: bool) -> Tensor:
        over = ints(axes)
        require(bool(over), "a reduction over no axes")
        return compute(x, over, keep_dims)

    return reduce


def _mean_variance(x: Tensor, axes: Tensor, normalize_variance: bool, eps: float, eps_mode: str) -> Tensor:
    over = ints(axes)
    centered = x - x.mean(over, keepdim=True)
    if not normalize_variance:
        return centered
    variance = (centered * centered).mean(over, keepdim=True)
    if eps_mode == "INSIDE_SQRT":
        return centered * torch.rsqrt(variance + eps)
    require(eps_mode == "OUTSIDE_SQRT", f"eps_mode {eps_mode}")
    return centered / (variance.sqrt() + eps)


def _by_length(x: Tensor, axes: Tensor, eps: float, eps_mode: str) -> Tensor:
    over = ints(axes)
    require(bool(over), "lengths over no axes")
    squares = (x * x).sum(over, keepdim=True)
    if eps_mode == "add":
        return x / (squares + eps).sqrt()
    require(eps_mode == "max", f"eps_mode {eps_mode}")
    return x / squares.clamp(min=eps).sqrt()


def _group(x: Tensor, scale: Tensor, bias: Tensor, num_groups: int, epsilon: float) -> Tensor:
    grouped = x.reshape(x.shape[0], num_groups, -1)
    normal = functional.layer_norm(grouped, grouped.shape[2:], None, None, epsilon).reshape(x.shape)
    return normal * by_channel(scale, x) + by_channel(bias, x)


OPERATORS: Mapping[str, Callable[..., Any]] = {
    "BatchNormInference": lambda x, gamma, beta, mean, variance, epsilon: batch_normalized(
        x, gamma, beta, mean, variance, epsilon
    ),
    "GroupNormalization": _group,
    "MVN": _mean_variance,
    "NormalizeL2": _by_length,
    "ReduceL1": _reduction(lambda x, axes, keep: total(x.abs(), axes, keep)),
    "ReduceL2": _reduction(lambda x, axes, keep: total(x * x, axes, keep).sqrt()),
    "ReduceMax": _reduction(lambda x, axes, keep: x.amax(axes, keepdim=keep)),
    "ReduceMean": _reduction(lambda x, axes, keep: x.mean(axes, keepdim=keep)),
    "ReduceMin": _reduction(lambda x, axes, keep: x.amin(axes, keepdim=keep)),
    "ReduceProd": _reduction(product),
    "ReduceSum": _reduction(total),
}
