"""Operators element by element: sums and products exactly, every other as a keyed random function."""

from typing import Any

import torch

from runtimes.evaluator.field.sizes import Sizes
from runtimes.evaluator.field.table import aten, common_rows, computes, floats, operands
from runtimes.evaluator.field.tensor import FieldTensor, NoMeaning, Unlike


@computes(aten.add.Tensor, aten.add.Scalar)
def add(a: Any, b: Any, alpha: float = 1) -> FieldTensor:
    """a + alpha * b."""
    floats(a, b)
    x, y = operands(a, b)
    if alpha not in (1, -1):
        y = mul(y, alpha)
    return x.like(x.field.residues.total(x.residues, y.residues, -1 if alpha == -1 else 1), common_rows(x, y))


@computes(aten.sub.Tensor, aten.sub.Scalar)
def sub(a: Any, b: Any, alpha: float = 1) -> FieldTensor:
    """a - alpha * b."""
    return add(a, b, -alpha)


@computes(aten.rsub.Tensor, aten.rsub.Scalar)
def _rsub(a: Any, b: Any, alpha: float = 1) -> FieldTensor:
    return add(b, a, -alpha)


@computes(aten.neg.default)
def _neg(x: FieldTensor) -> FieldTensor:
    floats(x)
    return x.like(-x.residues)


@computes(aten.mul.Tensor, aten.mul.Scalar)
def mul(a: Any, b: Any) -> FieldTensor:
    """a * b."""
    floats(a, b)
    x, y = operands(a, b)
    result = x.like(x.field.residues.product(x.residues, y.residues), common_rows(x, y))
    result.nonnegative = x.nonnegative and y.nonnegative
    return result


@computes(aten.reciprocal.default)
def reciprocal(x: FieldTensor) -> FieldTensor:
    """1 / x; of 0 it is 0."""
    floats(x)
    result = x.like(x.field.residues.inverse(x.residues))
    result.nonnegative = x.nonnegative
    return result


@computes(aten.div.Tensor, aten.div.Scalar)
def div(a: Any, b: Any) -> FieldTensor:
    """a / b, exactly."""
    x, y = operands(a, b)
    return mul(x, reciprocal(y))


@computes(aten.pow.Tensor_Scalar)
def _pow(x: FieldTensor, exponent: float) -> FieldTensor:
    if exponent in (1, 2, 3):
        squared = mul(x, x)
        return x if exponent == 1 else squared if exponent == 2 else mul(squared, x)
    if exponent == -1:
        return reciprocal(x)
    if exponent == -0.5:
        return reciprocal(keyed("sqrt", x))
    return keyed("sqrt", x) if exponent == 0.5 else keyed("pow", x, exponent)


def keyed(name: str, *given: Any, commutes: bool = False, dtype: torch.dtype = torch.float64) -> FieldTensor:
    """A keyed random function of operands that are broadcast."""
    values = operands(*given)
    residues = values[0].field.residues.function(name, *(value.residues for value in values), commutes=commutes)
    return FieldTensor(values[0].field, residues, common_rows(*values), dtype)


def _keyed(name: str, *overloads: Any, commutes: bool = False, dtype: torch.dtype = torch.float64) -> None:
    def function(*given: Any) -> FieldTensor:
        return keyed(name, *given, commutes=commutes, dtype=dtype)

    computes(*overloads)(function)


@computes(aten.relu.default)
def relu(x: FieldTensor) -> FieldTensor:
    """max(x, 0): a second one changes nothing."""
    return x if x.nonnegative else _nonnegative(keyed("relu", x))


@computes(aten.leaky_relu.default)
def _leaky_relu(x: FieldTensor, negative_slope: float = 0.01) -> FieldTensor:
    return keyed("leaky relu", x, negative_slope)


@computes(aten.exp.default)
def exp(x: FieldTensor) -> FieldTensor:
    """e^x, as a keyed function."""
    return _nonnegative(keyed("exp", x))


@computes(aten.sigmoid.default)
def _sigmoid(x: FieldTensor) -> FieldTensor:
    return _nonnegative(keyed("sigmoid", x))


def _nonnegative(x: FieldTensor) -> FieldTensor:
    x.nonnegative = True
    return x


for _name in ("tanh", "log", "erf", "sqrt", "abs", "sign", "floor", "ceil", "trunc", "exp2",
              "log2", "log1p", "expm1", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh",
              "atanh"):  # fmt: skip
    _keyed(_name, getattr(aten, _name).default)
for _name in ("eq", "ne", "lt", "gt", "le", "ge"):
    _keyed(_name, getattr(aten, _name).Tensor, getattr(aten, _name).Scalar, dtype=torch.bool)
for _name in ("isnan", "isinf"):
    _keyed(_name, getattr(aten, _name).default, dtype=torch.bool)
