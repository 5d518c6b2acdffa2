"""A parsed TensorRT network as a program: every layer with its operands, attributes, constants and declared types.

Read off `INetworkDefinition`, so it is what TensorRT's importer made of the ONNX file, not the file itself. A layer
kind, an attribute value or a dtype that is not supported is an error that names it.
"""

from collections.abc import Callable, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any

import numpy as np

from efficientvit.errors import BrokenArtifact
from runtimes.evaluator.program import Constant, Operation, Program, TensorType, Value
from runtimes.tensorrt.api import block_shape, require, sized

_DTYPES = {
    "FLOAT": "fp32",
    "HALF": "fp16",
    "BF16": "bf16",
    "INT8": "int8",
    "INT32": "int32",
    "INT64": "int64",
    "BOOL": "bool",
}
_LARGEST_RANK = 8  # a Permutation always has as many entries

Attributes = dict[str, Any]


def read_network(network: Any, trt: Any) -> Program:
    """The network of `tensorrt` or `tensorrt_rtx`, `trt` being that module.

    Raises:
        BrokenArtifact: it holds what is not supported.
    """
    reader = _Reader(trt)
    for index in range(network.num_layers):
        reader.layer(network.get_layer(index))
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    outputs = [network.get_output(index).name for index in range(network.num_outputs)]
    return Program(
        opset=trt.__version__,
        inputs={tensor.name: _type(tensor) for tensor in inputs},
        outputs=tuple(outputs),
        operations=_sorted(reader.operations, {*reader.constants, *(tensor.name for tensor in inputs)}),
        constants=reader.constants,
    )


def _sorted(operations: Sequence[Operation], given: set[str]) -> tuple[Operation, ...]:
    """After what they read: the parser appends the arithmetic on shapes to where it is used."""
    by_name = {operation.name: operation for operation in operations}
    if len(by_name) != len(operations) or by_name.keys() & given:
        raise BrokenArtifact("two tensors of the parsed network have the same name")
    for operation in operations:
        if unknown := [name for name in operation.names() if name not in by_name and name not in given]:
            raise BrokenArtifact(f"'{operation.name}' reads '{unknown[0]}', which no layer of the parsed network gives")
    reads = {operation.name: [name for name in operation.names() if name in by_name] for operation in operations}
    try:
        return tuple(by_name[name] for name in TopologicalSorter(reads).static_order())
    except CycleError as error:
        raise BrokenArtifact("the parsed network has a cycle", got=str(error.args[1])) from error


class _Reader:
    def __init__(self, trt: Any) -> None:
        self._trt = trt
        self.operations: list[Operation] = []
        self.constants: dict[str, Constant] = {}

    def layer(self, layer: Any) -> None:
        kind, name = layer.type.name, layer.name
        if kind not in _LAYERS:
            raise BrokenArtifact(
                f"layer '{name}' of the parsed network is of an unsupported kind",
                expected=", ".join(sorted(_LAYERS)),
                got=kind,
            )
        class_name, operands, read = _LAYERS[kind]
        layer.__class__ = getattr(self._trt, class_name)  # the bindings give every layer as an ILayer
        attributes = read(layer)
        output = layer.get_output(0)
        if kind == "CONSTANT":
            require(output.name not in self.constants, name, f"another tensor of the name '{output.name}'")
            self.constants[output.name] = Constant(attributes["value"], _type(output))
            return
        require(layer.num_outputs == 1, name, f"{layer.num_outputs} outputs")
        given = [layer.get_input(index) for index in range(layer.num_inputs)]
        inputs: dict[str, str | tuple[str, ...]] = {}
        if operands == _SEVERAL:
            inputs["values"] = tuple(tensor.name for tensor in given)
        else:
            require(len(given) <= len(operands), name, f"{len(given)} inputs")
            named = zip(operands, given, strict=False)
            inputs.update({key: tensor.name for key, tensor in named if tensor is not None})
        for key, value in attributes.items():
            if value is None or key in inputs:  # an operand is in the place of the attribute
                continue
            own = self._own(name, kind, key)
            self.constants[own] = _constant(value)
            inputs[key] = own
        self.operations.append(Operation(kind.lower(), inputs, ((output.name, _type(output)),)))

    def _own(self, layer: str, kind: str, key: str) -> str:
        """A name for what a layer holds: a convolution's tensors bear their module's, as in the model."""
        module = layer.removesuffix("/Conv")
        tensor = {"kernel": "weight"}.get(key, key)
        if kind != "CONVOLUTION" or module == layer or key not in ("kernel", "bias"):
            return self._unique(f"{layer}:{key}")
        return self._unique(f"{module}.{tensor}")

    def _unique(self, name: str) -> str:
        candidate, count = name, 1
        while candidate in self.constants:
            count += 1
            candidate = f"{name}:{count}"
        return candidate


