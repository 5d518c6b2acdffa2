"""Arithmetic, comparisons, activations, matrix products and casts."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from runtimes.evaluator.evaluator import BadOperand
from runtimes.evaluator.operands import require

SIXTH = float(np.float32(1 / 6))
"""HardSwish's slope, as the body of its function has it."""

_CASTS = {
    "int8": torch.int8,
    "uint8": torch.uint8,
    "int16": torch.int16,
    "int32": torch.int32,
    "int64": torch.int64,
    "bool": torch.bool,
}
_FLOATS = ("fp16", "bf16", "fp32", "fp64")


def _div(a: Tensor, b: Tensor) -> Tensor:
    """Of integers, cut off."""
    return a / b if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


def _mod(a: Tensor, b: Tensor, fmod: int) -> Tensor:
    """The sign of the divisor, or, with `fmod`, of the dividend."""
    return torch.fmod(a, b) if fmod else torch.remainder(a, b)


def _pow(x: Tensor, y: Tensor) -> Tensor:
    """In the type of the base."""
    return torch.pow(x, y).to(x.dtype)


def _clip(x: Tensor, least: Tensor | None = None, greatest: Tensor | None = None) -> Tensor:
    if least is None and greatest is None:
        return x
    return torch.clamp(x, min=least, max=greatest)


