"""Faults in the typed ONNX file that TensorRT parses."""

import numpy as np
import onnx
from onnx import helper, numpy_helper

from export.selftest.faults.fault import Rng, Table, alike, in_file, nearer_to_zero, next_up, one_changed, pick
from export.selftest.faults.onnx.graph import dropped_residual, relu6, softmax_axis
from export.selftest.faults.onnx.model import Array, changed, exchange, initializers, nodes, opened
from export.selftest.faults.onnx.quantized import (
    clipped_activation,
    coarse_activation,
    operands,
    weight_scale_by_an_ulp,
)

fault = Table("tensorrt", in_file(opened))

# As in any ONNX file.
fault("structure", "fp16 precision", "int8 quantize", "fp16 parse")(softmax_axis)
fault("structure", "fp16 precision", "int8 quantize")(dropped_residual)
fault("structure", "fp16 precision", "fp32 parse")(relu6)
fault("constants", "int8 quantize", "int8 parse")(weight_scale_by_an_ulp)
fault("ranges", "int8 quantize")(coarse_activation)
fault("ranges", "int8 quantize")(clipped_activation)


def _value(tensor: onnx.TensorProto) -> Array:
    return numpy_helper.to_array(tensor).copy()


def _weights(model: onnx.ModelProto) -> list[onnx.TensorProto]:
    """Of convolutions, as they are stored."""
    return initializers(model, "weight_quantized") or initializers(model, "expand.weight") + initializers(
        model, "project.weight"
    )


@fault("constants", "fp16 precision", program=False)
def wide_weights(model: onnx.ModelProto, rng: Rng) -> None:
    """One node's weights in float32, cast to float16 before they are used: the numbers are the same."""
    tensor = pick(rng, initializers(model, "expand.weight"))
    (reader,) = [node for node in model.graph.node if tensor.name in node.input]
    model.graph.node.insert(
        0, helper.make_node("Cast", [tensor.name], ["narrowed"], to=onnx.TensorProto.FLOAT16, name="narrow")
    )
    reader.input[1] = "narrowed"
    changed(tensor, lambda value: value.astype(np.float32))


@fault("constants", "fp16 precision", "int8 quantize", "fp16 parse")
def swapped_weights(model: onnx.ModelProto, rng: Rng) -> None:
    """Two convolutions of one shape with each other's weights: every tensor is still there."""
    exchange(*pick(rng, alike(_weights(model), lambda tensor: list(tensor.dims))))


@fault("constants", "fp32 simplify", "fp16 precision", "int8 quantize", "fp32 parse")
def last_bit(model: onnx.ModelProto, rng: Rng) -> None:
    """One weight off by a unit in its last place; of an int8 weight, by one."""

    def change(value: Array) -> Array:
        return one_changed(value, rng, nearer_to_zero if value.dtype == np.int8 else next_up)

    changed(pick(rng, _weights(model)), change)


@fault("constants", "fp16 precision", "int8 quantize")
def transposed_constant(model: onnx.ModelProto, rng: Rng) -> None:
    """A square matrix transposed, shape kept."""
    square = [t for t in _weights(model) if len(t.dims) == 4 and t.dims[0] == t.dims[1]]
    changed(pick(rng, square), lambda value: value.transpose(1, 0, 2, 3))


@fault("constants", "fp16 precision")
def refolded(model: onnx.ModelProto, rng: Rng) -> None:
    """What is left of a BatchNorm that was folded with another epsilon: each channel scaled a little."""
    tensor = pick(rng, initializers(model, "expand.weight"))
    variance = rng.uniform(0.5, 2, (tensor.dims[0], 1, 1, 1))
    changed(tensor, lambda value: (value * np.sqrt((variance + 1e-5) / (variance + 1e-3))).astype(value.dtype))


@fault("structure", "fp16 precision", "int8 quantize")
def reshape_for_transpose(model: onnx.ModelProto, rng: Rng) -> None:
    """The right shape in the wrong order: a permutation that does nothing, and a reshape that makes up for it."""
    node = pick(rng, nodes(model, "Transpose"))
    shapes = onnx.shape_inference.infer_shapes(model).graph.value_info
    (shape,) = [[d.dim_value for d in v.type.tensor_type.shape.dim] for v in shapes if v.name == node.output[0]]
    node.op_type = "Reshape"
    del node.attribute[:]
    model.graph.initializer.append(numpy_helper.from_array(np.array(shape), "wrong_order"))
    node.input.append("wrong_order")


@fault("constants", "int8 parse")
def slight_activation(model: onnx.ModelProto, rng: Rng) -> None:
    """The scale of one activation off by its last bit: no range is that exact, but calibration found another."""
    changed(pick(rng, operands(model, 1)), lambda value: np.asarray(next_up(value)))


def _is_activations(node: onnx.NodeProto) -> bool:
    return node.op_type == "DequantizeLinear" and not node.input[0].endswith("weight_quantized")


@fault("operators", "int8 quantize", "int8 parse")
def lost_pair(model: onnx.ModelProto, rng: Rng) -> None:
    """The quantizer of an activation and its inverse are gone: as right as before, and in float32."""
    inverse = pick(rng, [node for node in model.graph.node if _is_activations(node)])
    (quantizer,) = [node for node in model.graph.node if node.output[0] == inverse.input[0]]
    for node in model.graph.node:
        node.input[:] = [quantizer.input[0] if name == inverse.output[0] else name for name in node.input]
    for node in (inverse, quantizer):
        model.graph.node.remove(node)
    for ending in ("_scale", "_zero_point"):
        for tensor in [t for t in model.graph.initializer if t.name == quantizer.input[0] + ending]:
            model.graph.initializer.remove(tensor)


@fault("operators", "int8 quantize", "int8 parse")
def bypassed_pair(model: onnx.ModelProto, rng: Rng) -> None:
    """One reader takes the tensor itself; the quantizer is there for the others."""
    inverses = {node.output[0]: node for node in model.graph.node if _is_activations(node)}
    reader = pick(rng, [node for node in nodes(model, "Conv") if node.input[0] in inverses])
    (quantizer,) = [node for node in model.graph.node if node.output[0] == inverses[reader.input[0]].input[0]]
    reader.input[0] = quantizer.input[0]


@fault("constants", "int8 quantize")
def asymmetric(model: onnx.ModelProto, rng: Rng) -> None:
    """A zero point that is not zero, in both of a pair: TensorRT has none."""
    (name,) = {pick(rng, nodes(model, "QuantizeLinear")).input[2]}
    (tensor,) = [t for t in model.graph.initializer if t.name == name]
    changed(tensor, lambda value: np.full(value.shape, 3, np.int8))


@fault("constants", "int8 quantize")
def one_scale_for_all(model: onnx.ModelProto, rng: Rng) -> None:
    """A weight with one scale for the tensor though each channel has its own, honestly quantized."""
    tensor = pick(rng, initializers(model, "expand.weight_quantized"))
    (scale,) = initializers(model, tensor.name.removesuffix("_quantized") + "_scale")
    own = _value(scale).reshape(-1, 1, 1, 1)
    peak = np.float32(np.abs(_value(tensor) * own).max() / 127)
    changed(tensor, lambda value: np.round(value * own / peak).astype(np.int8))
    changed(scale, lambda value: np.full_like(value, peak))