def _type(tensor: Any) -> TensorType:
    if tensor.dtype.name not in _DTYPES:
        raise BrokenArtifact(f"tensor '{tensor.name}' of the parsed network is of an unsupported dtype",
                             expected=", ".join(_DTYPES), got=tensor.dtype.name)  # fmt: skip
    return TensorType(_DTYPES[tensor.dtype.name], _shape_of(tensor))


def _shape_of(tensor: Any) -> tuple[int, ...]:
    try:
        return tuple(sized(tensor.shape) or ())
    except RuntimeError as error:  # what the bindings raise for operands that don't go together
        raise BrokenArtifact(f"tensor '{tensor.name}' of the parsed network has no shape", got=str(error)) from error


def _constant(value: Value) -> Constant:
    if isinstance(value, np.ndarray):
        names = {"float32": "fp32", "float16": "fp16"}
        return Constant(value, TensorType(names.get(value.dtype.name, value.dtype.name), value.shape))
    return Constant(value, TensorType("attribute", ()))


def _array(layer: Any, value: Any) -> np.ndarray[Any, Any]:
    """A copy: the bindings give memory that is the network's own. No array where NumPy lacks the dtype (bfloat16)."""
    require(isinstance(value, np.ndarray), layer.name, f"weights of {getattr(value, 'dtype', type(value).__name__)}")
    return np.array(value)


def _weights(layer: Any, value: Any, shape: list[int]) -> np.ndarray[Any, Any] | None:
    array = _array(layer, value)
    return array.reshape(shape) if array.size else None


def _convolution(layer: Any) -> Attributes:
    require(layer.padding_mode.name == "EXPLICIT_ROUND_DOWN", layer.name, f"padding_mode {layer.padding_mode.name}")
    maps, groups = layer.num_output_maps, layer.num_groups
    channels = _shape_of(layer.get_input(0))[1] // groups
    return {
        "kernel": None
        if layer.num_inputs > 1 and layer.get_input(1) is not None
        else _weights(layer, layer.kernel, [maps, channels, *layer.kernel_size_nd]),
        "bias": _weights(layer, layer.bias, [maps]),
        "stride": sized(layer.stride_nd),
        "before": sized(layer.pre_padding),
        "after": sized(layer.post_padding),
        "dilation": sized(layer.dilation_nd),
        "groups": groups,
    }


def _activation(layer: Any) -> Attributes:
    return {"function": layer.type.name, "alpha": float(layer.alpha), "beta": float(layer.beta)}


def _op(layer: Any) -> Attributes:
    return {"op": layer.op.name}


def _slice(layer: Any) -> Attributes:
    filled = layer.mode.name == "FILL"  # how the importer lowers a Pad
    require(filled or layer.mode.name == "STRICT_BOUNDS", layer.name, f"mode {layer.mode.name}")
    require(filled or layer.num_inputs < 5, layer.name, f"{layer.num_inputs} inputs")
    return {
        "start": sized(layer.start),
        "size": sized(layer.shape),
        "stride": sized(layer.stride),
        "axes": sized(getattr(layer, "axes", None)),
        "fill": 0.0 if filled else None,
    }


def _concatenation(layer: Any) -> Attributes:
    return {"axis": int(layer.axis)}


def _shuffle(layer: Any) -> Attributes:
    before, after = layer.get_input(0), layer.get_output(0)
    first, second = list(layer.first_transpose), list(layer.second_transpose)
    return {
        "first": _permutation(first, len(_shape_of(before))),
        "shape": sized(layer.reshape_dims),
        "second": _permutation(second, len(_shape_of(after))),
        "zero_keeps": bool(layer.zero_is_placeholder),
    }


