"""Double-double arithmetic against rational numbers and 100 decimals."""

from decimal import Decimal, localcontext
from fractions import Fraction

import torch
from torch import Tensor

from runtimes.evaluator.field.wide import DoubleDouble

WIDE = DoubleDouble()
TOLERANCE = 2.0**-100


def _values(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(50, generator=generator, dtype=torch.float64) + 2.0**-8


def _exact(x: Tensor) -> list[Fraction]:
    return [Fraction(high) + Fraction(low) for high, low in zip(x[0].tolist(), x[1].tolist(), strict=True)]


def test_sums_products_and_quotients_are_right_to_a_hundred_bits() -> None:
    a, b = WIDE.inverse(WIDE.of(_values(0))), WIDE.inverse(WIDE.of(_values(1)))  # with a low part
    for x, y, total, less, product, inverse in zip(
        _exact(a), _exact(b), _exact(WIDE.total(a, b)), _exact(WIDE.total(a, b, -1)), _exact(WIDE.product(a, b)),
        _exact(WIDE.inverse(a)), strict=True,
    ):  # fmt: skip
        assert abs(total - (x + y)) <= TOLERANCE * (x + y)
        assert abs(less - (x - y)) <= TOLERANCE * (x + y)
        assert abs(product - x * y) <= TOLERANCE * x * y
        assert abs(inverse - 1 / x) <= TOLERANCE / x


def test_the_root_is_right_to_a_hundred_bits() -> None:
    values = _values(2)
    with localcontext() as context:
        context.prec = 100
        for value, root in zip(values.tolist(), _exact(WIDE.function("sqrt", WIDE.of(values))), strict=True):
            right = Fraction(Decimal(value).sqrt())
            assert abs(root - right) <= TOLERANCE * right


def test_a_matrix_product_adds_up_in_double_double() -> None:
    a, b = _values(3).reshape(1, 50), _values(4).reshape(50, 1)
    right = sum(Fraction(x) * Fraction(y) for x, y in zip(a.flatten().tolist(), b.flatten().tolist(), strict=True))
    (found,) = _exact(WIDE.matmul(WIDE.of(a), WIDE.of(b)).reshape(2, 1))
    assert abs(found - right) <= 50 * TOLERANCE * right
