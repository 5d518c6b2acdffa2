"""Whether a program rounds what its precision does not round: exact arithmetic does not see it, nor, perhaps, a sample.

A float16 number overflows at 65504: x - half(x) + half(x) is x up to there, and no number beyond.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from runtimes.evaluator.evaluator import Arithmetic, Evaluator, Language
from runtimes.evaluator.program import FLOATS, Operation, Program
from runtimes.precision import Dtype, Precision
from validation.proof.outcome import Outcome, Proof

_TYPES = {"f16": "fp16", "f32": "fp32", "f64": "fp64"}
_CASTS = {"Cast": "to", "Convert": "destination_type", "cast": "dtype"}
_LIKE = {"CastLike": "target_type", "ConvertLike": "like"}
_WIDTHS = {"bf16": 16, "fp16": 16, "fp32": 32, "fp64": 64}
_HALVES = frozenset({"bf16", "fp16"})
_APART, _APART_IN_HALVES = 2.0**-14, 2.0**-6
"""By how much of its largest value a constant may depend on the arithmetic that it is computed in: far above what
rounding costs healthy files, far below what a choice or a weight that hangs on it would be off by."""


def narrowed(program: Program, precision: Precision) -> Proof | None:
    """The first operation that makes of what depends on the image a narrower float than the precision has.

    Of a constant, a narrower one than it is stored in: what is compared bit for bit is what is stored.
    """
    allowed = {"fp32", "fp64", *(("fp16",) if precision.activations is Dtype.FP16 else ())}
    types = program.types() | {name: constant.type for name, constant in program.constants.items()}
    dependent = set(program.inputs)
    for operation in program.operations:
        varies = not dependent.isdisjoint(operation.names())
        dependent.update(name for name, _ in operation.outputs if varies)
        made = {declared.dtype for _, declared in operation.outputs if declared is not None}
        if (like := _LIKE.get(operation.kind)) is not None:
            target = types.get(str(operation.inputs[like]))
            made.add("float of an unknown width" if target is None else target.dtype)
        made.add(_asked(program, operation))
        if not varies:
            stored = {types[name].dtype for name in operation.names() if name in types} & FLOATS
            if lost := sorted(new for new in made & FLOATS for old in stored if _loses(old, new)):
                said = f"{operation.kind} '{operation.name}' rounds a constant to {lost[0]}"
                return Proof(Outcome.DIFFERENT, said, operation.name)
        elif other := sorted(made & (FLOATS | {"float of an unknown width"}) - allowed):
            said = f"{operation.kind} '{operation.name}' makes a {other[0]} of it, which the precision has not"
            return Proof(Outcome.DIFFERENT, said, operation.name)
    return None


def _loses(old: str, new: str) -> bool:
    return old != new and _WIDTHS[new] <= _WIDTHS[old]


def folded_apart(program: Program, language: Language) -> Proof | None:
    """The first operation on constants alone that gives something else in the file's arithmetic than in the proof's.

    (1e8 + 1) - 1e8 is 1 in float64, and 0 in float32: a choice that hangs on it is another one.
    """
    known, folded = set(program.constants), list[Operation]()
    for operation in program.operations:
        if known.issuperset(operation.names()):
            known.update(name for name, _ in operation.outputs)
            folded.append(operation)
    if not folded:
        return None
    names = tuple(name for operation in folded for name in dict(operation.outputs))
    read = {name for operation in folded for name in operation.names()}
    constants = {name: constant for name, constant in program.constants.items() if name in read}
    part = replace(program, inputs={}, outputs=names, operations=tuple(folded), constants=constants)
    wide, own = (Evaluator(part, arithmetic, language)({}) for arithmetic in (Arithmetic.FLOAT64, Arithmetic.DECLARED))
    halves = any(declared is not None and declared.dtype in _HALVES for each in folded for _, declared in each.outputs)
    for operation in folded:
        for name, _ in operation.outputs:
            if not _alike(wide[name], own[name], _APART_IN_HALVES if halves else _APART):
                said = f"{operation.kind} '{name}' of constants is another number in float32 than in float64"
                return Proof(Outcome.DIFFERENT, said, operation.name)
        if operation.kind in (*_CASTS, *_LIKE) and not _same_integers(_given(program, operation, own), own[name]):
            said = f"{operation.kind} '{operation.name}' makes an integer of a constant that is out of its range"
            return Proof(Outcome.DIFFERENT, said, operation.name)
    return None


def _given(program: Program, operation: Operation, computed: Mapping[str, Any]) -> Any:
    """What a conversion reads."""
    name = str(operation.inputs["x"])
    return computed[name] if name in computed else torch.tensor(program.constants[name].value)


def _alike(one: object, other: object, apart: float) -> bool:
    if not isinstance(one, Tensor) or not isinstance(other, Tensor):
        return bool(np.all(one == other))
    if not one.is_floating_point():
        return torch.equal(one, other)
    x, y = one.double(), other.double()
    if not x.numel() or float((x - y).abs_().max()) <= apart * float(x.abs().max()) < float("inf"):
        return True
    finite = x.isfinite()
    if not torch.equal(finite, y.isfinite()) or not torch.equal(x[~finite].nan_to_num(), y[~finite].nan_to_num()):
        return False
    off, largest = (x - y)[finite].abs(), x[finite].abs()
    return not off.numel() or bool(off.max() <= apart * largest.max())


def _same_integers(given: object, made: object) -> bool:
    if not isinstance(given, Tensor) or not isinstance(made, Tensor) or made.dtype is torch.bool:
        return True
    return made.is_floating_point() or torch.equal(made.double(), given.double().trunc())


def _asked(program: Program, operation: Operation) -> str:
    """The type that a cast names; of others nothing."""
    given = program.constants.get(str(operation.inputs.get(_CASTS.get(operation.kind, ""))))
    name = "" if given is None else str(given.value)
    return _TYPES.get(name, name)
