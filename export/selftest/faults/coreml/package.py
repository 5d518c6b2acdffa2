"""A saved Core ML package, opened to be spoiled: its protobuf, and its weights byte by byte."""

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.selftest.faults.fault import Rng, pick
from export.targets.coreml.package import MODEL, write_model
from runtimes.coreml.mlpackage import load_model

WEIGHTS = MODEL.parent / "weights" / "weight.bin"
ALIGNMENT = 64
RECORD = struct.Struct("<IIQQQ")  # as runtimes/coreml/weight_file.py describes it
DTYPES = {1: "<f2", 2: "<f4", 3: "u1", 4: "i1"}
FLOAT16, FLOAT32 = 10, 11  # MIL.proto's DataType

Array = NDArray[Any]


class Package:
    """A saved package, opened to be spoiled. `save` writes it back."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.model = load_model(path)
        self.function = self.model.mlProgram.functions["main"]
        self.block = self.function.block_specializations[self.function.opset]
        self.weights = bytearray((path / WEIGHTS).read_bytes())

    def save(self) -> None:
        """Write both back."""
        write_model(self.path, self.model)
        (self.path / WEIGHTS).write_bytes(self.weights)

    def kind(self, *kinds: str) -> list[Any]:
        """Operations of these kinds."""
        return [operation for operation in self.block.operations if operation.type in kinds]

    def maker(self, name: str) -> Any:
        """The operation that makes this value."""
        return next(o for o in self.block.operations if any(output.name == name for output in o.outputs))

    def makers(self) -> dict[str, Any]:
        """The same for every value: looking them up one by one takes long."""
        return {output.name: o for o in self.block.operations for output in o.outputs}

    def weighted(self, ending: str) -> list[Any]:
        """Convolutions whose weight's name, without what says how it is stored, ends like this."""
        return [o for o in self.kind("conv") if ending in given(o, "weight")]

    def value(self, name: str) -> Any:
        """What a constant holds, as the protobuf has it."""
        return self.maker(name).attributes["val"]

    def blob(self, value: Any) -> "Blob":
        """Where a constant lies in the weights' file."""
        return Blob(self.weights, value.blobFileValue.offset)

    def blobs(self) -> dict[str, "Blob"]:
        """By name, the floating-point constants that lie in the weights' file as they are."""
        stored = {
            o.outputs[0].name: self.blob(o.attributes["val"])
            for o in self.kind("const")
            if o.attributes["val"].WhichOneof("value") == "blobFileValue"
        }
        return {name: blob for name, blob in stored.items() if blob.dtype in (1, 2)}

    def rewire(self, old: str, new: str, but: Sequence[Any] = ()) -> None:
        """Let everything that reads `old` read `new`, but these operations."""
        for operation in self.block.operations:
            if not any(operation is kept for kept in but):
                for argument in operation.inputs.values():
                    for binding in argument.arguments:
                        if binding.name == old:
                            binding.name = new

    def hoist(self, *constants: str) -> None:
        """Define these before everything else, so that anything may read them."""
        for name in constants:
            constant = self.maker(name)
            copy = type(constant)()
            copy.CopyFrom(constant)
            self.block.operations.remove(constant)
            self.block.operations.insert(0, copy)

    def drop(self, operation: Any, instead: str) -> None:
        """Take an operation out; its readers read this in its place."""
        self.rewire(operation.outputs[0].name, instead)
        self.block.operations.remove(operation)

    def insert(self, after: Any, kind: str, name: str, **inputs: str) -> Any:
        """A new operation behind `after`, of the type that the latter has."""
        made = type(after)(type=kind)
        for key, value in inputs.items():
            made.inputs[key].arguments.add(name=value)
        made.outputs.add(name=name).type.CopyFrom(after.outputs[0].type)
        at = next(i for i, o in enumerate(self.block.operations) if o.outputs[0].name == after.outputs[0].name)
        self.block.operations.insert(at + 1, made)
        return self.block.operations[at + 1]

    def append(self, values: Array, dtype: int) -> int:
        """A new blob; its offset."""
        offset = -(-len(self.weights) // ALIGNMENT) * ALIGNMENT
        self.weights.extend(bytes(offset - len(self.weights)))
        data = values.tobytes()
        self.weights.extend(RECORD.pack(0xDEADBEEF, dtype, len(data), offset + ALIGNMENT, 0))
        self.weights.extend(bytes(offset + ALIGNMENT - len(self.weights)) + data)
        struct.pack_into("<I", self.weights, 0, struct.unpack_from("<I", self.weights)[0] + 1)
        return offset


@contextmanager
def opened(path: Path) -> Iterator[Package]:
    """The package at `path`, written back on exit."""
    package = Package(path)
    yield package
    package.save()


class Blob:
    """One tensor's record and data in the weights' file."""

    def __init__(self, file: bytearray, record: int) -> None:
        self._file = file
        self.record = record
        _, self.dtype, self.size, self.start, _ = RECORD.unpack_from(file, record)

    @property
    def values(self) -> Array:
        """What is stored there."""
        return np.frombuffer(bytes(self._file[self.start : self.start + self.size]), DTYPES[self.dtype]).copy()

    @values.setter
    def values(self, values: Array) -> None:
        data = values.astype(DTYPES[self.dtype]).tobytes()
        assert len(data) == self.size
        self._file[self.start : self.start + self.size] = data


def given(operation: Any, key: str) -> str:
    """The name of what an operation is given as `key`."""
    name: str = operation.inputs[key].arguments[0].name
    return name


def shape(output: Any) -> tuple[int, ...]:
    """Of an output or an input, as declared."""
    return tuple(dimension.constant.size for dimension in output.type.tensorType.dimensions)


def giving(package: Package, operation: Any, key: str, *values: Any) -> None:
    """Other values of a constant operand, for this operation alone: others may share the constant."""
    argument = operation.inputs[key].arguments[0]
    value = type(argument.value)()
    value.CopyFrom(package.value(argument.name))
    tensor = value.immediateValue.tensor
    getattr(tensor, tensor.WhichOneof("value")).values[:] = values
    for dimension in value.type.tensorType.dimensions:
        dimension.constant.size = len(values)
    argument.value.CopyFrom(value)


def ints(*values: int) -> Any:
    """A constant of integers, as the protobuf has it."""
    from coremltools.proto import MIL_pb2

    value = MIL_pb2.Value()
    value.type.tensorType.dataType, value.type.tensorType.rank = MIL_pb2.DataType.Value("INT32"), 1
    value.type.tensorType.dimensions.add().constant.size = len(values)
    value.immediateValue.tensor.ints.values[:] = values
    return value


def inner(package: Package, rng: Rng) -> Any:
    """An operation on large tensors in the middle of the network."""
    return pick(rng, [o for o in package.kind("conv") if "branch_expand" in given(o, "weight")])


def text(content: str) -> Any:
    """A constant string, as the protobuf has it."""
    from coremltools.proto import MIL_pb2

    value = MIL_pb2.Value()
    value.type.tensorType.dataType = MIL_pb2.DataType.Value("STRING")
    value.immediateValue.tensor.strings.values.append(content)
    return value


def renamed(package: Package, old: str, new: str, *, described: bool = True) -> None:
    """Another name for an output, in the program and, if `described`, in the description."""
    for output in package.maker(old).outputs:
        if output.name == old:
            output.name = new
    package.rewire(old, new)
    package.block.outputs[:] = [new if name == old else name for name in package.block.outputs]
    if described:
        for output in package.model.description.output:
            output.name = new if output.name == old else output.name
