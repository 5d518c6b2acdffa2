"""The table of aten operators, and what its functions share: constants made exact, axes, rows of images."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from runtimes.evaluator.field.sizes import Sizes
from runtimes.evaluator.field.tensor import FieldTensor, NoMeaning, Unlike

aten = torch.ops.aten
_Operator = TypeVar("_Operator", bound=Callable[..., Any])


def computes(*names: Any) -> Callable[[_Operator], _Operator]:
    """Enters a function as what these aten operators compute."""

    def enter(function: _Operator) -> _Operator:
        for name in names:
            FieldTensor.operators[name] = function  # type: ignore[index]
        return function

    return enter


def lifted(value: Any, like: FieldTensor) -> FieldTensor:
    """A FieldTensor as it is; a constant tensor or number exactly.

    Raises:
        NoMeaning: it is computed from the number of images.
    """
    if isinstance(value, FieldTensor):
        return value
    if isinstance(value, Sizes):
        raise Unlike("a value depends on the number of images")
    return like.field.constant(value, shared=True) if isinstance(value, Tensor) else like.field.number(float(value))


def operands(*values: Any) -> list[FieldTensor]:
    """All as FieldTensors; at least one is."""
    like = next(value for value in values if isinstance(value, FieldTensor))
    return [lifted(value, like) for value in values]


def floats(*values: Any) -> None:
    """Refuses arithmetic on integers: a runtime's wrap around, and residues do not.

    Raises:
        NoMeaning: a value is of an integer type, or a truth value.
    """
    for value in values:
        if isinstance(value, FieldTensor) and not value.dtype.is_floating_point:
            raise NoMeaning(f"arithmetic on {str(value.dtype).removeprefix('torch.')} may wrap around")


def common_rows(*values: FieldTensor) -> int:
    """Of an operation element by element on operands that are broadcast."""
    rank = max(value.dim() for value in values)
    dependent = [value for value in values if value.rows]
    if not dependent:
        return 0
    rows = dependent[0].rows
    for value in values:
        apart = value.rows and (value.rows != rows or value.dim() != rank)
        if apart or (not value.rows and value.dim() == rank and value.shape[0] != 1):
            raise Unlike("images of one batch are treated unlike each other")
    return rows


def all_axes(axes: int | Sequence[int] | None, x: FieldTensor) -> tuple[int, ...]:
    """Counted from 0. None and an empty list are all."""
    chosen = [axes] if isinstance(axes, int) else list(axes or range(x.dim()))
    return tuple(axis % x.dim() for axis in chosen)


def not_across_images(x: FieldTensor, *axes: int) -> None:
    """Refuses an operation over the first axis of a tensor with a row for each image."""
    if x.rows and 0 in axes:
        raise Unlike("an operation goes across the images of a batch")
