"""The quantizers that a program has between its operators: by what they read, and whether calibration knows them.

A quantizer belongs to a tensor by the name of its scale, or its own where it has a range. What that tensor's scale is
only calibration knows: the reference has the digest. That it fits the tensor's values is the ranges gate's business.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from efficientvit.digests import constant_digest
from runtimes.evaluator.evaluator import Exchange
from runtimes.evaluator.field.elementwise import relu
from runtimes.evaluator.field.tensor import FieldTensor, Quantizer
from runtimes.evaluator.program import Operation, Program
from runtimes.precision import Dtype
from runtimes.reader import RANGE
from validation.proof.values import Print, in_order, print_of

_SUFFIXES = {"scale": "_scale", "zero": "_zero_point"}
_OF_A_CONSTANT, _OF_A_QUANTIZER = "_output", "_DequantizeLinear"
"""What TensorRT's importer puts behind the name of a constant, and OpenVINO's converter behind that of a tensor."""

LIMITS = ("input_low", "input_high", "output_low", "output_high")

_SIGNED, _UNSIGNED = (-128, 127), (0, 255)
_INTEGERS = {Dtype.INT8: (_SIGNED,), Dtype.UINT8: (_UNSIGNED,), Dtype.SYMMETRIC8: (_SIGNED, _UNSIGNED)}
"""Which integers activations of a precision become."""


@dataclass
class Quantizers:
    """Collects them while the program is evaluated in exact arithmetic.

    `wrong`: what is wrong with one, by the name of its operation.
    """

    program: Program
    activations: Dtype
    digests: Mapping[str, str]
    wrong: dict[str, str] = field(default_factory=dict)
    count: int = 0
    _read: list[tuple[Quantizer, FieldTensor]] = field(default_factory=list)
    _tensors: dict[str, FieldTensor] = field(default_factory=dict)
    _meant: set[str] = field(default_factory=set)
    """Tensors whose quantizer reads them moved, by name: they are kept for it."""

    _by_values: dict[Print, dict[Print, Quantizer]] = field(default_factory=dict)
    """Each by the values that it reads: in whatever order, then in theirs."""

    @contextmanager
    def reading(self, images: FieldTensor) -> Iterator[Exchange]:
        """Within, the program is to be evaluated on `images`, and to be shown each result."""
        (image,) = self.program.inputs
        self._tensors[image] = images
        makers = {name: operation for operation in self.program.operations for name, _ in operation.outputs}
        self._meant = {
            base
            for operation in self.program.operations
            for base in map(_base, operation.names())
            if base in makers and base not in operation.names()
        }

        def exchange(name: str, value: Tensor) -> Tensor:
            if isinstance(value, FieldTensor):
                self._computed(name, makers[name], value)
            return value

        images.field.on_quantizer = lambda quantizer, value: self._read.append((quantizer, value))
        try:
            yield exchange
        finally:
            images.field.on_quantizer = None

    def _computed(self, name: str, operation: Operation, value: FieldTensor) -> None:
        if name in self._meant:
            self._tensors[name] = value
        self.count += len(self._read)
        for quantizer, read in self._read:
            repeated = read.codes is not None and read.codes[0] == quantizer
            for tensor in (read, *((relu(read),) if quantizer.drops_negatives else ())):
                known = self._by_values.setdefault(print_of(tensor), {})
                if known.setdefault(in_order(tensor), quantizer) != quantizer:
                    self.wrong[operation.name] = "its tensor has another quantizer as well"
            misplaced = "" if repeated else self._misplaced(operation, read)
            if wrong := self._other_integers(quantizer, read) or misplaced:
                self.wrong[operation.name] = wrong
        self._read.clear()

    def of(self, value: FieldTensor) -> Quantizer | None:
        """The quantizer of the same values, in the same order where tensors in several orders have several."""
        known = self._by_values.get(print_of(value), {})
        found = set(known.values())
        return known.get(in_order(value)) if len(found) > 1 else next(iter(found), None)

    def _other_integers(self, quantizer: Quantizer, read: FieldTensor) -> str:
        """Where they are not what the precision says. A range's limits are calibration's."""
        allowed = _INTEGERS[self.activations]
        if self.activations is Dtype.SYMMETRIC8 and read.nonnegative:
            allowed = _INTEGERS[Dtype.UINT8]
        if quantizer.limits or (quantizer.low, quantizer.high) in allowed:
            return ""
        return f"it gives integers from {quantizer.low} to {quantizer.high}"

    def _misplaced(self, operation: Operation, read: FieldTensor) -> str:
        """What does not belong to the tensor that is read."""
        if set(LIMITS) <= set(operation.inputs):
            return self._out_of_range(operation)
        for role, suffix in _SUFFIXES.items():
            for parameter, given in operation.inputs.items():
                if not parameter.endswith((role, f"{role}_point")) or not isinstance(given, str):
                    continue
                constant = self.program.constants.get(given)
                if constant is None or not isinstance(constant.value, np.ndarray):
                    return f"its {role} is computed"
                name = given.removesuffix(_OF_A_CONSTANT)
                if role == "zero" and not constant.value.any() and name not in self.digests:
                    continue
                if self.digests.get(name) != constant_digest(constant.value):
                    return f"'{name}' is not what calibration found"
                base = name.removesuffix(suffix)
                of = read if base in operation.names() else self._tensors.get(base)
                if of is None or not _within(read, of):
                    return f"'{name}' is another tensor's"
        return ""

    def _out_of_range(self, operation: Operation) -> str:
        given = [self.program.constants.get(str(operation.inputs[limit])) for limit in LIMITS]
        if not all(constant is not None and isinstance(constant.value, np.ndarray) for constant in given):
            return "its range is computed"
        name = f"{operation.name.removesuffix(_OF_A_QUANTIZER)}{RANGE}"
        values = [constant.value.reshape(-1) for constant in given if constant is not None]  # type: ignore[union-attr]
        same = self.digests.get(name) == constant_digest(np.concatenate(values))
        return "" if same else f"'{name}' is not what calibration found"


def _base(name: str) -> str:
    """The tensor that a scale or a zero point is of, by its name."""
    constant = name.removesuffix(_OF_A_CONSTANT)
    return next((constant.removesuffix(end) for end in _SUFFIXES.values() if constant.endswith(end)), "")


def _within(part: FieldTensor, whole: FieldTensor) -> bool:
    """Every value of `part` is one of `whole`, or zero."""
    if part is whole:
        return True
    residues = part.field.residues
    known = np.union1d(residues.fingerprints(whole.residues), residues.fingerprints(residues.of(torch.zeros(1))))
    return bool(np.isin(residues.fingerprints(part.residues), known).all())