def _pick(choose: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    def pick(values: Sequence[Tensor]) -> Tensor:
        return functools.reduce(choose, values)

    return pick


def _mean(values: Sequence[Tensor]) -> Tensor:
    return functools.reduce(torch.add, values) / len(values)


def _prelu(x: Tensor, slope: Tensor) -> Tensor:
    return torch.where(x >= 0, x, slope * x)


def hard_sigmoid(x: Tensor, alpha: float, beta: float) -> Tensor:
    """clamp(alpha * x + beta, 0, 1)."""
    return (alpha * x + beta).clamp(0, 1)


def gelu(x: Tensor, approximate: str = "none") -> Tensor:
    """x * Phi(x), or its approximation by tanh."""
    require(approximate in ("none", "tanh"), f"Gelu by {approximate}")
    return functional.gelu(x, approximate=approximate)


def gemm(
    a: Tensor,
    b: Tensor,
    c: Tensor | None = None,
    alpha: float = 1.0,
    beta: float = 1.0,
    transa: int = 0,
    transb: int = 0,
) -> Tensor:
    """alpha * a @ b + beta * c."""
    product = (a.mT if transa else a) @ (b.mT if transb else b)
    if alpha != 1:
        product = alpha * product
    if c is None:
        return product
    return product + (c if beta == 1 else beta * c)


def softmax_flattened(function: Callable[[Tensor, int], Tensor]) -> Callable[..., Tensor]:
    """Before opset 13: over all axes from `axis` on."""

    def softmax(x: Tensor, axis: int) -> Tensor:
        first = axis % x.dim()
        return function(x.flatten(first), -1).reshape(x.shape)

    return softmax


def cast(x: Tensor, to: str, saturate: int = 1, round_mode: str = "up") -> Tensor:
    """To another width of float the rounding is the evaluation's business; to integers values are cut off.

    `saturate`, `round_mode`: of casts to 8-bit floats, which are not supported.
    """
    if to in _FLOATS:
        return x if x.is_floating_point() else x.double()
    if to not in _CASTS:
        raise BadOperand(f"a cast to {to}")
    return x.to(_CASTS[to])


def _cast_like(x: Tensor, target_type: Tensor, saturate: int = 1, round_mode: str = "up") -> Tensor:
    return x.to(target_type.dtype)


def _is_infinite(x: Tensor, detect_negative: int, detect_positive: int) -> Tensor:
    if detect_negative and detect_positive:
        return torch.isinf(x)
    if not detect_negative and not detect_positive:
        return torch.zeros_like(x, dtype=torch.bool)
    return torch.logical_and(torch.isinf(x), x < 0 if detect_negative else x > 0)


OPERATORS: Mapping[str, Callable[..., Any]] = {
    "Abs": lambda x: x.abs(),
    "Acos": lambda x: x.acos(),
    "Acosh": lambda x: x.acosh(),
    "Add": lambda a, b: a + b,
    "And": lambda a, b: torch.logical_and(a, b),
    "Asin": lambda x: x.asin(),
    "Asinh": lambda x: x.asinh(),
    "Atan": lambda x: x.atan(),
    "Atanh": lambda x: x.atanh(),
    "Cast": cast,
    "CastLike": _cast_like,
    "Ceil": lambda x: x.ceil(),
    "Celu": lambda x, alpha: functional.celu(x, alpha),
    "Clip": _clip,
    "Cos": lambda x: x.cos(),
    "Cosh": lambda x: x.cosh(),
    "Div": _div,
    "Einsum": lambda values, equation: torch.einsum(equation, *values),
    "Elu": lambda x, alpha: functional.elu(x, alpha),
    "Equal": lambda a, b: torch.eq(a, b),
    "Erf": lambda x: x.erf(),
    "Exp": lambda x: x.exp(),
    "Floor": lambda x: x.floor(),
    "Gelu": gelu,
    "Gemm": gemm,
    "Greater": lambda a, b: a > b,
    "GreaterOrEqual": lambda a, b: a >= b,
    "HardSigmoid": hard_sigmoid,
    "HardSwish": lambda x: x * hard_sigmoid(x, SIXTH, 0.5),
    "IsInf": _is_infinite,
    "IsNaN": lambda x: torch.isnan(x),
    "LeakyRelu": lambda x, alpha: functional.leaky_relu(x, alpha),
    "Less": lambda a, b: a < b,
    "LessOrEqual": lambda a, b: a <= b,
    "Log": lambda x: x.log(),
    "LogSoftmax": lambda x, axis: x.log_softmax(axis),
    "LogSoftmax-11": softmax_flattened(lambda x, axis: x.log_softmax(axis)),
    "MatMul": lambda a, b: torch.matmul(a, b),
    "Max": _pick(torch.maximum),
    "Mean": _mean,
    "Min": _pick(torch.minimum),
    "Mish": lambda x: functional.mish(x),
    "Mod": _mod,
    "Mul": lambda a, b: a * b,
    "Neg": lambda x: -x,
    "Not": lambda x: torch.logical_not(x),
    "Or": lambda a, b: torch.logical_or(a, b),
    "PRelu": _prelu,
    "Pow": _pow,
    "Reciprocal": lambda x: x.reciprocal(),
    "Relu": lambda x: x.relu(),
    "Round": lambda x: x.round(),
    "Selu": lambda x, alpha, gamma: gamma * functional.elu(x, alpha),
    "Sigmoid": lambda x: x.sigmoid(),
    "Sign": lambda x: x.sign(),
    "Sin": lambda x: x.sin(),
    "Sinh": lambda x: x.sinh(),
    "Softmax": lambda x, axis: x.softmax(axis),
    "Softmax-11": softmax_flattened(lambda x, axis: x.softmax(axis)),
    "Softplus": lambda x: functional.softplus(x),
    "Softsign": lambda x: functional.softsign(x),
    "Sqrt": lambda x: x.sqrt(),
    "Sub": lambda a, b: a - b,
    "Sum": _pick(torch.add),
    "Swish": lambda x, alpha: x * (alpha * x).sigmoid(),
    "Tan": lambda x: x.tan(),
    "Tanh": lambda x: x.tanh(),
    "ThresholdedRelu": lambda x, alpha: torch.where(x > alpha, x, torch.zeros_like(x)),
    "Where": lambda condition, x, y: torch.where(condition, x, y),
    "Xor": lambda a, b: torch.logical_xor(a, b),
}
