"""Evaluates a program in PyTorch, in the arithmetic asked for, and checks it against the types that it declares."""

import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from types import MappingProxyType
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from efficientvit.errors import BrokenArtifact, UnknownOperation
from runtimes.evaluator.field.sizes import computed
from runtimes.evaluator.program import FLOATS, Operation, Program, TensorType

_HALVES = {"fp16": torch.float16, "bf16": torch.bfloat16}
_INTEGERS: Mapping[str, torch.dtype] = {
    name: getattr(torch, name)
    for name in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool")
}


class Arithmetic(StrEnum):
    """How floating-point values are computed.

    FLOAT64, FLOAT32: every tensor in that format, whatever the file declares, and nothing rounded to less.
    DECLARED: float32, and every result rounded to the type that the file declares for it.
    """

    FLOAT64 = "float64"
    FLOAT32 = "float32"
    DECLARED = "declared"

    @property
    def dtype(self) -> torch.dtype:
        """What values are held in."""
        return torch.float64 if self is Arithmetic.FLOAT64 else torch.float32


@dataclass(frozen=True, slots=True)
class Language:
    """What operations are called and compute, and which NumPy kinds of constants are tensors; others are values."""

    operators: Mapping[str, Callable[..., Any]]
    tensors: str


class BadOperand(ValueError):
    """An operator's input has a value that is not supported."""


Exchange = Callable[[str, Tensor], Tensor]
"""Is shown every tensor that was computed, by name, and gives the one to go on with."""


@dataclass(frozen=True, slots=True)
class _Step:
    """One operation, its constant operands bound, and the values that are not needed after it."""

    operation: Operation
    compute: Callable[..., Any]
    constants: Mapping[str, Any]
    varying: Mapping[str, str | tuple[str, ...]]
    free: tuple[str, ...]


