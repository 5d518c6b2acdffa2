"""Which tensors a program or a form computes, each by a number that does not depend on the order of its values."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from runtimes.evaluator.field.operators import FieldTensor

Print = tuple[int, ...]


_EXACT = 1024
"""Products of two residues, 2^42 at most, whose sum float64 holds: in integers from there on."""


def print_of(value: FieldTensor) -> Print:
    """Of the residues modulo pairs of primes the sums of their products: degree 2, modulo 2^64.

    Tensors of the same values in another order have the same; of others it is the same with a chance below 2^-40.
    """
    if value.noted is None:
        pairs = value.residues.reshape(value.residues.shape[0] // 2, 2, -1)
        products = pairs[:, 0] * pairs[:, 1]
        whole = products.shape[1] // _EXACT * _EXACT
        sums = products[:, :whole].reshape(len(products), -1, _EXACT).sum(2).to(torch.int64).sum(1)
        if whole < products.shape[1]:
            sums += products[:, whole:].sum(1).to(torch.int64)
        value.noted = (pairs.shape[-1], *sums.tolist())
    noted: Print = value.noted
    return noted


def _flat(value: FieldTensor) -> bool:
    """Zero or one everywhere, or minus one: no keyed function gives that."""
    residues = value.residues
    if not residues.numel():
        return False
    first = residues[(slice(None), *(slice(1),) * (residues.dim() - 1))]  # nearly always enough to tell
    return bool((first.abs() <= 1).all() and (first == first[0]).all() and (residues == first).all())


def in_order(value: FieldTensor) -> Print:
    """The same with the values' places as factors: of a tensor's shape and of the order of its values too."""
    pairs = value.residues.reshape(value.residues.shape[0] // 2, 2, -1)
    places = torch.arange(1, 2 * pairs.shape[-1], 2) * _PLACE
    return (*value.shape, *((pairs[:, 0] * pairs[:, 1]).to(torch.int64) * places).sum(1).tolist())


_PLACE = 0x1E3779B97F4A7C15
"""Odd: it spreads the places over 64 bits."""


def print_of_constant(value: Tensor) -> Print:
    """The same of plain numbers, by their bits in float64."""
    bits = value.double().reshape(-1).numpy().view(np.uint64)
    mixed = (bits ^ (bits >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    return int(bits.size), int(((mixed ^ (mixed >> np.uint64(32))) * mixed).sum())


class Computed:
    """The results of one run, by name: of what depends on the image, and of what is computed of constants alone.

    `flat`: of the first, those whose values are all the same small whole number.
    """

    def __init__(self) -> None:
        self.prints: dict[str, Print] = {}
        self.flat: set[str] = set()
        self.constants: dict[str, Tensor] = {}

    def note(self, name: str, value: Any) -> None:
        """To be called with every result."""
        if isinstance(value, FieldTensor):
            self.prints[name] = print_of(value)
            if _flat(value):
                self.flat.add(name)
        elif isinstance(value, Tensor) and value.is_floating_point():
            self.constants[name] = value


def held_by(state: Mapping[str, Tensor]) -> frozenset[Print]:
    """The prints of a form's constants."""
    return frozenset(print_of_constant(value) for value in state.values() if not isinstance(value, FieldTensor))
