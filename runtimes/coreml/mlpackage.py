"""A saved Core ML package as a MIL program: its operations, types and constants, read from the files and nothing else.

A package (.mlpackage) is a folder: `Manifest.json` names the root model, a protobuf (Model.proto, MIL.proto of
Apple's coremltools), whose program refers to tensors in `weights/weight.bin` (runtimes/coreml/weight_file.py).
The evaluator checks every result against the type that the file declares for it. The module is as long as the format
has kinds of values: each is refused or read here, and nowhere else.
"""

import logging
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from efficientvit.errors import BrokenArtifact, MissingExtra, UnknownOperation
from efficientvit.files import parse_json
from runtimes.artifact import digest
from runtimes.coreml.constexpr import decode
from runtimes.coreml.weight_file import WHOLE, WeightFile, unpack
from runtimes.evaluator.program import Constant, Operation, Program, TensorType, Value

_MODEL_PATH = "@model_path/"
_DTYPES = {
    1: "bool",
    2: "string",
    10: "fp16",
    11: "fp32",
    12: "fp64",
    21: "int8",
    22: "int16",
    23: "int32",
    24: "int64",
    25: "int4",
    31: "uint8",
    32: "uint16",
    33: "uint32",
    34: "uint64",
    35: "uint4",
    36: "uint2",
    37: "uint1",
    38: "uint6",
    39: "uint3",
}
"""MIL.proto's DataType by number. What is not here (bfloat16, 8-bit floats) is refused by name."""

_STORED = {"float16": "fp16", "float32": "fp32"}
_UNPACKED = defaultdict(tuple[str, ...], {"uint8": ("uint1", "uint2", "uint3", "uint4", "uint6"), "int8": ("int4",)})

_ONE_SIZE = "convert it for one size, ct.TensorType(shape=(1, 3, H, W)) or ct.ImageType(…), and judge that package"
_IMMEDIATE = {"floats": np.float32, "ints": np.int32, "bools": np.bool_, "longInts": np.int64, "doubles": np.float64}


def root_model(package: Path) -> Path:
    """The file that holds the root model, as the package's manifest names it; the weights are found from there.

    Raises:
        BrokenArtifact: there is no manifest, or it names nothing within the package.
    """
    try:
        manifest = parse_json((package / "Manifest.json").read_bytes())
        path: Path = package / "Data" / manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]["path"]
        within = path.resolve().is_relative_to(package.resolve())
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _unreadable(package, f"{type(error).__name__}: {error}") from error
    if not within:
        raise _unreadable(package, f"a model outside of the package: {path.name}")
    return path


def _unreadable(package: Path, got: str) -> BrokenArtifact:
    return BrokenArtifact(
        f"{package.name} cannot be read as a Core ML package",
        expected="Manifest.json and the model that it names",
        got=got,
        next_step=WHOLE,
    )


def load_model(package: Path) -> Any:
    """The root model of a package: a coremltools `Model_pb2.Model`.

    Raises:
        MissingExtra: coremltools is not installed.
        BrokenArtifact: the package lacks a file or its protobuf cannot be parsed.
    """
    parser = _parser()
    from google.protobuf.message import DecodeError

    path = root_model(package)
    try:
        model = parser.FromString(path.read_bytes())
    except (OSError, DecodeError) as error:
        raise _unreadable(package, f"{type(error).__name__}: {error}") from error
    size = model.ByteSize()
    model.DiscardUnknownFields()
    if model.ByteSize() != size:
        raise BrokenArtifact(
            f"{package.name} holds fields that the installed coremltools does not know",
            expected="a model that can be read as a whole",
            got=f"{size - model.ByteSize()} unknown bytes",
            next_step="install the version of coremltools that it was made with, or a later one",
        )
    return model


