"""Arithmetic in double-double: sums of two float64, about 106 bits. What any code computes, to far below float32."""

import torch
from torch import Tensor

from runtimes.evaluator.field.residues import Residues

_SPLIT = 2.0**27 + 1
Pair = tuple[Tensor, Tensor]


class DoubleDouble(Residues):
    """In the place of residues: the first axis holds the value and what float64 lacks of it.

    Dekker (1971), Knuth (TAOCP 2, 4.2.2). Each sum, product, quotient and root is right to 2^-100 of its operands'
    magnitudes. Of the keyed functions there is the square root, which is one.
    """

    def __init__(self) -> None:
        super().__init__(0, primes=0)
        self.count = 2

    def of(self, values: Tensor) -> Tensor:
        """Any float64, exactly."""
        wide = values.detach().double()
        return torch.stack([wide, torch.zeros_like(wide)])

    def shared(self, values: Tensor) -> Tensor:
        """The same: there is nothing to save."""
        return self.of(values)

    def reduced(self, x: Tensor) -> Tensor:
        """With the first as near as float64 comes to the sum."""
        return torch.stack(_two_sum(x[0], x[1]))

    def total(self, a: Tensor, b: Tensor, sign: int = 1) -> Tensor:
        """a + sign * b."""
        rank = max(a.dim(), b.dim()) - 1
        a, b = self.aligned(a, rank), self.aligned(b, rank) * sign
        high, low = _two_sum(a[0], b[0])
        more, rest = _two_sum(a[1], b[1])
        high, low = _two_sum(high, low + more)
        return torch.stack(_two_sum(high, low + rest))

    def product(self, a: Tensor, b: Tensor) -> Tensor:
        """a * b."""
        rank = max(a.dim(), b.dim()) - 1
        a, b = self.aligned(a, rank), self.aligned(b, rank)
        high, low = _two_product(a[0], b[0])
        return torch.stack(_two_sum(high, low + (a[0] * b[1] + a[1] * b[0])))

    def added_up(self, x: Tensor, axes: tuple[int, ...], *, keep: bool) -> Tensor:
        """The sum over axes, one after the other."""
        for axis in sorted(axes, reverse=True):
            total = torch.zeros_like(x.select(axis + 1, 0))
            for part in x.unbind(axis + 1):
                total = self.total(total, part)
            x = total.unsqueeze(axis + 1) if keep else total
        return x

    def matmul(self, a: Tensor, b: Tensor) -> Tensor:
        """(2, M, K), (2, K, N) -> (2, M, N)."""
        total = torch.zeros(2, a.shape[-2], b.shape[-1], dtype=torch.float64)
        for k in range(a.shape[-1]):
            total = self.total(total, self.product(a[..., :, k : k + 1], b[..., k : k + 1, :]))
        return total

    def inverse(self, x: Tensor) -> Tensor:
        """1 / x: two steps of Newton's, the first from float64's."""
        guess = self.of(1 / x[0])
        for _ in range(2):
            guess = self.product(guess, self.total(self.of(torch.tensor(2.0)), self.product(x, guess), -1))
        return guess

    def function(self, name: str, *operands: Tensor, commutes: bool = False, at_zero: Tensor | None = None) -> Tensor:
        """The square root: two steps of Heron's."""
        if name != "sqrt":
            raise ValueError(f"'{name}' is not computed in double-double")
        (x,) = operands
        root = self.of(x[0].sqrt())
        for _ in range(2):
            root = self.total(root, self.product(x, self.inverse(root))) / 2
        return root

    def equal(self, a: Tensor, b: Tensor) -> bool:
        """To the last bit."""
        return torch.equal(a, b)


def _two_sum(a: Tensor, b: Tensor) -> Pair:
    total = a + b
    other = total - a
    return total, (a - (total - other)) + (b - other)


def _two_product(a: Tensor, b: Tensor) -> Pair:
    product = a * b
    (a1, a2), (b1, b2) = _split(a), _split(b)
    return product, ((a1 * b1 - product) + a1 * b2 + a2 * b1) + a2 * b2


def _split(a: Tensor) -> Pair:
    high = a * _SPLIT
    high = high - (high - a)  # not in place: `a` may be a view
    return high, a - high
