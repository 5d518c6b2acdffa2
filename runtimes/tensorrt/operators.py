"""What each TensorRT layer computes, in torch. Source: NVIDIA's documentation of the layers and their enumerations.

As in runtimes/coreml/operators.py a function's parameters are the layer's operands and attributes by name, and the
evaluator refuses what has no parameter here. Tensors come as torch tensors, floating-point ones in the arithmetic of
the evaluation, attributes as Python values.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from runtimes.evaluator.evaluator import BadOperand, Language
from runtimes.evaluator.field.sizes import extents, sizes
from runtimes.evaluator.operands import Ints, ints
from runtimes.evaluator.quantization import dequantize, quantize
from runtimes.evaluator.shared import gathered, unsqueezed


def _convolution(  # noqa: PLR0917 - TensorRT's operands and attributes, called by name
    x: Tensor,
    kernel: Tensor,
    stride: Ints,
    before: Ints,
    after: Ints,
    dilation: Ints,
    groups: int,
    bias: Tensor | None = None,
) -> Tensor:
    """(N, C, H, W), (O, C / groups, kH, kW) -> (N, O, H', W'); padding before and after as (H, W)."""
    if x.dim() != 4:
        raise BadOperand(f"a convolution over {x.dim() - 2} axes")
    (top, left), (bottom, right) = ints(before), ints(after)
    if (top, left) == (bottom, right):
        return functional.conv2d(x, kernel, bias, ints(stride), (top, left), ints(dilation), groups)
    padded = functional.pad(x, [left, right, top, bottom])
    return functional.conv2d(padded, kernel, bias, ints(stride), 0, ints(dilation), groups)


def _activation(x: Tensor, function: str, alpha: float, beta: float) -> Tensor:
    if function not in _ACTIVATIONS:
        raise BadOperand(f"activation {function}")
    return _ACTIVATIONS[function](x, alpha, beta)


_ACTIVATIONS: Mapping[str, Callable[[Tensor, float, float], Tensor]] = {
    "RELU": lambda x, _, __: x.relu(),
    "SIGMOID": lambda x, _, __: x.sigmoid(),
    "TANH": lambda x, _, __: x.tanh(),
    "CLIP": lambda x, alpha, beta: x.clamp(alpha, beta),
    "HARD_SIGMOID": lambda x, alpha, beta: (alpha * x + beta).clamp(0, 1),
    "LEAKY_RELU": lambda x, alpha, _: torch.where(x >= 0, x, alpha * x),
    "GELU_ERF": lambda x, _, __: functional.gelu(x),
}


def _elementwise(x: Tensor, y: Tensor, op: str) -> Tensor:
    if op not in _ELEMENTWISE:
        raise BadOperand(f"elementwise {op}")
    if x.dim() != y.dim():
        raise BadOperand(f"operands of ranks {x.dim()} and {y.dim()}")
    return _ELEMENTWISE[op](x, y)


_ELEMENTWISE: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "SUM": torch.add,
    "PROD": torch.mul,
    "SUB": torch.sub,
    "DIV": lambda x, y: x / y if x.is_floating_point() else torch.div(x, y, rounding_mode="trunc"),
    "FLOOR_DIV": lambda x, y: torch.div(x, y, rounding_mode="floor"),
    "MAX": torch.maximum,
    "MIN": torch.minimum,
    "POW": torch.pow,
    "EQUAL": torch.eq,
    "LESS": torch.lt,
    "GREATER": torch.gt,
    "AND": torch.logical_and,
    "OR": torch.logical_or,
}


def _unary(x: Tensor, op: str) -> Tensor:
    if op not in _UNARY:
        raise BadOperand(f"unary {op}")
    return _UNARY[op](x)


_UNARY: Mapping[str, Callable[[Tensor], Tensor]] = {
    "EXP": torch.exp,
    "SQRT": torch.sqrt,
    "RECIP": torch.reciprocal,
    "ABS": torch.abs,
    "NEG": torch.neg,
    "ERF": torch.erf,
    "NOT": torch.logical_not,
}


def _slice(
    x: Tensor, start: Ints, size: Ints, stride: Ints, axes: Ints | None = None, fill: Tensor | float | None = None
) -> Tensor:
    """What lies beyond the tensor is `fill`; without one nothing may."""
    chosen = list(range(x.dim())) if axes is None else ints(axes)
    index: list[slice] = [slice(None)] * x.dim()
    counts = ints(extents(x, size, chosen))
    for axis, first, count, step in zip(chosen, ints(start), counts, ints(stride), strict=True):
        if fill is not None and step > 0 and count > 0:
            x, first = _filled(x, axis, first, first + (count - 1) * step, fill)  # noqa: PLW2901
        if step < 1 or first < 0 or count < 0 or first + (count - 1) * step >= x.shape[axis]:
            raise BadOperand(f"{count} from {first} by {step} of {x.shape[axis]}")
        index[axis] = slice(first, first + count * step, step)
    return x[tuple(index)]


def _filled(x: Tensor, axis: int, first: int, last: int, fill: Tensor | float) -> tuple[Tensor, int]:
    """With `fill` on both sides of an axis, so that `first` to `last` are within; and where `first` is then."""
    before, after = max(0, -first), max(0, last + 1 - x.shape[axis])
    inner = [0, 0] * (x.dim() - 1 - axis)
    return functional.pad(x, [*inner, before, after], value=float(fill)), first + before


def _shuffle(
    x: Tensor,
    zero_keeps: bool,
    first: Ints | None = None,
    shape: Ints | None = None,
    second: Ints | None = None,
) -> Tensor:
    """Transpose, reshape, transpose; 0 keeps a dimension or is a size of zero, -1 takes what is left."""
    if first is not None:
        x = x.permute(ints(first))
    if shape is not None:
        sizes = [x.shape[axis] if size == 0 and zero_keeps else size for axis, size in enumerate(ints(shape))]
        x = x.reshape(sizes)
    return x if second is None else x.permute(ints(second))


def _matrix_multiply(x: Tensor, y: Tensor, first: str, second: str) -> Tensor:
    if not {first, second} <= {"NONE", "TRANSPOSE"}:
        raise BadOperand(f"operations {first} and {second}")
    if x.dim() != y.dim():
        raise BadOperand(f"operands of ranks {x.dim()} and {y.dim()}")
    return (x.mT if first == "TRANSPOSE" else x) @ (y.mT if second == "TRANSPOSE" else y)


def _softmax(x: Tensor, axes: Ints) -> Tensor:
    (axis,) = ints(axes)
    return x.softmax(axis)


def _reduce(x: Tensor, op: str, axes: Ints, keep: bool) -> Tensor:
    if op not in _REDUCTIONS:
        raise BadOperand(f"reduction {op}")
    return _REDUCTIONS[op](x, tuple(ints(axes)), keep)


_REDUCTIONS: Mapping[str, Callable[[Tensor, tuple[int, ...], bool], Tensor]] = {
    "AVG": lambda x, axes, keep: x.mean(axes, keepdim=keep),
    "SUM": lambda x, axes, keep: x.sum(axes, keepdim=keep),
    "MAX": lambda x, axes, keep: x.amax(axes, keepdim=keep),
}


def _cast(x: Tensor, to: str) -> Tensor:
    """To another width of float the rounding is the evaluation's business; integers are cut off."""
    if to in ("fp32", "fp16", "bf16"):
        return x if x.is_floating_point() else x.float()
    if to not in _INTEGERS:
        raise BadOperand(f"a cast to {to}")
    return x.to(_INTEGERS[to])