class Evaluator:
    """A program made ready to run.

    Args:
        program: as read from the file.
        arithmetic: see `Arithmetic`.
        language: the operators that the program consists of.
        outputs: the values wanted; None for the program's own outputs.
        instead: values in the place of constants, by name.

    Raises:
        BrokenArtifact: an operation, an input of one, or a type is not supported.
    """

    def __init__(
        self,
        program: Program,
        arithmetic: Arithmetic,
        language: Language,
        outputs: tuple[str, ...] | None = None,
        instead: Mapping[str, Tensor] = MappingProxyType({}),
    ) -> None:
        self._language = language
        self._program = program
        self._arithmetic = arithmetic
        self._outputs = outputs or program.outputs
        self._types = program.types()
        held = {name: self._held(each.value) for name, each in program.constants.items() if name not in instead}
        self._constants: dict[str, Any] = {**held, **instead}
        self._checked = {operation.name: self._bound(operation) for operation in program.operations}
        self._plans: dict[frozenset[str], list[_Step]] = {}
        self.largest: dict[str, float] = {}

    def __call__(
        self,
        feeds: Mapping[str, Tensor | np.ndarray[Any, Any]],
        *,
        watch: bool = False,
        exchange: Exchange | None = None,
    ) -> dict[str, Any]:
        """The outputs by name, for values of the inputs, or of any tensors that the outputs can be computed from.

        With `watch`, `largest` gathers the greatest magnitude of every tensor over the runs; NaN counts as infinite.

        Raises:
            BrokenArtifact: an operation fails, or gives another shape than the file declares.
        """
        with torch.no_grad():
            values: dict[str, Any] = {name: self._fed(name, value) for name, value in feeds.items()}
            for step in self._plan(frozenset(feeds)):
                values.update(self._results(step, values))
                if watch:
                    self._watch(step.operation, values)
                if exchange is not None:
                    for name, _ in step.operation.outputs:
                        values[name] = exchange(name, values[name])
                for name in step.free:
                    del values[name]
        return {name: values[name] for name in self._outputs}

    def _plan(self, given: frozenset[str]) -> list[_Step]:
        if given not in self._plans:
            self._plans[given] = list(self._steps(given))
        return self._plans[given]

    def _steps(self, given: frozenset[str]) -> Iterator[_Step]:
        """The operations that the outputs need beyond what is given, in order."""
        needed, chosen = set(self._outputs), list[Operation]()
        for operation in reversed(self._program.operations):
            if any(name in needed and name not in given for name, _ in operation.outputs):
                chosen.append(operation)
                needed.update(operation.names())
        if lacking := sorted((needed & set(self._program.inputs)) - given):
            raise BrokenArtifact(f"the program needs its input '{lacking[0]}'", got=", ".join(sorted(given)))
        last: dict[str, str] = {}
        for operation in chosen:  # from the end: the first reader met is the last to read
            for name in (*operation.names(), *(name for name, _ in operation.outputs)):
                last.setdefault(name, operation.name)
        kept = {*self._outputs, *self._constants}
        freed: dict[str, list[str]] = {}
        for name, reader in last.items():
            if name not in kept:
                freed.setdefault(reader, []).append(name)
        for operation in reversed(chosen):
            compute, constants, varying = self._checked[operation.name]
            yield _Step(operation, compute, constants, varying, tuple(freed.get(operation.name, ())))

    def _bound(self, operation: Operation) -> tuple[Callable[..., Any], dict[str, Any], dict[str, Any]]:
        operators = self._language.operators
        compute = operators.get(operation.kind)
        if compute is None:
            raise UnknownOperation(
                operation.kind,
                f"operation '{operation.name}' is of an unsupported kind",
                expected=", ".join(sorted(operators)),
                got=operation.kind,
            )
        parameters = _parameters(compute)
        if unknown := sorted(set(operation.inputs) - set(parameters)):
            raise BrokenArtifact(f"{operation.kind} '{operation.name}' has an unsupported input: {unknown[0]}")
        if lacking := sorted({name for name, required in parameters.items() if required} - set(operation.inputs)):
            raise BrokenArtifact(f"{operation.kind} '{operation.name}' lacks its input {lacking[0]}")
        constants: dict[str, Any] = {}
        varying: dict[str, str | tuple[str, ...]] = {}
        for key, given in operation.inputs.items():
            if isinstance(given, str) and given in self._constants:
                constants[key] = self._constants[given]
            else:
                varying[key] = given
        return compute, constants, varying

    def _held(self, value: Any) -> Any:
        """Floating-point tensors in the evaluation's own format; everything else as Python values."""
        if not isinstance(value, np.ndarray):
            return value
        if value.dtype.kind not in self._language.tensors:
            return value.tolist()
        return torch.tensor(value, dtype=self._arithmetic.dtype if value.dtype.kind == "f" else None)

    def _fed(self, name: str, value: Tensor | np.ndarray[Any, Any]) -> Tensor:
        declared = self._types.get(name)
        tensor = torch.as_tensor(value)
        if declared is None or declared.dtype not in _INTEGERS:
            tensor = tensor.to(self._arithmetic.dtype)
        wanted = tensor.dtype if declared is None else _INTEGERS.get(declared.dtype, tensor.dtype)
        if declared is None or not declared.fits(tensor.shape) or tensor.dtype is not wanted:
            raise BrokenArtifact(
                f"the program does not take what it is fed as '{name}'",
                expected=str(declared),
                got=str(tuple(tensor.shape)),
            )
        return self._rounded(tensor, declared)

    def _rounded(self, tensor: Tensor, declared: TensorType) -> Tensor:
        if self._arithmetic is Arithmetic.DECLARED and declared.dtype in _HALVES:
            return tensor.to(_HALVES[declared.dtype]).float()
        return tensor

    def _results(self, step: _Step, values: Mapping[str, Any]) -> dict[str, Any]:
        operation = step.operation
        varying = {key: self._looked_up(given, values) for key, given in step.varying.items()}
        try:
            result = computed(step.compute, {**step.constants, **varying})
        except (BadOperand, RuntimeError, ValueError, TypeError, IndexError) as error:
            what = f"{operation.kind} '{operation.name}' cannot be evaluated"
            raise UnknownOperation(operation.kind, what, got=str(error).splitlines()[0]) from error
        results = result if isinstance(result, tuple) else (result,)
        if len(results) != len(operation.outputs):
            raise BrokenArtifact(
                f"{operation.kind} '{operation.name}' has another number of outputs than it declares",
                expected=str(len(operation.outputs)),
                got=str(len(results)),
            )
        return {
            name: self._declared(operation, name, declared, value)
            for (name, declared), value in zip(operation.outputs, results, strict=True)
        }

    def _looked_up(self, given: str | tuple[str, ...], values: Mapping[str, Any]) -> Any:
        if isinstance(given, str):
            return values[given]
        return [values[name] if name in values else self._constants[name] for name in given]

    def _declared(self, operation: Operation, name: str, declared: TensorType | None, value: Any) -> Any:
        if isinstance(value, Tensor) and value.is_floating_point() and value.dtype is not self._arithmetic.dtype:
            value = value.to(self._arithmetic.dtype)  # from integers
        if declared is None:
            return value
        if not isinstance(value, Tensor):
            if declared.dtype == "string":
                return value
        elif declared.fits(value.shape):
            if declared.dtype in FLOATS and value.is_floating_point():
                return self._rounded(value, declared)
            if _INTEGERS.get(declared.dtype) is value.dtype:
                return value
        raise BrokenArtifact(
            f"{operation.kind} '{operation.name}' does not give what the file declares of '{name}'",
            expected=str(declared),
            got=str(tuple(value.shape)) if isinstance(value, Tensor) else type(value).__name__,
        )

    def _watch(self, operation: Operation, values: Mapping[str, Any]) -> None:
        for name, _ in operation.outputs:
            value = values[name]
            if isinstance(value, Tensor) and value.is_floating_point():
                peak = float(value.abs().max())
                self.largest[name] = max(self.largest.get(name, 0.0), float("inf") if math.isnan(peak) else peak)


@cache
def _parameters(compute: Callable[..., Any]) -> dict[str, bool]:
    """What an operator's function takes, and whether it has to be given; `**window: Unpack[Window]` is its fields."""
    found: dict[str, bool] = {}
    for name, parameter in inspect.signature(compute).parameters.items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            (group,) = get_args(parameter.annotation)
            found |= {field: field in group.__required_keys__ for field in group.__annotations__}
        else:
            found[name] = parameter.default is inspect.Parameter.empty
    return found
