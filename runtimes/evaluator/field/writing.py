"""In-place writes to constants, and tensors made while constants are rewritten: code that edits a model's parameters.

Outside of `Writing` nothing is written in place: there a program is evaluated, and its values are not changed again.
"""

from collections.abc import Callable, Mapping
from typing import Any, Self

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from runtimes.evaluator.field.elementwise import add, div, mul, sub
from runtimes.evaluator.field.table import aten, computes, lifted
from runtimes.evaluator.field.tensor import Field, FieldTensor, NoMeaning

_MAKES = (torch.empty, torch.empty_like)


class Writing(TorchFunctionMode):
    """Within, FieldTensors can be written to, and new parameters are FieldTensors.

    A new tensor's values are NaN until they are written, whatever its initialization would make of them: a value that
    nobody wrote equals nothing.
    """

    def __init__(self, field: Field) -> None:
        super().__init__()
        self._field = field

    def __enter__(self) -> Self:
        self._field.writing = True
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        self._field.writing = False

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Makes tensors of floats, unless they are to have no values at all."""
        given = dict(kwargs or {})
        if func in _MAKES:
            like = func(*args, **{**given, "device": "meta"})
            device = given.get("device") or (args[0].device if isinstance(args[0], Tensor) else "cpu")
            if like.dtype.is_floating_point and torch.device(device).type != "meta":
                return FieldTensor(self._field, self._field.residues.nothing(tuple(like.shape)), 0)
        return func(*args, **given)


def _write(target: FieldTensor, value: FieldTensor) -> FieldTensor:
    """Through views as well: their residues are views of the whole's."""
    if not target.field.writing:
        raise NoMeaning("a value is written in place")
    if target.rows or value.rows:
        raise NoMeaning("a value that depends on the image is written in place")
    target.noted = None
    target.residues.copy_(target.field.residues.aligned(value.residues, target.dim()))
    return target


def _in_place(compute: Callable[..., FieldTensor], *overloads: Any) -> None:
    def function(target: FieldTensor, *given: Any, **more: Any) -> FieldTensor:
        return _write(target, compute(target, *given, **more))

    computes(*overloads)(function)


_in_place(add, aten.add_.Tensor, aten.add_.Scalar)
_in_place(sub, aten.sub_.Tensor, aten.sub_.Scalar)
_in_place(mul, aten.mul_.Tensor, aten.mul_.Scalar)
_in_place(div, aten.div_.Tensor, aten.div_.Scalar)


@computes(aten.copy_.default, aten.fill_.Scalar, aten.fill_.Tensor)
def _copy(target: Any, value: Any, non_blocking: bool = False) -> FieldTensor:
    if not isinstance(target, FieldTensor):
        raise NoMeaning("a value is written into a tensor of floats")
    return _write(target, lifted(value, target))


@computes(aten.zero_.default)
def _zero(target: FieldTensor) -> FieldTensor:
    return _write(target, lifted(0.0, target))


@computes(aten.uniform_.default, aten.normal_.default)
def _initialized(target: FieldTensor, *_: float, generator: Any = None) -> FieldTensor:
    """Left as it is: NaN until it is written."""
    if not target.field.writing:
        raise NoMeaning("random numbers")
    return target