_INTEGERS = {"int32": torch.int32, "int64": torch.int64, "bool": torch.bool}


def _quantize(x: Tensor, scale: Tensor, axis: int, zero: Tensor | None = None) -> Tensor:
    """To int8. TensorRT's zero point is zero."""
    _require_symmetric(zero)
    return quantize(x, scale, None, -128, 127, axis)


def _dequantize(x: Tensor, scale: Tensor, axis: int, zero: Tensor | None = None) -> Tensor:
    _require_symmetric(zero)
    return dequantize(x, scale, None, axis)


def _require_symmetric(zero: Tensor | None) -> None:
    if zero is not None and bool(zero.any()):
        raise BadOperand("a zero point that is not zero")


def _normalization(x: Tensor, scale: Tensor, bias: Tensor, axes: Ints, epsilon: float) -> Tensor:
    over = ints(axes)
    if over != list(range(x.dim() - len(over), x.dim())):
        raise BadOperand(f"normalization over axes {over} of {x.dim()}")
    return functional.layer_norm(x, x.shape[-len(over) :], None, None, epsilon) * scale + bias


def _resize(x: Tensor, size: Ints) -> Tensor:
    height, width = ints(size)[-2:]
    return functional.interpolate(x, (height, width), mode="bilinear", align_corners=False)


OPERATORS: Mapping[str, Callable[..., Any]] = {
    "activation": _activation,
    "cast": _cast,
    "concatenation": lambda values, axis: torch.cat(tuple(values), axis),
    "convolution": _convolution,
    "dequantize": _dequantize,
    "elementwise": _elementwise,
    "gather": gathered,
    "identity": lambda x: x,
    "matrix_multiply": _matrix_multiply,
    "normalization": _normalization,
    "quantize": _quantize,
    "reduce": _reduce,
    "resize": _resize,
    "shape": sizes,
    "shuffle": _shuffle,
    "slice": _slice,
    "softmax": _softmax,
    "squeeze": lambda x, axes: x.squeeze(tuple(ints(axes))),
    "unary": _unary,
    "unsqueeze": unsqueezed,
}

LAYERS = Language(OPERATORS, "fiub")
"""Integers are tensors here: int8 weights, and the arithmetic on shapes of a dynamic batch."""