def _permutation(order: list[int], rank: int) -> list[int] | None:
    """None where nothing moves."""
    return None if order == list(range(_LARGEST_RANK)) else order[:rank]


def _matrix_multiply(layer: Any) -> Attributes:
    return {"first": layer.op0.name, "second": layer.op1.name}


def _held(layer: Any) -> Attributes:
    return {"value": _array(layer, layer.weights).reshape(sized(layer.shape) or ())}


def _axes(mask: int) -> list[int]:
    return [axis for axis in range(_LARGEST_RANK) if mask >> axis & 1]


def _softmax(layer: Any) -> Attributes:
    return {"axes": _axes(layer.axes)}


def _reduce(layer: Any) -> Attributes:
    return {"op": layer.op.name, "axes": _axes(layer.axes), "keep": bool(layer.keep_dims)}


def _cast(layer: Any) -> Attributes:
    return {"to": _DTYPES.get(layer.to_type.name, layer.to_type.name)}


def _quantizer(layer: Any) -> Attributes:
    blocks = block_shape(layer)
    require(blocks is None, layer.name, f"blocks of {blocks}")
    return {"axis": int(layer.axis)}


def _gather(layer: Any) -> Attributes:
    require(layer.mode.name == "DEFAULT", layer.name, f"mode {layer.mode.name}")
    require(layer.num_elementwise_dims == 0, layer.name, f"{layer.num_elementwise_dims} elementwise dimensions")
    return {"axis": int(layer.axis)}


def _normalization(layer: Any) -> Attributes:
    require(layer.num_groups == 1, layer.name, f"{layer.num_groups} groups")
    return {"axes": _axes(layer.axes), "epsilon": float(layer.epsilon)}


def _resize(layer: Any) -> Attributes:
    for attribute, known in (
        ("resize_mode", "LINEAR"),
        ("coordinate_transformation", "HALF_PIXEL"),
        ("exclude_outside", False),
    ):
        value = getattr(layer, attribute)
        require(getattr(value, "name", value) == known, layer.name, f"{attribute} {value}")
    return {"size": sized(layer.shape)}


def _nothing(layer: Any) -> Attributes:
    return {}


_SEVERAL = ("values",)
_LAYERS: Mapping[str, tuple[str, tuple[str, ...], Callable[[Any], Attributes]]] = {
    "ACTIVATION": ("IActivationLayer", ("x",), _activation),
    "CAST": ("ICastLayer", ("x",), _cast),
    "CONCATENATION": ("IConcatenationLayer", _SEVERAL, _concatenation),
    "CONSTANT": ("IConstantLayer", (), _held),
    "CONVOLUTION": ("IConvolutionLayer", ("x", "kernel", "bias"), _convolution),
    "DEQUANTIZE": ("IDequantizeLayer", ("x", "scale", "zero"), _quantizer),
    "ELEMENTWISE": ("IElementWiseLayer", ("x", "y"), _op),
    "GATHER": ("IGatherLayer", ("x", "indices"), _gather),
    "IDENTITY": ("IIdentityLayer", ("x",), _nothing),
    "MATRIX_MULTIPLY": ("IMatrixMultiplyLayer", ("x", "y"), _matrix_multiply),
    "NORMALIZATION": ("INormalizationLayer", ("x", "scale", "bias"), _normalization),
    "QUANTIZE": ("IQuantizeLayer", ("x", "scale", "zero"), _quantizer),
    "REDUCE": ("IReduceLayer", ("x",), _reduce),
    "RESIZE": ("IResizeLayer", ("x", "size"), _resize),
    "SHAPE": ("IShapeLayer", ("x",), _nothing),
    "SHUFFLE": ("IShuffleLayer", ("x", "shape"), _shuffle),
    "SLICE": ("ISliceLayer", ("x", "start", "size", "stride", "fill"), _slice),
    "SOFTMAX": ("ISoftMaxLayer", ("x",), _softmax),
    "SQUEEZE": ("ISqueezeLayer", ("x", "axes"), _nothing),
    "UNARY": ("IUnaryLayer", ("x",), _op),
    "UNSQUEEZE": ("IUnsqueezeLayer", ("x", "axes"), _nothing),
}
"""By kind: the bindings' class, what its inputs are called here, and what reads its attributes."""