def _parser() -> Any:
    """coremltools' `Model`, without what its import logs: off a Mac it warns eight times of its missing native half."""
    logger = logging.getLogger("coremltools")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        from coremltools.proto import Model_pb2
    except ModuleNotFoundError as error:
        raise MissingExtra("coremltools", "coreml", "reading a Core ML package") from error
    finally:
        logger.setLevel(level)
    return Model_pb2.Model


_LAST: dict[str, Program] = {}
"""The programs of the last few packages, by their digest: a judgment reads its package half a dozen times."""

_KEPT = 3


def load_program(package: Path) -> Program:
    """The ML program of a saved package, parsed once while it is one of the last few.

    Raises:
        MissingExtra: coremltools is not installed.
        BrokenArtifact: a file is missing, cut off or contradicts itself, or holds what is not supported.
    """
    model = load_model(package)
    key = digest(package)
    program = _LAST.pop(key, None)
    if program is None:
        program = _Reader(package.name, root_model(package).parent).program(_main(model, package.name))
    while len(_LAST) >= _KEPT:
        del _LAST[next(iter(_LAST))]
    _LAST[key] = program
    return program


Types = Mapping[str, TensorType | None]
"""By name; None is a dictionary."""


def load_signature(package: Path) -> tuple[str, Types, Types]:
    """The opset of a saved package's program, and its inputs and outputs, without a look at what is between.

    Raises:
        MissingExtra: coremltools is not installed.
        BrokenArtifact: a file is missing or cut off, or a type is not supported.
    """
    function = _main(load_model(package), package.name)
    return function.opset, *_Reader(package.name, package).signature(function)


def _main(model: Any, label: str) -> Any:
    """The one function of a model's program."""
    if model.WhichOneof("Type") != "mlProgram":
        raise BrokenArtifact(f"{label} holds no ML program", expected="mlProgram", got=str(model.WhichOneof("Type")))
    functions = model.mlProgram.functions
    described = model.description
    if (
        model.isUpdatable or described.state or described.functions or described.trainingInput
        or described.defaultFunctionName not in ("", "main")
    ):  # fmt: skip
        raise BrokenArtifact(
            f"{label} declares more than a program of one function",
            expected="no state, no training, no function but main",
            got=", ".join(sorted(field.name for field, _ in (*model.ListFields(), *described.ListFields()))),
        )
    if list(functions) != ["main"] or functions["main"].opset not in functions["main"].block_specializations:
        raise BrokenArtifact(f"{label} is not a program of one function", expected="main", got=", ".join(functions))
    function = functions["main"]
    blocks = function.block_specializations
    beside = [*function.attributes, *(name for block in blocks.values() for name in (*block.attributes, *block.inputs))]
    if len(blocks) != 1 or beside:
        raise BrokenArtifact(
            f"the function of {label} is not a single block",
            expected=f"one for {function.opset}, without attributes",
            got=", ".join(map(str, (*sorted(blocks), *beside))),
            next_step=_ONE_SIZE if "FlexibleShapeInformation" in beside else None,
        )
    return function


