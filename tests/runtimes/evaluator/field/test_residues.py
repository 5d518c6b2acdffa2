"""The arithmetic against Python's fractions, modulo each prime."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from runtimes.evaluator.field.residues import Residues

RESIDUES = Residues(7)
"""One draw; other draws have other primes and tell the same."""


def wanted(value: Fraction, prime: int) -> int:
    return value.numerator * pow(value.denominator, -1, prime) % prime


def integers(residues: Tensor) -> list[list[int]]:
    """In 0 to p - 1; they are held around 0, each in one way."""
    primes = torch.tensor(RESIDUES.primes, dtype=torch.float64)[:, None]
    assert bool((residues.flatten(1).abs() <= (primes - 1) / 2).all())
    return [[int(v) % p for v in row] for p, row in zip(RESIDUES.primes, residues.flatten(1).tolist(), strict=True)]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_every_float_has_its_residue(dtype: type) -> None:
    info = np.finfo(dtype)
    values: NDArray[np.floating] = np.array(
        [0, 1, -1, 0.1, -1.5e-4, info.max, info.tiny, info.smallest_subnormal, -info.max], dtype
    )
    found = integers(RESIDUES.of(torch.from_numpy(values)))
    assert found == [[wanted(Fraction(float(v)), p) for v in values] for p in RESIDUES.primes]


def test_a_power_of_two_is_no_other() -> None:
    """Modulo a Mersenne prime such as 2^61 - 1 or 2^31 - 1 it would be."""
    powers = RESIDUES.of(2.0 ** torch.arange(-200, 200, dtype=torch.float64))
    assert len(np.unique(RESIDUES.fingerprints(powers))) == 400


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_what_is_no_number_has_no_residue(value: float) -> None:
    with pytest.raises(ValueError, match="infinite or not a number"):
        RESIDUES.of(torch.tensor([1.0, value]))


@pytest.mark.parametrize("inner", [3, 1024, 5000])
def test_a_matrix_product_is_exact(inner: int) -> None:
    random = np.random.default_rng(inner)
    a, b = (random.integers(-(2**21), 2**21, shape) for shape in ((2, inner), (inner, 3)))
    product = a.astype(object) @ b.astype(object)
    of = [RESIDUES.of(torch.from_numpy(each)) for each in (a, b)]
    assert integers(RESIDUES.matmul(*of)) == [[int(v) % p for v in product.reshape(-1)] for p in RESIDUES.primes]


@pytest.mark.parametrize(
    ("groups", "kernel", "stride", "dilation"),
    [(1, 1, 1, 1), (1, 3, 2, 1), (2, 3, 1, 2), (8, 5, 1, 1), (8, 3, 2, 2), (4, 1, 2, 1)],
)
def test_a_convolution_is_exact(groups: int, kernel: int, stride: int, dilation: int) -> None:
    random = torch.Generator().manual_seed(kernel)
    x = torch.randint(-99, 99, (2, 8, 9, 11), generator=random).double()
    w = torch.randint(-99, 99, (8, 8 // groups, kernel, kernel), generator=random).double()
    found = RESIDUES.convolution(RESIDUES.of(x), RESIDUES.of(w), (stride, stride), (dilation, dilation), groups)
    assert RESIDUES.equal(found, RESIDUES.of(functional.conv2d(x, w, None, stride, 0, dilation, groups)))


def test_an_inverse_is_one() -> None:
    values = RESIDUES.of(torch.arange(1, 50, dtype=torch.float64) / 7)
    ones = RESIDUES.product(values, RESIDUES.inverse(values))
    assert RESIDUES.equal(ones, RESIDUES.of(torch.ones(49)))


def test_a_function_is_of_its_name_and_every_operand() -> None:
    a, b = (RESIDUES.of(torch.arange(k, k + 6, dtype=torch.float64)) for k in (0, 3))
    values = [RESIDUES.function("f", a), RESIDUES.function("g", a), RESIDUES.function("f", b),
              RESIDUES.function("f", a, b), RESIDUES.function("f", b, a)]  # fmt: skip
    prints = [tuple(RESIDUES.fingerprints(value)) for value in values]
    assert len(set(prints)) == 5
    assert prints[0][3:] == prints[2][:3]  # of equal operands equal
    commuting = [RESIDUES.function("f", *pair, commutes=True) for pair in ((a, b), (b, a))]
    assert RESIDUES.equal(*commuting)


def test_another_draw_has_other_primes_and_another_key() -> None:
    other = Residues(8)
    assert set(other.primes) != set(RESIDUES.primes)
    x = torch.ones(1)
    assert not torch.equal(other.function("f", other.of(x)), RESIDUES.function("f", RESIDUES.of(x)))
    assert Residues(7).primes == RESIDUES.primes
    assert Residues().primes != Residues().primes


def test_primes_are_prime_and_leave_room_for_sums() -> None:
    for p in RESIDUES.primes:
        assert all(p % d for d in range(2, int(p**0.5) + 1))
        assert 1024 * (p // 2 + 4) ** 2 <= 2**52 + 2**34
