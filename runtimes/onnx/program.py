"""An ONNX file as a program: every node with its operands, attributes, constants and the types that are known.

A node's inputs and attributes are called what the operator's specification calls them, in lower case; attributes that
the node leaves out have the default of its opset. Nothing is left out: an attribute, a type or a subgraph that is not
supported is an error that names it.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from efficientvit.errors import BrokenArtifact, UnknownOperation
from runtimes.evaluator.program import Constant, Operation, Program, TensorType, Value
from runtimes.onnx.functions import inlined
from runtimes.onnx.graph import inferred
from runtimes.onnx.signatures import CONTRIBUTED, FIXED_OUTPUTS, LATER, RENAMED, SEVERAL, VARIANTS

OPSETS = range(11, 26)
"""Versions of ai.onnx whose operators have a meaning here."""

_DTYPES = {
    "FLOAT": "fp32",
    "FLOAT16": "fp16",
    "BFLOAT16": "bf16",
    "DOUBLE": "fp64",
    "INT8": "int8",
    "UINT8": "uint8",
    "INT16": "int16",
    "UINT16": "uint16",
    "INT32": "int32",
    "UINT32": "uint32",
    "INT64": "int64",
    "UINT64": "uint64",
    "BOOL": "bool",
}
_ATTRIBUTES = (1, 2, 3, 4, 6, 7, 8)
"""AttributeProto.AttributeType: FLOAT, INT, STRING, TENSOR, FLOATS, INTS, STRINGS."""

_NAMING_A_TYPE = ("to", "output_dtype")
"""Attributes that are a number of TensorProto.DataType."""


def read_program(model: Any) -> Program:
    """The main graph of an onnx.ModelProto, its local functions inlined.

    An initializer that is a graph input too is a constant.

    Raises:
        BrokenArtifact: it holds what is not supported.
    """
    return _Reader(inlined(model)).program()


class _Reader:
    def __init__(self, model: Any) -> None:
        self._graph = model.graph
        versions = {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
        if len(versions) != len(model.opset_import):
            raise BrokenArtifact("the ONNX file imports two opsets of the same domain")
        self._opset = versions.get("ai.onnx", 0)
        if self._opset not in OPSETS:
            raise BrokenArtifact(
                "the ONNX file is of an unsupported opset",
                expected=f"{OPSETS[0]} to {OPSETS[-1]}",
                got=str(self._opset),
            )
        self._types = dict(_types(model))
        self._constants: dict[str, Constant] = {}
        self._given: set[str] = set()

    def program(self) -> Program:
        import onnx

        graph = self._graph
        if graph.sparse_initializer:
            raise BrokenArtifact("the ONNX file holds sparse tensors", got=graph.sparse_initializer[0].values.name)
        for tensor in graph.initializer:
            self._hold(tensor.name, _tensor(tensor.name, tensor))
        inputs = {}
        for value in graph.input:
            if value.name not in self._constants:
                self._give(value.name)
                inputs[value.name] = _required(value.name, _type(value))
        operations = []
        for node in graph.node:
            if node.op_type == "Constant" and not node.domain:
                self._hold(node.output[0], _constant(node, onnx.helper))
            else:
                operations.append(self._operation(node))
        outputs = tuple(value.name for value in graph.output)
        if lacking := sorted(set(outputs) - self._given):
            raise BrokenArtifact(f"no node of the ONNX file gives its output '{lacking[0]}'")
        return Program(str(self._opset), inputs, outputs, tuple(operations), self._constants)

    def _give(self, name: str) -> None:
        if name in self._given or name in self._constants:
            raise BrokenArtifact(f"two tensors of the ONNX file have the same name: '{name}'")
        self._given.add(name)

    def _hold(self, name: str, constant: Constant) -> None:
        if name in self._given or name in self._constants:
            raise BrokenArtifact(f"two tensors of the ONNX file have the same name: '{name}'")
        self._constants[name] = constant

    def _operation(self, node: Any) -> Operation:
        name = next(filter(None, node.output), "")
        if not name or (node.op_type not in SEVERAL and not node.output[0]):
            raise BrokenArtifact(f"{node.op_type} '{node.name}' of the ONNX file lacks its first output")
        schema = self._schema(node)
        kind = _kind(node, schema)
        inputs = dict(self._operands(node, kind, schema))
        for attribute, value in self._attributes(node, schema, name):
            key = attribute.lower()
            if key in inputs:
                raise BrokenArtifact(f"{kind} '{name}' has both an input and an attribute {key}")
            inputs[key] = self._own(f"{name}:{key}", value)
        outputs = tuple(filter(None, node.output))
        if kind == "Split":
            inputs["count"] = self._own(f"{name}:count", len(node.output))
        if kind in SEVERAL:
            outputs = tuple(given or f"{name}:{index}" for index, given in enumerate(node.output))
            outputs += tuple(f"{name}:{index}" for index in range(len(outputs), SEVERAL[kind]))
        elif kind in FIXED_OUTPUTS and len(outputs) > 1:
            raise BrokenArtifact(
                f"{kind} '{name}' gives the statistics of a batch too, as in training",
                expected="one output, as in a model exported after model.eval()",
                got=str(len(outputs)),
            )
        else:  # the others are optional: reading one is an error
            outputs = outputs[:1]
        for output in outputs:
            self._give(output)
        return Operation(kind, inputs, tuple((output, self._types.get(output)) for output in outputs))

    def _schema(self, node: Any) -> Any:
        """None where ONNX has none."""
        import onnx

        if node.domain not in ("", "ai.onnx"):
            return None
        version = max(self._opset, LATER.get(node.op_type, 0))
        try:
            return onnx.defs.get_schema(node.op_type, version, "")
        except onnx.defs.SchemaError:
            return None

    def _operands(self, node: Any, kind: str, schema: Any) -> Iterator[tuple[str, str | tuple[str, ...]]]:
        if lacking := [name for name in node.input if name and name not in self._given and name not in self._constants]:
            raise BrokenArtifact(f"{node.op_type} of the ONNX file reads '{lacking[0]}', which no node before it gives")
        names = _names(kind, schema)
        for index, given in enumerate(node.input):
            name = names[index] if index < len(names) else f"input{index}"
            if name.startswith("*"):
                yield name[1:], tuple(node.input[index:])
                return
            if given:
                yield name, given

    def _attributes(self, node: Any, schema: Any, name: str) -> Iterator[tuple[str, Value]]:
        import onnx

        own = {attribute.name: attribute for attribute in node.attribute}
        if len(own) != len(node.attribute):
            raise BrokenArtifact(f"{node.op_type} '{name}' has two attributes of the same name")
        if schema is not None:
            defaults = ((key, held.default_value) for key, held in schema.attributes.items())
            own = {key: default for key, default in defaults if default.name} | own
        for key, attribute in sorted(own.items()):
            if attribute.type in (attribute.GRAPH, attribute.GRAPHS):
                raise UnknownOperation(node.op_type, f"'{name}' of the ONNX file has a subgraph", got=node.op_type)
            if attribute.ref_attr_name or attribute.type not in _ATTRIBUTES:
                raise BrokenArtifact(f"{node.op_type} '{name}' has an attribute of an unsupported type", got=key)
            value = onnx.helper.get_attribute_value(attribute)
            if attribute.type == attribute.TENSOR:
                yield key, _tensor(f"{name}:{key}", value).value
            elif attribute.type == attribute.STRING:
                yield key, value.decode()
            elif attribute.type == attribute.STRINGS:
                yield key, [text.decode() for text in value]
            elif key in _NAMING_A_TYPE:
                yield key, _DTYPES.get(onnx.TensorProto.DataType.Name(value), f"type {value}") if value else ""
            elif attribute.type in (attribute.INT, attribute.FLOAT):
                yield key, value
            else:
                yield key, list(value)

    def _own(self, wanted: str, value: Value) -> str:
        """Hold an attribute, by a name that nothing else has."""
        name, count = wanted, 1
        while name in self._constants or name in self._types or name in self._given:
            count += 1
            name = f"{wanted}:{count}"
        held = value if isinstance(value, np.ndarray) else None
        self._constants[name] = Constant(
            value, TensorType("attribute", ()) if held is None else TensorType(_name_of(held), held.shape)
        )
        return name


def _kind(node: Any, schema: Any) -> str:
    """The operator, after its domain where that is not ai.onnx, and before the version of an older meaning."""
    if node.domain not in ("", "ai.onnx"):
        return f"{node.domain}.{node.op_type}"
    changed = VARIANTS.get(node.op_type, 0)
    if schema is not None and schema.since_version < changed:
        return f"{node.op_type}-{schema.since_version}"
    return str(node.op_type)


def _names(kind: str, schema: Any) -> tuple[str, ...]:
    if schema is None:
        return CONTRIBUTED.get(kind, ())
    names = [RENAMED.get(each.name, each.name.lower()) for each in schema.inputs]
    if names and schema.inputs[-1].option.name == "Variadic":
        names[-1] = "*values"
    return tuple(names)


def _constant(node: Any, helper: Any) -> Constant:
    dtypes = {"value_float": "float32", "value_floats": "float32", "value_int": "int64", "value_ints": "int64"}
    kinds = [attribute.name for attribute in node.attribute]
    if len(kinds) != 1 or kinds[0] not in ("value", *dtypes):
        raise BrokenArtifact(f"constant '{node.output[0]}' is of an unsupported kind", got=", ".join(kinds))
    value = helper.get_attribute_value(node.attribute[0])
    if kinds[0] == "value":
        return _tensor(node.output[0], value)
    array = np.array(value, dtypes[kinds[0]])
    return Constant(array, TensorType(_name_of(array), array.shape))


def _tensor(name: str, tensor: Any) -> Constant:
    import onnx

    kind = onnx.TensorProto.DataType.Name(tensor.data_type)
    if kind not in _DTYPES:
        raise BrokenArtifact(f"constant '{name}' is of an unsupported dtype", expected=", ".join(_DTYPES), got=kind)
    try:
        array = np.asarray(onnx.numpy_helper.to_array(tensor))
    except (ValueError, TypeError) as error:
        raise BrokenArtifact(f"constant '{name}' cannot be read", got=str(error).splitlines()[0]) from error
    if kind == "BFLOAT16":
        array = array.astype(np.float32)  # which NumPy has, and which holds every value of it
    return Constant(array, TensorType(_DTYPES[kind], array.shape))


def _name_of(array: np.ndarray[Any, Any]) -> str:
    return str(array.dtype.name).replace("float", "fp")


def _types(model: Any) -> Iterator[tuple[str, TensorType]]:
    """What the file declares of its tensors, and what follows from that; of others nothing."""
    import onnx

    try:
        graph = inferred(model)
    except onnx.shape_inference.InferenceError as error:
        raise BrokenArtifact("the ONNX file's shapes contradict each other", got=str(error).splitlines()[0]) from error
    for value in (*graph.value_info, *graph.output):
        declared = _type(value)
        if declared is not None:
            yield value.name, declared


def _type(value: Any) -> TensorType | None:
    import onnx

    kind = value.type.tensor_type
    if not kind.HasField("shape"):
        return None
    name = onnx.TensorProto.DataType.Name(kind.elem_type)
    shape = tuple(size.dim_value if size.HasField("dim_value") else -1 for size in kind.shape.dim)
    return TensorType(_DTYPES.get(name, name), shape)


def _required(name: str, declared: TensorType | None) -> TensorType:
    if declared is None:
        raise BrokenArtifact(f"input '{name}' of the ONNX file has no shape")
    return declared
