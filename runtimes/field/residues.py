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
from hashlib import blake2b, sha256

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

PRIMES = 8
_BITS = 22
_TERMS = 1024
"""Products of two residues that may be added up before they are reduced: 1024 * (2^21)^2 = 2^52."""

_HALF = 26
"""Bits of the first of two parts of a float64; of the narrower formats it is all."""

_NARROW = (torch.float32, torch.float16, torch.bfloat16, torch.int8, torch.uint8, torch.int16, torch.bool)
_EXPONENTS = 1200
_KEPT = 1 << 28
"""Bytes of constants' residues that are kept: the same weights come in every stage's file and in the deploy form."""

_BLOCK = 1 << 13
"""Values that are taken at once: what a core's cache holds."""

Words = NDArray[np.uint64]


class Residues:
    """The primes, the key of the random functions, and the arithmetic.

    A tensor of this arithmetic has an axis more than the tensor that it stands for, the first: one entry a prime.
    Between operations residues lie in -p/2 to p/2, but for a rounding at the two ends; `canonical` makes them unique.

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
        powers = [[pow(2, e % (p - 1), p) for e in range(-_EXPONENTS, _EXPONENTS)] for p in self.primes]
        self._kept: OrderedDict[tuple[torch.Size, bytes], Tensor] = OrderedDict()
        self._bytes = 0
        self._powers = torch.tensor(powers, dtype=torch.float64).reshape(self.count, 2 * _EXPONENTS)

    def _along(self, values: Tensor, rank: int) -> Tensor:
        return values.reshape(self.count, *[1] * rank)

    def reduced(self, x: Tensor) -> Tensor:
        """`x`, which may be overwritten, modulo each prime. Magnitudes up to 2^52."""
        rank = x.dim() - 1
        quotient = (x * self._along(self._inverse, rank)).round_()
        return x.sub_(quotient.mul_(self._along(self._p, rank)))

    def canonical(self, x: Tensor) -> Tensor:
        """0 to p - 1."""
        p = self._along(self._p, x.dim() - 1)
        x = torch.where(x < 0, x + p, x)
        return torch.where(x >= p, x - p, x)

    def of(self, values: Tensor) -> Tensor:
        """The residues of floats or integers: (...) -> (primes, ...).

        Raises:
            ValueError: infinity or NaN.
        """
        wide = values.detach().double()
        narrow = values.dtype in _NARROW
        if not bool(torch.isfinite(wide).all()):
            raise ValueError("a constant is infinite or not a number")
        result = torch.empty((self.count, *wide.shape), dtype=torch.float64)
        if not result.numel():
            return result
        flat, out = wide.reshape(-1), result.reshape(self.count, -1)
        for start in range(0, flat.numel(), _BLOCK):
            out[:, start : start + _BLOCK] = self._of_few(flat[start : start + _BLOCK], narrow=narrow)
        return result

    def shared(self, values: Tensor) -> Tensor:
        """The same, not to be written into: equal values are given the same residues. Raises as `of`."""
        wide = values.detach().double().contiguous()
        key = wide.shape, sha256(wide.numpy().data).digest()
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        result = self._kept[key] = self.of(values)
        self._bytes += result.nbytes
        while self._bytes > _KEPT:
            _, dropped = self._kept.popitem(last=False)
            self._bytes -= dropped.nbytes
        return result

    def _of_few(self, values: Tensor, *, narrow: bool) -> Tensor:
        """(n) float64 -> (primes, n). `narrow`: they have at most 26 bits."""
        fraction, exponent = torch.frexp(values)
        index = exponent + _EXPONENTS
        scaled = fraction.mul_(2.0**_HALF)
        high = scaled if narrow else scaled.trunc()
        result = self.reduced(self._powers.index_select(1, index - _HALF).mul_(high))
        if narrow or not (low := scaled.sub_(high).mul_(2.0 ** (53 - _HALF))).any():
            return result
        return self.reduced(self.reduced(self._powers.index_select(1, index - 53).mul_(low)).add_(result))

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
            return self.reduced(a @ b)
        parts = range(0, inner, _TERMS)
        return self.reduced(
            torch.stack([self.reduced(a[..., i : i + _TERMS] @ b[..., i : i + _TERMS, :]) for i in parts]).sum(0)
        )

    def inverse(self, x: Tensor) -> Tensor:
        """1 / x by Fermat's little theorem; 0 stays 0."""
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
        total = torch.zeros((), dtype=torch.float64)
        for i in range(height):
            for j in range(width):
                top, left = i * dilation[0], j * dilation[1]
                shifted = x[..., top : top + rows : stride[0], left : left + columns : stride[1]]
                total = total + shifted * weight[:, None, :, 0, i, j, None, None]
        return self.reduced(total)

    def function(self, name: str, *operands: Tensor, commutes: bool = False) -> Tensor:
        """The value of the keyed random function `name`, element by element, never 0; operands are broadcast.

        128 bits of state, the finalizer of splitmix64 (Steele, Lea and Flood, OOPSLA 2014) between words. `commutes`:
        the order of the operands does not matter.
        """
        rank = max(x.dim() for x in operands) - 1
        given = torch.broadcast_tensors(*(self.aligned(x, rank) for x in operands))
        if not given[0].numel():
            return torch.empty_like(given[0])
        flat = [self._words(x) for x in given]
        count = flat[0].shape[1]
        result = np.empty((self.count, count))
        key = _key(self.seed, name)
        scale = np.array([[(p - 1) * 2.0**-53] for p in self.primes])
        for start in range(0, count, _BLOCK):
            block = slice(start, start + _BLOCK)
            first, second = _hashed([x[:, block] for x in flat], key, commutes=commutes)
            word = _mixed(second + key[: self.count, None])
            word ^= first
            word = _mixed(word)
            word >>= np.uint64(11)
            np.multiply(word, scale, out=result[:, block])
        np.floor(result, out=result)
        result += 1
        return self.reduced(torch.from_numpy(result).reshape(given[0].shape))

    def equal(self, a: Tensor, b: Tensor) -> bool:
        """All values are equal, modulo every prime."""
        if a.shape != b.shape:
            return False
        return torch.equal(self.canonical(a), self.canonical(b))

    def fingerprints(self, x: Tensor) -> Words:
        """One 64-bit number for each value, in a flat array."""
        first, second = _hashed([self._words(x)], _key(self.seed, "fingerprint"), commutes=False)
        return _mixed(first ^ second)

    def _words(self, x: Tensor) -> Words:
        """(primes, n), 0 to p - 1."""
        words = x.reshape(self.count, -1).to(torch.int64).numpy()
        words += (words >> 63) & np.array(self.primes, np.int64)[:, None]
        return words.view(np.uint64)


