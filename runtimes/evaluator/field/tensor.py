"""A torch tensor whose values are residues: whatever PyTorch code is run on it computes in exact arithmetic."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from runtimes.evaluator.field.residues import Residues

_REVERSED = Tensor.__rmatmul__
_PRODUCTS = (torch.matmul, Tensor.matmul, Tensor.__matmul__, _REVERSED)


class NoMeaning(RuntimeError):
    """An operation that has no meaning in exact arithmetic."""


class Unlike(NoMeaning):
    """An operation that treats one image unlike another, or lets their number matter."""


@dataclass(frozen=True, slots=True)
class Quantizer:
    """Of an activation: one scale and one zero point, and the integers from `low` to `high`.

    `limits`: of one that was given by what its lowest and its highest integer stand for.
    """

    scale: float
    zero: float
    low: int
    high: int
    limits: tuple[float, ...] = ()

    @property
    def drops_negatives(self) -> bool:
        """It is given by its limits, and the lower one is zero: converters leave a ReLU to it."""
        return bool(self.limits) and self.limits[0] == 0

    @property
    def numbers(self) -> tuple[float, ...]:
        """All that tells it from others."""
        return (self.scale, self.zero, self.low, self.high, *self.limits)


class Field:
    """The arithmetic, and how many images are evaluated at once.

    `uniform`: an image is a row of the first axis throughout, and an operation that does not keep it so is refused.
    What holds for one number of images then holds for every other.
    `repeated`: how many of the images have the same values: residues are held, and computed, for one of them.
    """

    def __init__(self, residues: Residues, batch: int, *, uniform: bool, repeated: int = 1) -> None:
        self.residues = residues
        self.batch = batch
        self.uniform = uniform
        self.repeated = repeated
        self.writing = False
        self._numbers: dict[float, Tensor] = {}
        self.on_quantizer: Callable[[Quantizer, FieldTensor], None] | None = None
        self._shown: Callable[[FieldTensor], None] | None = None

    @contextmanager
    def showing(self, to: "Callable[[FieldTensor], None]") -> Iterator[None]:
        """Within, `to` is shown every result, those before a bias is added included."""
        self._shown = to
        try:
            yield
        finally:
            self._shown = None

    def see(self, value: "FieldTensor") -> None:
        """Shows `value` to whom it may concern."""
        if self._shown is not None:
            self._shown(value)

    def read_by(self, quantizer: "Quantizer", value: "FieldTensor") -> None:
        """Tells who asked for it that `quantizer` reads `value`."""
        if self.on_quantizer is not None:
            self.on_quantizer(quantizer, value)

    def images(self, shape: Sequence[int]) -> "FieldTensor":
        """Random values in the place of images, the same for every field of these residues and this shape."""
        key = (shape[0] // self.repeated, *shape[1:])
        residues = self.residues.function("image", self.residues.of(torch.arange(torch.Size(key).numel()).reshape(key)))
        return FieldTensor(self, residues, int(self.uniform))

    def constant(self, value: Tensor, *, shared: bool = False) -> "FieldTensor":
        """A constant, exactly. It is no result, and not shown. `shared`: nothing will be written into it."""
        shown, self._shown = self._shown, None
        try:
            return FieldTensor(self, self.residues.shared(value) if shared else self.residues.of(value), 0)
        finally:
            self._shown = shown

    def number(self, value: float) -> "FieldTensor":
        """The same of one number; there are few, and each comes often."""
        if value not in self._numbers:
            self._numbers[value] = self.residues.of(torch.tensor(value, dtype=torch.float64))
        return FieldTensor(self, self._numbers[value], 0)


class FieldTensor(Tensor):
    """Residues (primes, ...) of a tensor (...).

    `rows`: how many entries of the first axis belong to each image, in the images' order; 0: it does not depend on the
    images, or the number of images is fixed. `codes`: where it was dequantized, the quantizer and its integers.
    `quantizer`: of integers, what gave them. `nonnegative`: no value can be below zero. `noted`: what whoever is shown
    results notes of its values, in whatever order they are.
    """

    field: Field
    residues: Tensor
    rows: int
    codes: "tuple[Quantizer, FieldTensor] | None"
    quantizer: "Quantizer | None"
    nonnegative: bool
    noted: Any

    operators: ClassVar[Mapping[Any, Callable[..., Any]]] = {}
    """What each aten operator computes; filled by runtimes/evaluator/field/operators.py."""

    def __new__(  # noqa: D102
        cls, field: Field, residues: Tensor, rows: int, dtype: torch.dtype = torch.float64, noted: Any = None
    ) -> Self:
        shape = residues.shape[1:]
        if rows and field.repeated > 1:
            shape = torch.Size([shape[0] * field.repeated, *shape[1:]])
        self: Self = Tensor._make_wrapper_subclass(cls, shape, dtype=dtype)
        self.field, self.residues, self.rows = field, residues, rows
        self.codes, self.quantizer, self.nonnegative, self.noted = None, None, False, noted
        field.see(self)
        return self

    def __repr__(self, **_: object) -> str:  # type: ignore[override]
        """Its shape: the values are random."""
        return f"FieldTensor({tuple(self.shape)}, rows={self.rows})"

    def like(self, residues: Tensor, rows: int | None = None) -> "FieldTensor":
        """Another tensor of the same field."""
        return FieldTensor(self.field, residues, self.rows if rows is None else rows)

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Products with a constant, before PyTorch repeats it for every image; the rest one level below."""
        if func in _PRODUCTS and not all(isinstance(operand, cls) for operand in args):
            return cls.operators[torch.ops.aten.matmul.default](*(reversed(args) if func is _REVERSED else args))
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **dict(kwargs or {}))

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """The operator's function of the table, or of the operators that it is made of."""
        given = dict(kwargs or {})
        compute = cls.operators.get(func)
        if compute is None:
            result = func.decompose(*args, **given)
            if result is NotImplemented:
                raise NoMeaning(f"{func} has no meaning in exact arithmetic")
            return result
        return compute(*args, **given)


def field_of(*values: Any) -> Field:
    """The field of the first FieldTensor among the arguments of an operator."""
    return next(leaf.field for leaf in tree_leaves(values) if isinstance(leaf, FieldTensor))