for _name in ("logical_and", "logical_or", "logical_xor"):
    _keyed(_name, getattr(aten, _name).default, commutes=True, dtype=torch.bool)
_keyed("not", aten.logical_not.default, aten.bitwise_not.default, dtype=torch.bool)
_keyed("pow", aten.pow.Tensor_Tensor)
_keyed("fmod", aten.fmod.Tensor, aten.fmod.Scalar)
_keyed("remainder", aten.remainder.Tensor, aten.remainder.Scalar)
_keyed("round", aten.round.default)


@computes(aten.rsqrt.default)
def rsqrt(x: FieldTensor) -> FieldTensor:
    """1 / sqrt(x), the root as a keyed function."""
    return reciprocal(keyed("sqrt", x))


@computes(aten.silu.default)
def _silu(x: FieldTensor) -> FieldTensor:
    return mul(x, keyed("sigmoid", x))


@computes(aten.gelu.default)
def _gelu(x: FieldTensor, *, approximate: str = "none") -> FieldTensor:
    if approximate != "none":
        return keyed(f"gelu {approximate}", x)
    return mul(mul(x, 0.5), add(keyed("erf", mul(x, 0.5**0.5)), 1.0))


def is_all(value: Any, number: float) -> bool:
    """A constant whose every value is `number`."""
    if isinstance(value, FieldTensor):
        return False
    tensor = torch.as_tensor(value)
    return bool((tensor == number).all())


@computes(aten.maximum.default)
def maximum(a: Any, b: Any) -> FieldTensor:
    """The larger; of 0 and x it is ReLU."""
    for x, other in ((a, b), (b, a)):
        if is_all(other, 0) and isinstance(x, FieldTensor):
            return relu(x)
    return keyed("max", a, b, commutes=True)


@computes(aten.minimum.default)
def minimum(a: Any, b: Any) -> FieldTensor:
    """The smaller."""
    return keyed("min", a, b, commutes=True)


@computes(aten.clamp.default, aten.clamp.Tensor, aten.hardtanh.default, aten.clamp_min.default, aten.clamp_min.Tensor)
def clamp(x: FieldTensor, min: Any = None, max: Any = None) -> FieldTensor:  # noqa: A002 - torch's names
    """min(max(x, low), high); an infinite limit is none."""
    low, high = (None if value is None or is_all(value, infinite) else value
                 for value, infinite in ((min, -torch.inf), (max, torch.inf)))  # fmt: skip
    if low is not None:
        x = maximum(x, low)
    return x if high is None else minimum(x, high)


@computes(aten.clamp_max.default, aten.clamp_max.Tensor)
def _clamp_max(x: FieldTensor, max: Any) -> FieldTensor:  # noqa: A002
    return clamp(x, None, max)


@computes(aten.hardsigmoid.default)
def _hardsigmoid(x: FieldTensor) -> FieldTensor:
    return clamp(add(mul(x, 1 / 6), 0.5), 0, 1)


@computes(aten.where.self)
def _where(condition: Any, a: Any, b: Any) -> FieldTensor:
    if isinstance(condition, FieldTensor):
        return keyed("where", condition, a, b)
    if isinstance(condition, Sizes):
        raise Unlike("a value depends on the number of images")
    x, y = operands(a, b)
    return add(mul(x, condition.double()), mul(y, 1 - condition.double()))


@computes(aten._to_copy.default)
def _to_copy(x: FieldTensor, *, dtype: torch.dtype | None = None, **_: Any) -> FieldTensor:
    """Between floating-point types nothing changes: how an artifact rounds is judged by running it."""
    if dtype is None or (dtype.is_floating_point and x.dtype.is_floating_point):
        return x
    if dtype.is_floating_point:  # of integers, which it holds exactly
        return FieldTensor(x.field, x.residues, x.rows)
    return keyed(f"to {dtype}", x, dtype=dtype)


@computes(aten.clone.default)
def _clone(x: FieldTensor, **_: Any) -> FieldTensor:
    copied = x.like(x.residues.clone())
    copied.codes, copied.nonnegative = x.codes, x.nonnegative
    return copied


@computes(aten.equal.default)
def _equal(a: Any, b: Any) -> bool:
    x, y = operands(a, b)
    if x.rows or y.rows:
        raise Unlike("a comparison of images decides what is computed")
    return x.field.residues.equal(x.residues, y.residues)


@computes(aten.detach.default, aten.alias.default, aten.contiguous.default, aten.lift_fresh.default)
def _same(x: FieldTensor, **_: Any) -> FieldTensor:
    same = x.like(x.residues)
    same.codes = x.codes
    return same


@computes(aten.dropout.default)
def _dropout(x: FieldTensor, p: float, train: bool) -> FieldTensor:
    if train and p:
        raise NoMeaning("dropout in training mode is random")
    return x
