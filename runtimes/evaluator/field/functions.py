"""Keyed random functions of residues: what stands for an operator that is not linear.

A value's residues are first hashed to four sums of products with random numbers, which differ for different values but
for a chance of 2^-27 each (multilinear hashing over the integers: Carter and Wegman 1979), then mixed to a state of 128
bits, from which a generator draws (splitmix64: Steele, Lea and Flood, OOPSLA 2014).
"""

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_SUMS = 4
_COEFFICIENT = 1 << 26
"""Times a residue of 2^21, times eight: 2^50, which float64 holds."""

_BLOCK = 1 << 13
"""Values that are taken at once: what a core's cache holds."""

Words = NDArray[np.uint64]


class RandomFunctions:
    """Functions from residues modulo `primes` to residues, by name. Without the seed they are not known."""

    def __init__(self, seed: int, primes: Sequence[int]) -> None:
        self._seed = seed
        random = np.random.default_rng([seed, 1])
        drawn = random.integers(-_COEFFICIENT, _COEFFICIENT, (_SUMS, len(primes)))
        self._coefficients = torch.tensor(drawn, dtype=torch.float64)
        p = np.array([*primes[::2], *primes[1::2]], np.float64).reshape(-1, 1)
        self._scale, self._half = (p - 1) * 2.0**-32, (p - 1) / 2

    def values(self, name: str, operands: Sequence[Tensor], *, commutes: bool, at_zero: Tensor | None) -> Tensor:
        """(primes, n) each -> (primes, n), never 0; `at_zero`, (primes, 1), where all residues of the first are 0."""
        count, size = operands[0].shape
        result = np.empty((count, size))
        key = _key(self._seed, name)
        for start in range(0, size, _BLOCK):
            block = slice(start, start + _BLOCK)
            sums = [self._sums(x[:, block]) for x in operands]
            out = result[:, block]
            self._draw(*_state(sums, key, commutes=commutes), out)
            if at_zero is not None:
                nothing = ~sums[0].any(0)
                if nothing.any():
                    out[:, nothing] = at_zero.numpy()
        return torch.from_numpy(result)

    def fingerprints(self, x: Tensor) -> Words:
        """(primes, n) -> one 64-bit number for each value."""
        size = x.shape[1]
        result = np.empty(size, np.uint64)
        key = _key(self._seed, "fingerprint")
        for start in range(0, size, _BLOCK):
            block = slice(start, start + _BLOCK)
            first, second = _state([self._sums(x[:, block])], key, commutes=False)
            result[block] = _mixed(first + _mixed(second))
        return result

    def _sums(self, x: Tensor) -> Words:
        """(primes, n) -> (4, n): integers below 2^50, taken modulo 2^64."""
        return (self._coefficients @ x).numpy().astype(np.int64).view(np.uint64)

    def _draw(self, seed: Words, step: Words, out: NDArray[np.float64]) -> None:
        """Fills (primes, n): of each word drawn two halves, scaled to the numbers below a prime, around 0."""
        half = len(out) // 2
        words = np.empty((half, seed.size), np.uint64)
        step |= np.uint64(1)
        for i in range(half):
            seed += step
            words[i] = seed
        _mixed(words)
        drawn = np.empty_like(out)
        drawn[:half] = words >> np.uint64(32)
        drawn[half:] = words & np.uint64(0xFFFFFFFF)
        drawn *= self._scale
        np.floor(drawn, out=drawn)
        drawn -= self._half
        drawn += drawn >= 0
        out[::2], out[1::2] = drawn[:half], drawn[half:]


def _state(operands: Sequence[Words], key: Words, *, commutes: bool) -> tuple[Words, Words]:
    """Two words of n."""
    if commutes:
        states = [_state([operand], key, commutes=False) for operand in operands]
        return np.add.reduce([_mixed(first) for first, _ in states]), np.add.reduce(
            [_mixed(second) for _, second in states]
        )
    first, second = np.full((2, operands[0].shape[1]), key[:2, None], np.uint64)
    for sums in operands:
        first ^= sums[0]
        second ^= sums[2]
        first, second = _mixed(first), _mixed(second)
        first += sums[1]
        second += sums[3]
    return first, second


def _mixed(word: Words) -> Words:
    """In place, a bijection in which every bit depends on every bit; sums and products wrap around."""
    other = word >> np.uint64(30)
    word ^= other
    word *= np.uint64(0xBF58476D1CE4E5B9)
    np.right_shift(word, np.uint64(27), out=other)
    word ^= other
    word *= np.uint64(0x94D049BB133111EB)
    np.right_shift(word, np.uint64(31), out=other)
    word ^= other
    return word


def _key(seed: int, name: str) -> Words:
    return np.frombuffer(blake2b(f"{seed}\0{name}".encode(), digest_size=16).digest(), np.uint64)
