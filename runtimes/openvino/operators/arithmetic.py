"""Arithmetic, comparisons, activations, matrix products, attention, conversions and FakeQuantize."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from runtimes.evaluator import quantization
from runtimes.evaluator.evaluator import BadOperand
from runtimes.evaluator.operands import one, require

INTEGERS: Mapping[str, torch.dtype] = {
    "i8": torch.int8,
    "u8": torch.uint8,
    "i16": torch.int16,
    "i32": torch.int32,
    "i64": torch.int64,
    "boolean": torch.bool,
}
_FLOATS = ("f16", "bf16", "f32", "f64")


def _binary(compute: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    """Operands of one shape, or such as NumPy broadcasts."""

    def binary(a: Tensor, b: Tensor, auto_broadcast: str) -> Tensor:
        _broadcasts(auto_broadcast, a, b)
        return compute(a, b)

    return binary


def _broadcasts(rule: str, *operands: Tensor) -> None:
    require(rule == "numpy" or len({each.shape for each in operands}) == 1, f"auto_broadcast {rule}")


def _divide(a: Tensor, b: Tensor, auto_broadcast: str, floored: bool = True) -> Tensor:
    """Of integers only where nothing is left over below 0: OpenVINO's own implementations round that differently.

    `floored`: rounded down, and not towards zero, as OpenVINO's CPU plugin does all the same.
    """
    _broadcasts(auto_broadcast, a, b)
    if a.is_floating_point():
        return a / b
    result = torch.div(a, b, rounding_mode="trunc")
    require(torch.equal(result, torch.div(a, b, rounding_mode="floor")), "a division of integers below 0")
    return result


def _select(condition: Tensor, a: Tensor, b: Tensor, auto_broadcast: str) -> Tensor:
    _broadcasts(auto_broadcast, condition, a, b)
    return torch.where(condition, a, b)


def _matmul(a: Tensor, b: Tensor, transpose_a: bool, transpose_b: bool) -> Tensor:
    """A vector is not transposed."""
    return torch.matmul(a.mT if transpose_a and a.dim() > 1 else a, b.mT if transpose_b and b.dim() > 1 else b)


def _attention(
    query: Tensor, key: Tensor, value: Tensor, causal: bool, mask: Tensor | None = None, scale: Tensor | None = None
) -> Tensor:
    """softmax(query @ key^T * scale + mask) @ value. A mask of truth values says what is attended to."""
    scores = torch.matmul(query, key.mT) * (1 / math.sqrt(query.shape[-1]) if scale is None else scale.reshape(()))
    least = torch.tensor(-math.inf, dtype=scores.dtype)
    if causal:  # then the mask is ignored
        lower = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
        scores = torch.where(lower, scores, least)
    elif mask is not None:
        scores = torch.where(mask, scores, least) if mask.dtype is torch.bool else scores + mask
    return torch.matmul(scores.softmax(-1), value)


def _convert(x: Tensor, destination_type: str) -> Tensor:
    """To another width of float the rounding is the evaluation's business; to integers values are cut off."""
    if destination_type in _FLOATS:
        return x if x.is_floating_point() else x.double()
    if destination_type not in INTEGERS:
        raise BadOperand(f"a conversion to {destination_type}")
    return x.to(INTEGERS[destination_type])


def _gelu(x: Tensor, approximation_mode: str = "ERF") -> Tensor:
    modes = {"ERF": "none", "TANH": "tanh"}
    require(approximation_mode.upper() in modes, f"approximation_mode {approximation_mode}")
    return functional.gelu(x, approximate=modes[approximation_mode.upper()])


def _hard_sigmoid(x: Tensor) -> Tensor:
    return (x + 3).clamp(0, 6) / 6


def _prelu(x: Tensor, slope: Tensor) -> Tensor:
    """A vector is of the channels."""
    if slope.dim() == 1 and x.dim() > 1 and slope.shape[0] == x.shape[1]:
        slope = slope.reshape([-1] + [1] * (x.dim() - 2))
    return torch.where(x >= 0, x, slope * x)


def _swish(x: Tensor, beta: Tensor | None = None) -> Tensor:
    return x * (x if beta is None else beta.reshape(()) * x).sigmoid()


def _selu(x: Tensor, alpha: Tensor, factor: Tensor) -> Tensor:
    return factor * functional.elu(x, one(alpha))