class _Reader:
    def __init__(self, label: str, folder: Path) -> None:
        self._label = label
        self._folder = folder
        self._files: dict[str, WeightFile] = {}
        self._defined: set[str] = set()

    def program(self, function: Any) -> Program:
        block = function.block_specializations[function.opset]
        constants: dict[str, Constant] = {}
        operations: list[Operation] = []
        self._defined = {value.name for value in function.inputs}
        for proto in block.operations:
            operation = self._operation(proto, constants)
            if unknown := [name for name in operation.names() if name not in self._defined]:
                raise self._broken(f"{operation.kind} '{operation.name}' reads '{unknown[0]}', which is not defined")
            for name, _ in operation.outputs:
                self._define(name)
            if operation.kind == "const":
                constants[operation.name] = self._constant(proto)
            elif operation.kind.startswith("constexpr_"):
                constants.update(self._decoded(operation, constants))
            else:
                operations.append(operation)
        _drop_operands(constants, operations)
        if missing := [name for name in block.outputs if name not in self._defined]:
            raise self._broken(f"the output '{missing[0]}' is not defined")
        inputs = {value.name: self._type(value.type, value.name) for value in function.inputs}
        return Program(function.opset, inputs, tuple(block.outputs), tuple(operations), constants)

    def _define(self, name: str) -> None:
        if name in self._defined:
            raise self._broken(f"'{name}' is defined twice")
        self._defined.add(name)

    def signature(self, function: Any) -> tuple[Types, Types]:
        block = function.block_specializations[function.opset]
        inputs = {value.name: self._type(value.type, value.name) for value in function.inputs}
        made = {value.name: value for proto in block.operations for value in proto.outputs}
        if missing := [name for name in block.outputs if name not in made]:
            raise self._broken(f"the output '{missing[0]}' is not defined")
        return inputs, {name: self._output(made[name]) for name in block.outputs}

    def _output(self, value: Any) -> TensorType | None:
        """None where it is not a tensor but a classifier's dictionary."""
        return self._type(value.type, value.name) if value.type.WhichOneof("type") == "tensorType" else None

    def _broken(self, got: str, next_step: str | None = None) -> BrokenArtifact:
        return BrokenArtifact(self._what(), got=got, next_step=next_step)

    def _what(self) -> str:
        return f"the program in {self._label} cannot be interpreted"

    def _operation(self, proto: Any, constants: dict[str, Constant]) -> Operation:
        outputs = tuple((value.name, self._output(value)) for value in proto.outputs)
        if proto.blocks or not outputs:
            got = f"operation '{proto.type}' has inner blocks or no output"
            raise UnknownOperation(proto.type, self._what(), got=got)
        # In older opsets a constexpr's operands are attributes.
        operands = {key: [("", value)] for key, value in proto.attributes.items() if key != "name"}
        if proto.type == "const":
            operands.pop("val", None)
        elif operands and not proto.type.startswith("constexpr_"):
            raise UnknownOperation(proto.type, self._what(), got=f"{proto.type} has the attribute {min(operands)}")
        for key, argument in proto.inputs.items():
            operands[key] = [(binding.name, binding.value) for binding in argument.arguments]
        inputs: dict[str, str | tuple[str, ...]] = {}
        for key, bindings in sorted(operands.items()):
            names = tuple(
                name or self._inline(f"{outputs[0][0]}.{key}.{i}", value, constants)
                for i, (name, value) in enumerate(bindings)
            )
            inputs[key] = names[0] if len(names) == 1 else names
        return Operation(proto.type, inputs, outputs)

    def _inline(self, name: str, value: Any, constants: dict[str, Constant]) -> str:
        """A constant without an operation of its own, under a name that nothing else may have."""
        self._define(name)
        constants[name] = self._value(value, name)
        return name

    def _constant(self, proto: Any) -> Constant:
        name = proto.outputs[0].name
        constant = self._value(proto.attributes["val"], name)
        declared = self._type(proto.outputs[0].type, name)
        if declared != constant.type:
            raise self._broken(f"constant '{name}' is {constant.type} and declared {declared}")
        return constant

    def _decoded(self, operation: Operation, constants: Mapping[str, Constant]) -> dict[str, Constant]:
        name = operation.name
        operands: dict[str, Any] = {}
        for key, given in operation.inputs.items():
            assert isinstance(given, str)
            if given not in constants:
                raise self._broken(f"{operation.kind} '{name}' reads '{given}', which is no constant")
            operands[key] = constants[given].value
        values = decode(operation.kind, name, operands)
        if len(values) != len(operation.outputs):
            raise self._broken(f"{operation.kind} '{name}' has {len(operation.outputs)} outputs, not {len(values)}")
        result: dict[str, Constant] = {}
        for (output, declared), value in zip(operation.outputs, values, strict=True):
            stored = _STORED.get(value.dtype.name, value.dtype.name)
            # A mask of single bits lies unpacked in bytes here.
            same = declared is not None and declared.shape == value.shape
            if declared is None or not same or (declared.dtype != stored and declared.dtype not in _UNPACKED[stored]):
                raise self._broken(f"constant '{output}' decodes to {TensorType(stored, value.shape)}, not {declared}")
            result[output] = Constant(value, declared, operation.kind)
        return result

    def _type(self, proto: Any, name: str) -> TensorType:
        if proto.WhichOneof("type") == "listType":
            return TensorType("list", ())
        tensor = proto.tensorType
        if proto.WhichOneof("type") != "tensorType" or tensor.dataType not in _DTYPES:
            raise self._broken(f"'{name}' has an unsupported type: {proto}".replace("\n", " "))
        if any(not dimension.HasField("constant") for dimension in tensor.dimensions):
            raise self._broken(f"'{name}' has a dynamic shape", _ONE_SIZE)
        shape = tuple(int(dimension.constant.size) for dimension in tensor.dimensions)
        if len(shape) != tensor.rank:
            raise self._broken(f"'{name}' is declared of rank {tensor.rank} with {len(shape)} dimensions")
        return TensorType(_DTYPES[tensor.dataType], shape)

    def _value(self, proto: Any, name: str) -> Constant:
        declared = self._type(proto.type, name)
        if proto.WhichOneof("value") == "blobFileValue":
            return Constant(self._blob(proto.blobFileValue, declared, name), declared)
        if declared.dtype == "list":
            texts = [text for value in proto.immediateValue.list.values for text in _strings(value)]
            return Constant(texts, declared)
        return Constant(self._immediate(proto.immediateValue.tensor, declared, name), declared)

    def _immediate(self, tensor: Any, declared: TensorType, name: str) -> Value:
        kind = tensor.WhichOneof("value")
        count = int(np.prod(declared.shape, dtype=np.int64))
        if kind == "strings":
            texts = list(tensor.strings.values)
            if len(texts) != count:
                raise self._broken(f"constant '{name}' has {len(texts)} values for {declared}")
            return texts if declared.shape else texts[0]
        if kind == "bytes":
            flat = unpack(tensor.bytes.values, declared.dtype, count, f"constant '{name}'")
        elif kind in _IMMEDIATE:
            flat = np.array(getattr(tensor, kind).values, dtype=_IMMEDIATE[kind])
        else:
            raise self._broken(f"constant '{name}' has no value")
        wanted = {"fp16": "float16", "fp32": "float32", "fp64": "float64", "uint4": "uint8", "int4": "int8"}
        dtype = wanted.get(declared.dtype, declared.dtype)
        if flat.size != count or (not dtype.startswith("uint") and flat.dtype.name != dtype):
            raise self._broken(f"constant '{name}' has {flat.size} values of {flat.dtype} for {declared}")
        shaped = flat.reshape(declared.shape)
        value: Value = shaped.item() if shaped.ndim == 0 and shaped.dtype.kind in "ib" else shaped
        return value

    def _blob(self, reference: Any, declared: TensorType, name: str) -> NDArray[Any]:
        file = str(reference.fileName)
        if not file.startswith(_MODEL_PATH) or ".." in Path(file).parts:
            raise self._broken(f"constant '{name}' lies in '{file}', outside of the package")
        if file not in self._files:
            self._files[file] = WeightFile(self._folder / file.removeprefix(_MODEL_PATH))
        count = int(np.prod(declared.shape, dtype=np.int64))
        return self._files[file].read(reference.offset, declared.dtype, count, name).reshape(declared.shape)


def _drop_operands(constants: dict[str, Constant], operations: list[Operation]) -> None:
    """Tables, indices and scales are the stored form of a constant that was decoded: no operation reads them."""
    if not any(constant.stored != "const" for constant in constants.values()):
        return
    read = {name for operation in operations for name in operation.names()}
    for name in [name for name in constants if name not in read]:
        del constants[name]


def _strings(value: Any) -> list[str]:
    return list(value.immediateValue.tensor.strings.values)
