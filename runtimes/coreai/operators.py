"""What each Core AI operation computes, in torch. Source: the operations' documentation in coreai-core's dialect.

A function's parameters are the operation's operands in order, and after them its attributes by name. Floating-point
tensors come as torch tensors in the arithmetic of the evaluation, integers that are constants (axes, sizes) as Python
values. The evaluator refuses an operand or an attribute without a parameter here.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from runtimes.evaluator.evaluator import BadOperand, Language
from runtimes.evaluator.shared import unsqueezed

Ints = Sequence[int]

_FLOATS = ("fp16", "bf16", "fp32", "fp64")
_INTEGERS = {"int8": torch.int8, "uint8": torch.uint8, "int16": torch.int16, "int32": torch.int32, "bool": torch.bool}


def _conv2d(x: Tensor, weight: Tensor, stride: Ints, dilation: Ints, groups: int) -> Tensor:
    """(N, C, H, W), (O, C / groups, kH, kW) -> (N, O, H', W'), of what `pad` has padded."""
    return functional.conv2d(x, weight, None, tuple(stride), 0, tuple(dilation), groups)


def _pad(x: Tensor, padding: Ints, padding_value: Tensor, padding_mode: str) -> Tensor:
    """`padding`: before and after, from the first axis on."""
    if padding_mode != "constant":
        raise BadOperand(f"padding_mode {padding_mode}")
    pairs = [padding[i : i + 2] for i in range(0, len(padding), 2)]
    return functional.pad(x, [size for pair in reversed(pairs) for size in pair], value=float(padding_value))


def _cast(x: Tensor, dtype: str) -> Tensor:
    """Between floating-point types only their rounding differs, which is the evaluation's business."""
    if dtype in _FLOATS:
        return x if x.is_floating_point() else x.to(torch.float64)
    if dtype not in _INTEGERS:
        raise BadOperand(f"a cast to {dtype}")
    return x.to(_INTEGERS[dtype])


def _split(x: Tensor, split_size_or_sections: int | Ints, dim: int) -> tuple[Tensor, ...]:
    """Into parts of one size, the last one smaller, or of the sizes that are listed."""
    sizes = split_size_or_sections
    return tuple(x.split(sizes if isinstance(sizes, int) else list(sizes), dim))


def _slice(x: Tensor, start_indices: Ints, end_indices: Ints, strides: Ints) -> Tensor:
    if any(step < 1 for step in strides):
        raise BadOperand("a stride below 1")
    return x[tuple(map(slice, start_indices, end_indices, strides))]


def _max_pool_2d(
    x: Tensor,
    kernel_size: Ints,
    stride: Ints,
    dilation: Ints,
    ceil_mode: int = 0,
) -> Tensor:
    return functional.max_pool2d(x, tuple(kernel_size), tuple(stride), 0, tuple(dilation), bool(ceil_mode))


def _where(condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return torch.where(condition, a, b)


def _gelu(x: Tensor, approximate: str = "none") -> Tensor:
    if approximate not in ("none", "tanh"):
        raise BadOperand(f"approximate {approximate}")
    return functional.gelu(x, approximate=approximate)


def _shrunk(x: Tensor, axes: Ints) -> Tensor:
    return x.squeeze(tuple(axes))


def _over(reduce: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A reduction, whose axes always stay in the result."""

    def reduced(x: Tensor, axes: Ints) -> Tensor:
        return reduce(x, tuple(axes), keepdim=True)

    return reduced


_ARITHMETIC: Mapping[str, Callable[[Any, Any], Any]] = {
    "add": lambda x, other: x + other,
    "sub": lambda x, other: x - other,
    "mul": lambda x, other: x * other,
    "divide": lambda x, other: x / other,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "pow": torch.pow,
}


def _two(compute: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    """An operation of two operands; those called `broadcasting_` and those of one shape compute the same."""

    def computed(x: Tensor, other: Tensor) -> Any:
        return compute(x, other)

    return computed


OPERATORS: Mapping[str, Callable[..., Any]] = {
    **{name: _two(compute) for name, compute in _ARITHMETIC.items()},
    **{f"broadcasting_{name}": _two(compute) for name, compute in _ARITHMETIC.items()},
    "abs": lambda x: x.abs(),
    "batch_matmul": lambda x, y: x @ y,
    "broadcast_to": lambda x, shape: x.expand(tuple(shape)),
    "broadcasting_batch_matmul": lambda x, y: x @ y,
    "broadcasting_where": _where,
    "cast": _cast,
    "concat": lambda dimension, inputs: torch.cat(tuple(inputs), dimension),
    "conv2d": _conv2d,
    "erf": lambda x: x.erf(),
    "exp": lambda x: x.exp(),
    "expand_dims": unsqueezed,
    "gelu": _gelu,
    "identity": lambda x: x,
    "log": lambda x: x.log(),
    "max_pool_2d": _max_pool_2d,
    "pad": _pad,
    "reduce_max": _over(torch.amax),
    "reduce_mean": _over(torch.mean),
    "reduce_min": _over(torch.amin),
    "reduce_sum": _over(torch.sum),
    "relu": lambda x: x.relu(),
    "reshape": lambda x, new_shape: x.reshape(tuple(new_shape)),
    "rsqrt": lambda x: x.rsqrt(),
    "shrink_dims": _shrunk,
    "sigmoid": lambda x: x.sigmoid(),
    "silu": lambda x: x * x.sigmoid(),
    "slice": _slice,
    "softmax": lambda x, axis: x.softmax(axis),
    "split": _split,
    "sqrt": lambda x: x.sqrt(),
    "tanh": lambda x: x.tanh(),
    "transpose": lambda x, permutation: x.permute(tuple(permutation)),
}
"""By the dialect's names, without what stands before the last dot. `split` has several outputs."""

CORE_AI = Language(OPERATORS, "fb")
"""Integers are Python values here: axes, shapes and sizes. Truth values may be masks."""