def _round(x: Tensor, mode: str) -> Tensor:
    require(mode == "half_to_even", f"mode {mode}")
    return x.round()


def _fake_quantize(
    x: Tensor,
    input_low: Tensor,
    input_high: Tensor,
    output_low: Tensor,
    output_high: Tensor,
    levels: int,
    auto_broadcast: str,
) -> Tensor:
    _broadcasts(auto_broadcast, x, input_low, input_high, output_low, output_high)
    return quantization.fake_quantize(x, input_low, input_high, output_low, output_high, levels)


OPERATORS: Mapping[str, Callable[..., Any]] = {
    "Abs": lambda x: x.abs(),
    "Acos": lambda x: x.acos(),
    "Acosh": lambda x: x.acosh(),
    "Add": _binary(lambda a, b: a + b),
    "Asin": lambda x: x.asin(),
    "Asinh": lambda x: x.asinh(),
    "Atan": lambda x: x.atan(),
    "Atanh": lambda x: x.atanh(),
    "Ceiling": lambda x: x.ceil(),
    "Clamp": lambda x, least, greatest: x.clamp(least, greatest),
    "Convert": _convert,
    "ConvertLike": lambda x, like: x.to(like.dtype),
    "Cos": lambda x: x.cos(),
    "Cosh": lambda x: x.cosh(),
    "Divide": _divide,
    "Elu": lambda x, alpha: functional.elu(x, alpha),
    "Equal": _binary(lambda a, b: torch.eq(a, b)),
    "Erf": lambda x: x.erf(),
    "Exp": lambda x: x.exp(),
    "FakeQuantize": _fake_quantize,
    "Floor": lambda x: x.floor(),
    "FloorMod": _binary(lambda a, b: torch.remainder(a, b)),
    "Gelu": _gelu,
    "Greater": _binary(lambda a, b: a > b),
    "GreaterEqual": _binary(lambda a, b: a >= b),
    "HSigmoid": _hard_sigmoid,
    "HSwish": lambda x: x * _hard_sigmoid(x),
    "HardSigmoid": lambda x, alpha, beta: (alpha * x + beta).clamp(0, 1),
    "IsNaN": lambda x: torch.isnan(x),
    "Less": _binary(lambda a, b: a < b),
    "LessEqual": _binary(lambda a, b: a <= b),
    "Log": lambda x: x.log(),
    "LogSoftmax": lambda x, axis: x.log_softmax(axis),
    "LogicalAnd": _binary(lambda a, b: torch.logical_and(a, b)),
    "LogicalNot": lambda x: torch.logical_not(x),
    "LogicalOr": _binary(lambda a, b: torch.logical_or(a, b)),
    "LogicalXor": _binary(lambda a, b: torch.logical_xor(a, b)),
    "MatMul": _matmul,
    "Maximum": _binary(lambda a, b: torch.maximum(a, b)),
    "Minimum": _binary(lambda a, b: torch.minimum(a, b)),
    "Mish": lambda x: functional.mish(x),
    "Mod": _binary(lambda a, b: torch.fmod(a, b)),
    "Multiply": _binary(lambda a, b: a * b),
    "Negative": lambda x: -x,
    "NotEqual": _binary(lambda a, b: torch.ne(a, b)),
    "PRelu": _prelu,
    "Power": _binary(lambda a, b: torch.pow(a, b)),
    "Relu": lambda x: x.relu(),
    "Round": _round,
    "ScaledDotProductAttention": _attention,
    "Select": _select,
    "Selu": _selu,
    "Sigmoid": lambda x: x.sigmoid(),
    "Sign": lambda x: x.sign(),
    "Sin": lambda x: x.sin(),
    "Sinh": lambda x: x.sinh(),
    "SoftPlus": lambda x: functional.softplus(x),
    "SoftSign": lambda x: functional.softsign(x),
    "Softmax": lambda x, axis: x.softmax(axis),
    "Sqrt": lambda x: x.sqrt(),
    "SquaredDifference": _binary(lambda a, b: (a - b) * (a - b)),
    "Subtract": _binary(lambda a, b: a - b),
    "Swish": _swish,
    "Tan": lambda x: x.tan(),
    "Tanh": lambda x: x.tanh(),
}
