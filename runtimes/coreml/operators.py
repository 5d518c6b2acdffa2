"""What each MIL operation computes, in torch. Source: the op definitions in coremltools' documentation of `mb`.

A function's parameters are the operation's inputs by name; what the file leaves out has the default of the
specification. Tensors come as torch tensors in the arithmetic of the evaluation, everything else as Python values.
The evaluator refuses an input without a parameter here, so that nothing in a file is ignored.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from runtimes.evaluator.evaluator import BadOperand, Language
from runtimes.evaluator.shared import cut, gathered, same_padding, unsqueezed

Ints = Sequence[int]


def _conv(  # noqa: PLR0917 - MIL's operands, called by name
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    strides: Ints = (1, 1),
    pad_type: str = "valid",
    pad: Ints = (0, 0, 0, 0),
    dilations: Ints = (1, 1),
    groups: int = 1,
) -> Tensor:
    """(N, C, H, W), (O, C / groups, kH, kW) -> (N, O, H', W')."""
    if x.dim() != 4:
        raise BadOperand(f"a convolution over {x.dim() - 2} axes")
    padded = functional.pad(x, _padding(x, weight.shape[2:], strides, pad_type, pad, dilations))
    return functional.conv2d(padded, weight, bias, tuple(strides), 0, tuple(dilations), groups)


def _padding(x: Tensor, kernel: Ints, strides: Ints, pad_type: str, pad: Ints, dilations: Ints) -> list[int]:
    """In torch's order: left, right, top, bottom."""
    if pad_type == "valid":
        return [0, 0, 0, 0]
    if pad_type == "custom":
        top, bottom, left, right = pad
        return [left, right, top, bottom]
    if pad_type not in ("same", "same_lower"):
        raise BadOperand(f"pad_type {pad_type!r}")
    result: list[int] = []
    for size, k, stride, dilation in zip(x.shape[:1:-1], kernel[::-1], strides[::-1], dilations[::-1], strict=True):
        small, large = same_padding(size, k, stride, dilation)
        result += [large, small] if pad_type == "same_lower" else [small, large]
    return result


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """(..., in), (out, in) -> (..., out)."""
    return functional.linear(x, weight, bias)


def _matmul(x: Tensor, y: Tensor, transpose_x: bool = False, transpose_y: bool = False) -> Tensor:
    return (x.mT if transpose_x else x) @ (y.mT if transpose_y else y)


def _reduce_mean(x: Tensor, axes: Ints | None = None, keep_dims: bool = False) -> Tensor:
    return x.mean(tuple(range(x.dim())) if axes is None else tuple(axes), keepdim=keep_dims)


def _reshape(x: Tensor, shape: Ints) -> Tensor:
    """0 keeps the dimension of the same place, counted from the right; -1 takes what is left."""
    kept = (*[1] * len(shape), *x.shape)[-len(shape) :] if shape else ()
    return x.reshape([old if size == 0 else size for old, size in zip(kept, shape, strict=True)])


def _split(x: Tensor, axis: int, num_splits: int | None = None, split_sizes: Ints | None = None) -> tuple[Tensor, ...]:
    if split_sizes is None:
        if num_splits is None:
            raise BadOperand("neither num_splits nor split_sizes")
        if x.shape[axis] % num_splits:
            raise BadOperand(f"{num_splits} equal parts of {x.shape[axis]}")
        return tuple(x.tensor_split(num_splits, axis))
    return tuple(x.split(tuple(split_sizes), axis))


def _concat(values: Tensor | Sequence[Tensor], axis: int, interleave: bool = False) -> Tensor:
    """Of one tensor or several."""
    if interleave:
        raise BadOperand("interleave")
    return values if isinstance(values, Tensor) else torch.cat(tuple(values), axis)


def _cast(x: Tensor, dtype: str) -> Tensor:
    """Between floating-point types only; the rounding is the evaluation's business."""
    if dtype not in ("fp16", "fp32"):
        raise BadOperand(f"a cast to {dtype!r}")
    return x


def _squeeze(x: Tensor, axes: Ints | None = None) -> Tensor:
    return x.squeeze() if axes is None else x.squeeze(tuple(axes))


def _pad(x: Tensor, pad: Ints, mode: str = "constant", constant_val: Tensor | None = None) -> Tensor:
    """`pad`: before and after, for the last axes, outermost first."""
    if mode != "constant":
        raise BadOperand(f"mode {mode!r}")
    pairs = [pad[i : i + 2] for i in range(0, len(pad), 2)]
    value = 0.0 if constant_val is None else float(constant_val)
    return functional.pad(x, [int(size) for pair in reversed(pairs) for size in pair], value=value)


def _slice_by_index(
    x: Tensor,
    begin: Ints,
    end: Ints,
    stride: Ints | None = None,
    begin_mask: Sequence[bool] | None = None,
    end_mask: Sequence[bool] | None = None,
    squeeze_mask: Sequence[bool] | None = None,
) -> Tensor:
    rank = x.dim()
    steps, no = stride or [1] * rank, [False] * rank
    open_begin, open_end, squeeze = begin_mask or no, end_mask or no, squeeze_mask or no
    if any(step < 1 for step in steps):
        raise BadOperand("a stride below 1")
    index: list[int | slice] = []
    for i in range(rank):
        first = None if open_begin[i] else begin[i]
        index.append((first or 0) if squeeze[i] else slice(first, None if open_end[i] else end[i], steps[i]))
    return x[tuple(index)]


