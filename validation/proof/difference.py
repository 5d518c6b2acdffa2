"""Where a program leaves what it has to equal."""

from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from runtimes.evaluator.program import Operation
from runtimes.field.operators import FieldTensor
from runtimes.field.residues import PRIMES
from validation.proof.subject import Outcome, Proof, Right, Subject, images_for, run_form


def difference(
    subject: Subject, right: Right, batch: int | None, *, beyond: bool = False, together: bool = False
) -> Proof:
    """Looks for the first operation whose result the deploy form has nowhere, on the way to the output.

    A result may lie in the form in another layout, split or joined with others: it is known if each of its values is.
    What is computed from unknown values is looked at no further where it is known itself, unless `beyond`.
    """
    primes = PRIMES if subject.exact else _PRIMES
    images = images_for(right.size, batch, primes=primes, together=together)
    known = _known(right, images)
    strangers, dependent = set[str](), set[str]()

    def look(name: str, value: Tensor) -> Tensor:
        if isinstance(value, FieldTensor):
            dependent.add(name)
            if not known.all_of(value):
                strangers.add(name)
        return value

    program = subject.program
    subject.run(images, exchange=look)
    makers = {name: operation for operation in program.operations for name, _ in operation.outputs}
    strange: list[Operation] = []
    todo, done = list(subject.results), set[str]()
    while todo:
        name = todo.pop()
        if name in done or name not in makers:
            continue
        done.add(name)
        if name in strangers:
            strange.append(makers[name])
        elif not beyond:
            continue
        todo.extend(makers[name].names())
    first = min(strange, key=program.operations.index, default=None)
    if first is None:
        names = " and ".join(f"'{name}'" for name in subject.results)
        verb = "is" if len(subject.results) == 1 else "are"
        return Proof(Outcome.DIFFERENT, f"{names} {verb} the {subject.compared}'s in another order")

    def read_by(operation: Operation) -> list[str]:
        read = (each for name in operation.names() for each in _constants_of(name, makers, dependent))
        return [name for name in read if name in program.constants]

    held = ", ".join(name for name in read_by(first) if ":" not in name)
    of = f" of {held}" if held else ""
    detail = f"{first.kind} '{first.name}'{of} gives what the {subject.compared} has nowhere"
    read = frozenset(name for operation in strange for name in read_by(operation))
    return Proof(Outcome.DIFFERENT, detail, first.name, constants=read)


_PRIMES = 2
"""Enough to tell which values are others, once it is known that some are. Exact constants have the residues of all."""

_KNOWN: "OrderedDict[tuple[int, int], tuple[Right, _Known]]" = OrderedDict()
_KEPT = 2


def _known(right: Right, images: FieldTensor) -> "_Known":
    """Gathered once for all files that have to equal the same form."""
    key = id(right), images.field.residues.count
    if key not in _KNOWN:
        _KNOWN[key] = right, _Known(right, images)
        while len(_KNOWN) > _KEPT:
            _KNOWN.popitem(last=False)
    return _KNOWN[key][1]


class _Known:
    """Which values the deploy form computes: a Bloom filter over their fingerprints (Bloom, CACM 1970), two probes."""

    def __init__(self, right: Right, images: FieldTensor) -> None:
        self._there = np.zeros(1 << _FILTER_BITS, np.bool_)
        self._enter(images)
        self._enter(images.field.constant(torch.zeros(1)))
        with images.field.showing(self._enter):
            run_form(right.form, images)

    def _enter(self, value: FieldTensor) -> None:
        for places in _places(value):
            self._there[places] = True

    def all_of(self, value: FieldTensor) -> bool:
        """Every value of a tensor is computed, but for a chance of a few per cent for each that is not."""
        return all(bool(self._there[places].all()) for places in _places(value))


_FILTER_BITS = 26


def _places(value: FieldTensor) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    prints = value.field.residues.fingerprints(value.residues)
    mask = np.uint64((1 << _FILTER_BITS) - 1)
    return (prints & mask).astype(np.intp), (prints >> np.uint64(64 - _FILTER_BITS)).astype(np.intp)


def _constants_of(name: str, makers: Mapping[str, Operation], dependent: Collection[str]) -> Iterator[str]:
    """What a value that does not depend on the image is, or is computed from."""
    if name not in makers:
        yield name
    elif name not in dependent:
        for read in makers[name].names():
            yield from _constants_of(read, makers, dependent)
