"""An IR's graph as a program: every operation with its operands, attributes, constants and declared types.

OpenVINO reads the file, and its operations are taken as they lie there: nothing is folded or fused. An operation that
`OPERANDS` does not list keeps its kind, and the evaluator refuses it by that name.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from efficientvit.errors import BrokenArtifact
from runtimes.evaluator.program import Constant, Operation, Program, TensorType, Value
from runtimes.openvino.signatures import FIRST_ONLY, OPERANDS, RENAMED

_DTYPES = {"f16": "fp16", "bf16": "bf16", "f32": "fp32", "f64": "fp64", "boolean": "bool"}
_AS_FLOATS = frozenset({"bf16"})
_AS_BYTES = {"i4": np.int8, "u4": np.uint8}
_HELD = frozenset({"f16", "f32", "f64", "boolean", *(f"{sign}{bits}" for sign in "iu" for bits in (8, 16, 32, 64))})


def read_program(model: Any) -> Program:
    """The graph of an openvino.Model, as read from a file.

    Raises:
        BrokenArtifact: it holds what a program cannot.
    """
    reader = _Reader()
    for node in model.get_ordered_ops():
        reader.node(node)
    return Program(
        opset="OpenVINO IR",
        inputs={name: reader.inputs[name] for name in map(reader.name, model.inputs)},
        outputs=tuple(reader.name(port.get_node().input_value(0)) for port in model.outputs),
        operations=tuple(reader.operations),
        constants=reader.constants,
    )


class _Reader:
    def __init__(self) -> None:
        self.inputs: dict[str, TensorType] = {}
        self.constants: dict[str, Constant] = {}
        self.operations: list[Operation] = []
        self._names: dict[tuple[str, int], str] = {}
        self._taken: set[str] = set()

    def node(self, node: Any) -> None:
        """Take an operation in, after what it reads."""
        kind = node.get_type_name()
        if kind == "Parameter":
            output = node.output(0)
            self.inputs[self._give(output, port_name(output))] = _required(node, _type(output))
        elif kind == "Constant":
            self.constants[self._give(node.output(0), node.get_friendly_name())] = _constant(node)
        elif kind != "Result":
            self.operations.append(self._operation(node, kind))

    def name(self, output: Any) -> str:
        """What the program calls an output of an operation."""
        return self._names[_key(output)]

    def _operation(self, node: Any, kind: str) -> Operation:
        inputs: dict[str, str | tuple[str, ...]] = dict(self._operands(node, kind))
        own = node.get_friendly_name()
        if kind in OPERANDS:
            for key, value in node.get_attributes().items():
                parameter = RENAMED.get(key, key.replace("-", "_"))
                inputs[parameter] = held = self._unique(f"{own}:{key}")
                self.constants[held] = Constant(_attribute(value), TensorType("attribute", ()))
        outputs = node.outputs()
        if not outputs:
            raise BrokenArtifact(f"{kind} '{own}' of the IR has no output")
        if kind in FIRST_ONLY and not any(output.get_target_inputs() for output in outputs[1:]):
            outputs = outputs[:1]
        names = [self._give(output, _output_name(output)) for output in outputs]
        return Operation(kind, inputs, tuple(zip(names, map(_type, outputs), strict=True)))

    def _operands(self, node: Any, kind: str) -> Iterator[tuple[str, str | tuple[str, ...]]]:
        version = node.get_type_info().version_id
        names = OPERANDS.get(f"{kind}-{version}", OPERANDS.get(kind, ()))
        given = [self.name(value) for value in node.input_values()]
        for index, value in enumerate(given):
            name = names[index] if index < len(names) else f"input{index}"
            if name.startswith("*"):
                yield name[1:], tuple(given[index:])
                return
            yield name, value

    def _give(self, output: Any, wanted: str) -> str:
        self._names[_key(output)] = name = self._unique(wanted)
        return name

    def _unique(self, wanted: str) -> str:
        """Friendly names need not be unique."""
        name, count = wanted, 1
        while name in self._taken:
            count += 1
            name = f"{wanted}:{count}"
        self._taken.add(name)
        return name


def _key(output: Any) -> tuple[str, int]:
    """Names that OpenVINO itself gives are unique."""
    return output.get_node().get_name(), output.get_index()


def port_name(output: Any) -> str:
    """As the reader's `ports` has it."""
    names: list[str] = sorted(output.get_names())
    return names[0] if names else str(output.get_node().get_friendly_name())


def _output_name(output: Any) -> str:
    """The tensor's name where it is an output of the model, and otherwise the operation's, with the output's index."""
    if any(port.get_node().get_type_name() == "Result" for port in output.get_target_inputs()):
        return port_name(output)
    name: str = output.get_node().get_friendly_name()
    return name if output.get_index() == 0 else f"{name}.{output.get_index()}"


def _type(output: Any) -> TensorType | None:
    """None where even the rank is dynamic."""
    shape = output.get_partial_shape()
    if shape.rank.is_dynamic:
        return None
    sizes = tuple(-1 if size.is_dynamic else size.get_length() for size in shape)
    return TensorType(_dtype(output.get_element_type().get_type_name()), sizes)


def _dtype(name: str) -> str:
    if name in _DTYPES:
        return _DTYPES[name]
    sign, bits = name[:1], name[1:]
    return f"{'int' if sign == 'i' else 'uint'}{bits}" if sign in ("i", "u") and bits.isdigit() else name


def _required(node: Any, declared: TensorType | None) -> TensorType:
    if declared is None:
        raise BrokenArtifact(f"input '{node.get_friendly_name()}' of the IR has no shape")
    return declared


def _constant(node: Any) -> Constant:
    stored = node.get_element_type().get_type_name()
    if stored in _HELD:
        value: NDArray[Any] = np.array(node.data)
    elif stored in _AS_FLOATS:
        value = np.array(node.get_data(dtype=np.float32))
    elif stored in _AS_BYTES:
        value = node.get_data(dtype=np.float32).astype(_AS_BYTES[stored])  # as bytes they come packed
    else:
        supported = sorted({*_HELD, *_AS_FLOATS, *_AS_BYTES})
        raise BrokenArtifact(f"constant '{node.get_friendly_name()}' of the IR is of an unsupported type",
                             expected=", ".join(supported), got=stored)  # fmt: skip
    shape = tuple(node.output(0).get_shape())
    return Constant(value.reshape(shape), TensorType(_dtype(stored), shape))


def _attribute(value: Any) -> Value:
    """Lists, numbers and text are as they should be; nothing else is known to occur."""
    if isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return list(value)
    raise BrokenArtifact("an operation of the IR has an attribute of an unsupported type", got=type(value).__name__)
