"""Where a program leaves what it has to equal."""

from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from runtimes.evaluator.field.functions import Words
from runtimes.evaluator.field.operators import FieldTensor
from runtimes.evaluator.field.residues import PRIMES
from runtimes.evaluator.program import Operation
from validation.proof.outcome import Outcome, Proof
from validation.proof.subject import Right, Subject, images_for, results_of


def difference(
    subject: Subject, right: Right, batch: int | None, *, beyond: bool = False, together: bool = False
) -> Proof:
    """Looks for the first operation whose result the deploy form has nowhere, on the way to the output.

    A result may lie in the form in another layout, split or joined with others: it is known if each of its values is.
    What is computed from unknown values is looked at no further where it is known itself, unless `beyond`. If that
    operation reads known values in an order that is unknown, those that brought them into it are named.
    """
    primes = PRIMES if subject.exact else _PRIMES
    images = images_for(right.size, batch, primes=primes, together=together)
    known = _known(right, images)
    strangers, dependent, disordered = set[str](), set[str](), set[str]()

    def look(name: str, value: Tensor) -> Tensor:
        if isinstance(value, FieldTensor):
            dependent.add(name)
            prints = value.field.residues.fingerprints(value.residues)
            if not known.all_of(prints):
                strangers.add(name)
            elif not known.in_order(prints):
                disordered.add(name)
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
    order = {id(operation): place for place, operation in enumerate(program.operations)}
    first = min(strange, key=lambda operation: order[id(operation)], default=None)
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
    movers = [f"{each.kind} '{each.name}'" for each in _disorder(first, makers, disordered)]
    if movers:
        detail = f"{detail}: it reads values in an order that is not the model's, after {' and '.join(movers)}"
    return Proof(Outcome.DIFFERENT, detail, first.name, constants=read)


def _disorder(
    operation: Operation, makers: Mapping[str, Operation], disordered: Collection[str]
) -> Iterator[Operation]:
    """Those that first bring known values into an unknown order, on each way to an operation."""
    todo, done = [operation], set[str]()
    while todo:
        reader = todo.pop()
        before = [makers[name] for name in reader.names() if name in disordered]
        if not before and reader is not operation:
            yield reader
        todo += [maker for maker in before if maker.name not in done]
        done.update(maker.name for maker in before)


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
        self._orders = set[int]()
        self._enter(images)
        self._enter(images.field.constant(torch.zeros(1)))
        with images.field.showing(self._enter):
            results_of(right.form, images, probabilities=len(right.results) > 1)

    def _enter(self, value: FieldTensor) -> None:
        prints = value.field.residues.fingerprints(value.residues)
        self._orders.add(_order(prints))
        for places in _places(prints):
            self._there[places] = True

    def all_of(self, prints: Words) -> bool:
        """Every value of a tensor is computed, but for a chance of a few per cent for each that is not."""
        return all(bool(self._there[places].all()) for places in _places(prints))

    def in_order(self, prints: Words) -> bool:
        """A tensor of the same values one after the other, of whatever shape, is computed."""
        return _order(prints) in self._orders


_FILTER_BITS = 26


def _order(prints: Words) -> int:
    places = np.arange(1, 2 * prints.size, 2, np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return int((prints * places).sum())


def _places(prints: Words) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    mask = np.uint64((1 << _FILTER_BITS) - 1)
    return (prints & mask).astype(np.intp), (prints >> np.uint64(64 - _FILTER_BITS)).astype(np.intp)


def _constants_of(name: str, makers: Mapping[str, Operation], dependent: Collection[str]) -> Iterator[str]:
    """What a value that does not depend on the image is, or is computed from."""
    if name not in makers:
        yield name
    elif name not in dependent:
        for read in makers[name].names():
            yield from _constants_of(read, makers, dependent)
