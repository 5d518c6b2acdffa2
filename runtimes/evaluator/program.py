"""A program as the evaluator takes it, whichever format it was read from: operations, types, constants."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from runtimes.interface import BATCH, Port, Ports

_NUMPY = {"fp32": "float32", "fp16": "float16"}
PLAIN = "const"
"""How a constant is stored that nothing has to decode."""

FLOATS = frozenset({"fp16", "bf16", "fp32", "fp64"})

Value = NDArray[Any] | str | bool | int | float | list[str] | list[int] | list[float]
"""A constant: a tensor keeps its stored dtype; scalars of integers, truth values and text are Python's own."""


@dataclass(frozen=True, slots=True)
class TensorType:
    """What the file declares of a tensor. `dtype`, by MIL's names: fp16, fp32, int32, bool, string, uint4, ...

    A dimension of -1 may have any size.
    """

    dtype: str
    shape: tuple[int, ...]

    def fits(self, shape: Sequence[int]) -> bool:
        """A tensor of this shape is what was declared."""
        return len(shape) == len(self.shape) and all(
            want in (-1, size) for want, size in zip(self.shape, shape, strict=True)
        )

    def __str__(self) -> str:
        return f"{self.dtype} ({', '.join(map(str, self.shape))})"


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation. An input is the name of a value, or a tuple of them where it takes several.

    `outputs`: (name, type); the type is None for a classifier's dictionary, and where the file declares none.
    """

    kind: str
    inputs: Mapping[str, str | tuple[str, ...]]
    outputs: tuple[tuple[str, TensorType | None], ...]

    @property
    def name(self) -> str:
        """The first output's."""
        return self.outputs[0][0]

    def names(self) -> tuple[str, ...]:
        """Every value that it reads."""
        return tuple(n for given in self.inputs.values() for n in ([given] if isinstance(given, str) else given))


@dataclass(frozen=True, slots=True, eq=False)
class Constant:
    """A constant by its name in the file. `stored`: how it lies there, `PLAIN` or the operation that decodes it."""

    value: Value
    type: TensorType
    stored: str = PLAIN


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """The main function. `constants` are decoded; `operations` are all the others, in the file's order."""

    opset: str
    inputs: Mapping[str, TensorType]
    outputs: tuple[str, ...]
    operations: tuple[Operation, ...]
    constants: Mapping[str, Constant]

    @property
    def compressed(self) -> bool:
        """It decodes constants."""
        return any(constant.stored != PLAIN for constant in self.constants.values())

    def types(self) -> dict[str, TensorType]:
        """Declared type of every tensor that is not a constant."""
        declared = dict(self.inputs)
        for operation in self.operations:
            declared.update({name: kind for name, kind in operation.outputs if kind is not None})
        return declared

    def ports(self) -> Ports:
        """Its inputs, and its outputs that are tensors."""
        types = self.types()

        def port(name: str) -> Port:
            dtype = _NUMPY.get(types[name].dtype, types[name].dtype)
            return Port(name, dtype, tuple(BATCH if size == -1 else size for size in types[name].shape))

        return tuple(map(port, self.inputs)), tuple(port(name) for name in self.outputs if name in types)


def mixed_types(program: Program, named_by: str) -> Iterator[str]:
    """Operations whose floating-point tensors differ in type, and casts to another type than their `named_by` names.

    In Core ML and TensorRT every other operation takes and gives one floating-point type. A tensor declared wider than
    what makes it would be rounded less here than on a device, if the device accepted it at all.
    """
    types = program.types() | {name: constant.type for name, constant in program.constants.items()}
    for operation in program.operations:
        involved = [types[name].dtype for name in (*operation.names(), *dict(operation.outputs)) if name in types]
        if operation.kind == "cast":
            named = program.constants.get(str(operation.inputs.get(named_by)))
            mixed = named is None or types[operation.name].dtype != named.value
        else:
            mixed = len(FLOATS & set(involved)) > 1
        if mixed:
            yield f"{operation.kind} of mixed types"


def unexpected(program: Program, kinds: Collection[str], large: Iterable[str], forms: Collection[str]) -> Counter[str]:
    """What such a program of Apple's formats must not have, and how often.

    Operations that are none of `kinds`, types that are mixed, and constants stored in another form than they should be:
    those in `large` in one of `forms`, the others plain.
    """
    found = Counter(operation.kind for operation in program.operations if operation.kind not in kinds)
    found.update(mixed_types(program, "dtype"))
    compressed = set(large)
    for name, constant in program.constants.items():
        if constant.stored not in (forms if name in compressed else (PLAIN,)):
            found["uncompressed weight" if constant.stored == PLAIN else constant.stored] += 1
    return found


@dataclass(frozen=True, slots=True)
class Unquantized:
    """A program without its quantizers.

    `steps`: of every constant that was integers, half of what one unit stands for, as an array of its shape.
    """

    program: Program
    steps: Mapping[str, NDArray[Any]]