def _gather(
    x: Tensor, indices: int | Ints, axis: int = 0, batch_dims: int = 0, validate_indices: bool = False
) -> Tensor:
    """`validate_indices` is about what a device checks as it runs."""
    if batch_dims != 0:
        raise BadOperand(f"batch_dims {batch_dims}")
    return gathered(x, torch.tensor(indices, dtype=torch.int64), axis)


def _reverse(x: Tensor, axes: Ints | None = None) -> Tensor:
    for axis in range(x.dim()) if axes is None else axes:
        x = cut(x, axis, None, None, -1)
    return x


def _clip(x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    return x.clamp(float(alpha), float(beta))


def _sigmoid_hard(x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    return (x * alpha + beta).clamp(0, 1)


def _thresholded_relu(x: Tensor, alpha: Tensor) -> Tensor:
    return torch.where(x >= alpha, x, torch.zeros_like(x))


def _batch_norm(
    x: Tensor,
    mean: Tensor,
    variance: Tensor,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    epsilon: Tensor | float = 1e-5,
) -> Tensor:
    if x.dim() < 3 or x.shape[1] != mean.numel():
        raise BadOperand(f"normalization of {tuple(x.shape)} by {mean.numel()} means")
    return functional.batch_norm(x, mean, variance, gamma, beta, training=False, eps=float(epsilon))


def _layer_norm(
    x: Tensor,
    axes: Ints | None = None,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    epsilon: Tensor | float = 1e-5,
) -> Tensor:
    over = tuple(range(x.dim())) if axes is None else tuple(axis % x.dim() for axis in axes)
    if over != tuple(range(x.dim() - len(over), x.dim())):
        raise BadOperand(f"normalization over axes {over} of {x.dim()}")
    return functional.layer_norm(x, x.shape[-len(over) :], gamma, beta, float(epsilon))


def _scaled_dot_product_attention(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None) -> Tensor:
    return functional.scaled_dot_product_attention(query, key, value, attn_mask)


def _upsample_bilinear(
    x: Tensor,
    scale_factor_height: Tensor | float = 1,
    scale_factor_width: Tensor | float = 1,
    align_corners: bool = True,
    half_pixel_centers: bool | None = None,
) -> Tensor:
    """As in torch: half-pixel centers where the corners are not aligned."""
    if half_pixel_centers is not None and half_pixel_centers == align_corners:
        raise BadOperand(f"align_corners {align_corners} with half_pixel_centers {half_pixel_centers}")
    size = [int(x.shape[2] * float(scale_factor_height)), int(x.shape[3] * float(scale_factor_width))]
    return functional.interpolate(x, size=size, mode="bilinear", align_corners=align_corners)


def _classify(probabilities: Tensor, classes: list[str]) -> tuple[str, dict[str, float]]:
    """The most probable class, and the probability of each."""
    flat = probabilities.flatten()
    if len(classes) != len(flat) or len(set(classes)) != len(classes):
        raise BadOperand(f"{len(set(classes))} different labels for {len(flat)} classes")
    return classes[int(flat.argmax())], dict(zip(classes, flat.tolist(), strict=True))


OPERATORS: Mapping[str, Callable[..., Any]] = {
    "add": lambda x, y: x + y,
    "batch_norm": _batch_norm,
    "cast": _cast,
    "classify": _classify,
    "clip": _clip,
    "concat": _concat,
    "conv": _conv,
    "expand_dims": unsqueezed,
    "gather": _gather,
    "identity": lambda x: x,
    "layer_norm": _layer_norm,
    "linear": _linear,
    "matmul": _matmul,
    "mul": lambda x, y: x * y,
    "pad": _pad,
    "reduce_mean": _reduce_mean,
    "relu": lambda x: x.relu(),
    "relu6": lambda x: x.clamp(0, 6),
    "reshape": _reshape,
    "reverse": _reverse,
    "scaled_dot_product_attention": _scaled_dot_product_attention,
    "sigmoid": lambda x: x.sigmoid(),
    "sigmoid_hard": _sigmoid_hard,
    "silu": lambda x: x * x.sigmoid(),
    "slice_by_index": _slice_by_index,
    "softmax": lambda x, axis=-1: x.softmax(axis),
    "split": _split,
    "squeeze": _squeeze,
    "sub": lambda x, y: x - y,
    "thresholded_relu": _thresholded_relu,
    "transpose": lambda x, perm: x.permute(tuple(perm)),
    "upsample_bilinear": _upsample_bilinear,
}
"""By MIL's name. `split` and `classify` have several outputs, the others one."""

MIL = Language(OPERATORS, "f")
"""Integers are Python values here: axes, shapes and sizes."""