def _primes(random: np.random.Generator, count: int) -> tuple[int, ...]:
    found: list[int] = []
    while len(found) < count:
        candidate = int(random.integers(2 ** (_BITS - 2), 2 ** (_BITS - 1))) * 2 + 1
        if candidate not in found and all(candidate % divisor for divisor in range(3, 2 ** (_BITS // 2) + 1, 2)):
            found.append(candidate)
    return tuple(found)


@lru_cache(1024)
def _key(seed: int, name: str) -> Words:
    material = b"".join(blake2b(f"{seed}\0{name}\0{part}".encode()).digest() for part in range(3))
    return np.frombuffer(material, np.uint64)


def _mixed(word: Words) -> Words:
    """A bijection in which every bit depends on every bit; sums and products wrap around. In place."""
    word ^= word >> np.uint64(30)
    word *= np.uint64(0xBF58476D1CE4E5B9)
    word ^= word >> np.uint64(27)
    word *= np.uint64(0x94D049BB133111EB)
    word ^= word >> np.uint64(31)
    return word


def _hashed(operands: list[Words], key: Words, *, commutes: bool) -> Words:
    """(primes, n) each -> two words of n."""
    begun = key[PRIMES : PRIMES + 2, None]
    keys = key[PRIMES + 2 : 2 * PRIMES + 2].reshape(2, PRIMES // 2, 1)
    state, each = begun, []
    for operand in operands:
        for i in range(0, len(operand), 2):
            word = operand[i] | (operand[i + 1] << np.uint64(_BITS))
            state = state ^ word
            state += keys[:, i // 2]
            state = _mixed(state)
        if commutes:
            each.append(state)
            state = begun
    return _mixed(np.add.reduce(each)) if commutes else state
