"""Exact arithmetic modulo several random primes, on residues that are held in float64.

A floating-point number is m * 2^e, so it has exactly one residue modulo every odd prime. Primes of 22 bits let a
product of residues, and a sum of 1024 of them, stay below 2^53: convolutions and matrix products are BLAS in float64,
and exact. Eight primes together have 170 bits. docs/numerics.md derives from them how likely a wrong answer is.

The primes are drawn anew for each field. A fixed one can be played with: modulo 2^61 - 1 the powers of two repeat every
61, so that a weight times 2^61 would be the weight.
"""

import secrets
from collections import OrderedDict
from functools import lru_cache
from hashlib import sha256
from math import frexp

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from runtimes.evaluator.field.functions import RandomFunctions, Words

PRIMES = 8
_BITS = 22
_TERMS = 1024
"""Products of two residues that may be added up before they are reduced: 1024 * (2^21)^2 = 2^52."""

_UNIQUE = 256
"""As many whose sum, up to 2^50, is reduced to a unique residue at once."""

_LIMB = 25
"""Bits that are taken of floats at once."""

_LIMBS = 16
"""Limbs whose products with residues, 2^25 * 2^21 each, may be added up."""

_FEW = 256
"""Residues that are inverted one by one sooner than all together."""

_KEPT = 1 << 29
"""Bytes of constants' residues that are kept, as integers of 32 bits: the same weights come in every stage's file and
in the deploy form. Those of the largest model take 400 MB."""

_BLOCK = 1 << 13
"""Values that are taken at once: what a core's cache holds."""


