"""Reductions, and normalizations by mean and variance."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from runtimes.evaluator.operands import Ints, ints, require
from runtimes.evaluator.shared import batch_normalized, by_channel, product, total


def _reduction(compute: Callable[[Tensor, list[int], bool], Tensor], *, plain: bool = True) -> Callable[..., Tensor]:
    """Over `axes`, or over all of them. `plain`: over no axis at all it changes nothing."""

    def reduce(x: Tensor, keepdims: int, axes: Ints | None = None, noop_with_empty_axes: int = 0) -> Tensor:
        over = [] if axes is None else ints(axes)
        if not over and noop_with_empty_axes:
            require(plain, "a reduction over no axes")
            return x
        return compute(x, over or list(range(x.dim())), bool(keepdims))

    return reduce


def _arg(find: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def arg(x: Tensor, axis: int, keepdims: int, select_last_index: int = 0) -> Tensor:
        require(not select_last_index, "select_last_index")
        return find(x, axis, bool(keepdims))

    return arg


def _batch(  # noqa: PLR0917 - in the order of the specification
    x: Tensor,
    scale: Tensor,
    b: Tensor,
    mean: Tensor,
    var: Tensor,
    epsilon: float,
    momentum: float,
    training_mode: int = 0,
) -> Tensor:
    """By the mean and variance given; `momentum` is of training."""
    require(not training_mode, "training_mode")
    return batch_normalized(x, scale, b, mean, var, epsilon)


def layer(
    x: Tensor, scale: Tensor, epsilon: float, axis: int = -1, b: Tensor | None = None, stash_type: int = 1
) -> Tensor:
    """Over the axes from `axis` on. `stash_type`: the format of the mean and the variance, float32."""
    require(stash_type == 1, f"stash_type {stash_type}")
    result = functional.layer_norm(x, x.shape[axis % x.dim() :], None, None, epsilon) * scale
    return result if b is None else result + b


def rms(x: Tensor, scale: Tensor, epsilon: float, axis: int = -1, stash_type: int = 1) -> Tensor:
    """Over the axes from `axis` on, without subtracting the mean."""
    require(stash_type == 1, f"stash_type {stash_type}")
    over = list(range(axis % x.dim(), x.dim()))
    return x * torch.rsqrt((x * x).mean(over, keepdim=True) + epsilon) * scale


def _instance(x: Tensor, scale: Tensor, b: Tensor, epsilon: float) -> Tensor:
    return functional.layer_norm(x, x.shape[2:], None, None, epsilon) * by_channel(scale, x) + by_channel(b, x)


def _group(x: Tensor, scale: Tensor, bias: Tensor, epsilon: float, num_groups: int, stash_type: int = 1) -> Tensor:
    """Scale and bias are of the channels, or, before opset 21, of the groups."""
    require(stash_type == 1, f"stash_type {stash_type}")
    grouped = x.reshape(x.shape[0], num_groups, -1)
    normal = functional.layer_norm(grouped, grouped.shape[2:], None, None, epsilon)
    if scale.numel() != x.shape[1]:
        return (normal * scale.reshape(1, -1, 1) + bias.reshape(1, -1, 1)).reshape(x.shape)
    return normal.reshape(x.shape) * by_channel(scale, x) + by_channel(bias, x)


def _by_length(x: Tensor, axis: int, p: int) -> Tensor:
    require(p in (1, 2), f"p {p}")
    length = x.abs().sum(axis, keepdim=True) if p == 1 else (x * x).sum(axis, keepdim=True).sqrt()
    return torch.where(length == 0, torch.zeros_like(x), x / length)


def _dropout(x: Tensor, ratio: Tensor | float = 0.5, training_mode: Tensor | None = None, seed: int = 0) -> Tensor:
    """In inference, where it does nothing."""
    require(training_mode is None or not bool(training_mode), "training_mode")
    return x


OPERATORS: Mapping[str, Callable[..., Any]] = {
    "ArgMax": _arg(torch.argmax),
    "ArgMin": _arg(torch.argmin),
    "BatchNormalization": _batch,
    "Dropout": _dropout,
    "GroupNormalization": _group,
    "InstanceNormalization": _instance,
    "LayerNormalization": layer,
    "LpNormalization": _by_length,
    "RMSNormalization": rms,
    "ReduceL1": _reduction(lambda x, axes, keep: total(x.abs(), axes, keep), plain=False),
    "ReduceL2": _reduction(lambda x, axes, keep: total(x * x, axes, keep).sqrt(), plain=False),
    "ReduceLogSumExp": _reduction(lambda x, axes, keep: x.logsumexp(axes, keep), plain=False),
    "ReduceMax": _reduction(lambda x, axes, keep: x.amax(axes, keepdim=keep)),
    "ReduceMean": _reduction(lambda x, axes, keep: x.mean(axes, keepdim=keep)),
    "ReduceMin": _reduction(lambda x, axes, keep: x.amin(axes, keepdim=keep)),
    "ReduceProd": _reduction(product),
    "ReduceSum": _reduction(total),
    "ReduceSumSquare": _reduction(lambda x, axes, keep: total(x * x, axes, keep), plain=False),
}