class Residues:
    """The primes, the key of the random functions, and the arithmetic.

    A tensor of this arithmetic has an axis more than the tensor that it stands for, the first: one entry a prime.
    Residues are unique: from -(p - 1) / 2 to (p - 1) / 2.

    Args:
        seed: of primes and key; None draws it from the operating system.
        primes: how many, an even number. With none no values are computed: every tensor is empty.
    """

    def __init__(self, seed: int | None = None, *, primes: int = PRIMES) -> None:
        self.seed = secrets.randbits(128) if seed is None else seed
        self.primes = _primes(np.random.default_rng(self.seed), primes)
        self.count = len(self.primes)
        self._p = torch.tensor(self.primes, dtype=torch.float64)
        self._inverse = 1 / self._p
        self._functions = RandomFunctions(self.seed, self.primes)
        self._power = lru_cache(maxsize=4096)(self._power_of_two)
        self._kept: OrderedDict[tuple[torch.Size, bytes], Tensor] = OrderedDict()
        self._bytes = 0

    def _along(self, values: Tensor, rank: int) -> Tensor:
        return values.reshape(self.count, *[1] * rank)

    def reduced(self, x: Tensor) -> Tensor:
        """`x`, which may be overwritten, modulo each prime. Magnitudes up to 2^50.

        A prime is odd, so that x / p is never closer to a half than 1 / 2p > 2^-23; the product with the inverse errs
        by less than 2^-52 |x / p| < 2^-23, and is rounded to the right side.
        """
        rank = x.dim() - 1
        quotient = (x * self._along(self._inverse, rank)).round_()
        return x.addcmul_(quotient, self._along(self._p, rank), value=-1)

    def of(self, values: Tensor) -> Tensor:
        """The residues of floats or integers: (...) -> (primes, ...).

        Limbs of 25 bits, from the tensor's largest down, are whole numbers times powers of two, as many as it takes.

        Raises:
            ValueError: infinity or NaN.
        """
        wide = values.detach().double()
        result = torch.empty((self.count, *wide.shape), dtype=torch.float64)
        largest = float(wide.abs().max()) if wide.numel() else 0.0
        if not largest < torch.inf:
            raise ValueError("a constant is infinite or not a number")
        if not result.numel() or not largest:
            return result.zero_()
        top = frexp(largest)[1] - _LIMB
        flat, out = wide.reshape(-1), result.reshape(self.count, -1)
        for start in range(0, flat.numel(), _BLOCK):
            block = slice(start, start + _BLOCK)
            rest, limbs = flat[block], list[Tensor]()
            while not limbs or rest.any():
                exponent = top - _LIMB * len(limbs)
                limbs.append(_scaled(rest, -exponent).trunc_())
                rest = rest - _scaled(limbs[-1], exponent)
            for i in range(0, len(limbs), _LIMBS):
                some = limbs[i : i + _LIMBS]
                powers = torch.stack([self._power(top - _LIMB * (i + j)) for j in range(len(some))], 1)
                part = self.reduced(powers @ torch.stack(some))
                out[:, block] = self.reduced(out[:, block] + part) if i else part
        return result

    def shared(self, values: Tensor) -> Tensor:
        """The same, computed once for equal values. Raises as `of`."""
        wide = values.detach().double().contiguous()
        key = wide.shape, sha256(wide.numpy().data).digest()
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key].double()
        result = self.of(values)
        self._kept[key] = result.int()
        self._bytes += self._kept[key].nbytes
        while self._bytes > _KEPT:
            _, dropped = self._kept.popitem(last=False)
            self._bytes -= dropped.nbytes
        return result

    def _power_of_two(self, exponent: int) -> Tensor:
        """(primes,): 2^exponent."""
        powers = (pow(2, exponent % (p - 1), p) for p in self.primes)
        return torch.tensor([r - p if r > p // 2 else r for r, p in zip(powers, self.primes, strict=True)]).double()

    def nothing(self, shape: tuple[int, ...]) -> Tensor:
        """NaN throughout, which equals no value."""
        return torch.full((self.count, *shape), torch.nan, dtype=torch.float64)

    def aligned(self, x: Tensor, rank: int) -> Tensor:
        """With axes of size 1 after the first, so that it broadcasts with tensors of `rank` axes."""
        missing = rank - (x.dim() - 1)
        return x.reshape(self.count, *[1] * missing, *x.shape[1:]) if missing else x

    def product(self, a: Tensor, b: Tensor) -> Tensor:
        """Element by element, broadcast."""
        rank = max(a.dim(), b.dim()) - 1
        return self.reduced(self.aligned(a, rank) * self.aligned(b, rank))

    def total(self, a: Tensor, b: Tensor, sign: int = 1) -> Tensor:
        """a + sign * b, broadcast."""
        rank = max(a.dim(), b.dim()) - 1
        return self.reduced(torch.add(self.aligned(a, rank), self.aligned(b, rank), alpha=sign))

    def added_up(self, x: Tensor, axes: tuple[int, ...], *, keep: bool) -> Tensor:
        """The sum over axes of the tensor that it stands for, counted from 0."""
        return self.reduced(x.sum([axis + 1 for axis in axes], keepdim=keep))

    def matmul(self, a: Tensor, b: Tensor) -> Tensor:
        """(primes, ..., M, K), (primes, ..., K, N) -> (primes, ..., M, N), broadcast over what comes before."""
        rank = max(a.dim(), b.dim()) - 1
        a, b = self.aligned(a, rank), self.aligned(b, rank)
        inner = a.shape[-1]
        if inner <= _TERMS:
            total = self.reduced(a @ b)
            return total if inner <= _UNIQUE else self.reduced(total)
        parts = range(0, inner, _TERMS)
        return self.reduced(
            torch.stack([self.reduced(a[..., i : i + _TERMS] @ b[..., i : i + _TERMS, :]) for i in parts]).sum(0)
        )

    def inverse(self, x: Tensor) -> Tensor:
        """1 / x by Fermat's little theorem; 0 stays 0."""
        if 0 < x.numel() <= _FEW:
            rows = zip(self.primes, x.reshape(self.count, -1).tolist(), strict=True)
            powers = [[float(pow(int(value), p - 2, p)) for value in row] for p, row in rows]
            return self.reduced(torch.tensor(powers, dtype=torch.float64).reshape(x.shape))
        result, base = torch.ones_like(x), x
        for bit in range(_BITS):
            odd = torch.tensor([(p - 2) >> bit & 1 for p in self.primes], dtype=torch.bool)
            result = torch.where(self._along(odd, x.dim() - 1), self.reduced(result * base), result)
            base = self.reduced(base * base)
        return result

    def convolution(
        self, x: Tensor, weight: Tensor, stride: tuple[int, int], dilation: tuple[int, int], groups: int
    ) -> Tensor:
        """(primes, B, C, H, W), (primes, O, C / groups, kH, kW) -> (primes, B, O, H', W'), without padding."""
        outputs, inputs, *kernel = weight.shape[1:]
        if inputs == 1 and groups == outputs:
            return self._depthwise(x, weight, stride, dilation)
        _, batch, _, height, width = x.shape
        size = [
            (side - d * (k - 1) - 1) // s + 1
            for side, k, s, d in zip((height, width), kernel, stride, dilation, strict=True)
        ]
        if not self.count:
            return torch.empty((0, batch, outputs, *size), dtype=torch.float64)
        results = []
        for group in range(groups):
            part = x[:, :, group * inputs : (group + 1) * inputs]
            if kernel == [1, 1]:
                columns = part[..., :: stride[0], :: stride[1]].flatten(3)
            else:
                flat = part.reshape(self.count * batch, inputs, height, width)
                columns = functional.unfold(flat, (kernel[0], kernel[1]), dilation, 0, stride)
                columns = columns.reshape(self.count, batch, inputs * kernel[0] * kernel[1], -1)
            rows = weight[:, group * outputs // groups : (group + 1) * outputs // groups].flatten(2)
            results.append(self.matmul(rows[:, None], columns))
        return torch.cat(results, 2).reshape(self.count, batch, outputs, *size)

    def _depthwise(self, x: Tensor, weight: Tensor, stride: tuple[int, int], dilation: tuple[int, int]) -> Tensor:
        height, width = weight.shape[-2:]
        rows, columns = (
            (side - d * (k - 1) - 1) // s * s + 1
            for side, k, s, d in zip(x.shape[-2:], (height, width), stride, dilation, strict=True)
        )
        total: Tensor | None = None
        for i in range(height):
            for j in range(width):
                top, left = i * dilation[0], j * dilation[1]
                shifted = x[..., top : top + rows : stride[0], left : left + columns : stride[1]]
                factor = weight[:, None, :, 0, i, j, None, None]
                total = shifted * factor if total is None else total.addcmul_(shifted, factor)
        assert total is not None, "a kernel has a value"
        return self.reduced(total)

    def function(self, name: str, *operands: Tensor, commutes: bool = False, at_zero: Tensor | None = None) -> Tensor:
        """The value of the keyed random function `name`, element by element, never 0; operands are broadcast.

        `commutes`: the order of the operands does not matter. `at_zero`, (primes,): the value where the operand is 0.
        """
        rank = max(x.dim() for x in operands) - 1
        given = torch.broadcast_tensors(*(self.aligned(x, rank) for x in operands))
        if not given[0].numel():
            return torch.empty_like(given[0])
        flat = [x.reshape(self.count, -1) for x in given]
        nothing = None if at_zero is None else at_zero.reshape(self.count, 1)
        values = self._functions.values(name, flat, commutes=commutes, at_zero=nothing)
        return values.reshape(given[0].shape)

    def equal(self, a: Tensor, b: Tensor) -> bool:
        """All values are equal, modulo every prime."""
        return torch.equal(a, b)

    def fingerprints(self, x: Tensor) -> Words:
        """One 64-bit number for each value, in a flat array."""
        return self._functions.fingerprints(x.reshape(self.count, -1))


def _scaled(x: Tensor, exponent: int) -> Tensor:
    """x * 2^exponent."""
    if abs(exponent) < 1000:
        return x * 2.0**exponent
    return torch.from_numpy(np.ldexp(x.numpy(), exponent))  # where that power of two is beyond float64


def _primes(random: np.random.Generator, count: int) -> tuple[int, ...]:
    found: list[int] = []
    while len(found) < count:
        candidate = int(random.integers(2 ** (_BITS - 2), 2 ** (_BITS - 1))) * 2 + 1
        if candidate not in found and all(candidate % divisor for divisor in range(3, 2 ** (_BITS // 2) + 1, 2)):
            found.append(candidate)
    return tuple(found)
