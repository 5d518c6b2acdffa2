"""Faults that only a Q/DQ file with unsigned activations can have. Each changes the model in place, at random."""

import numpy as np
import onnx
from onnx import numpy_helper

from export.selftest.faults.fault import Rng, Table, alike, in_file, nearer_to_zero, next_up, one_changed, pick
from export.selftest.faults.onnx.model import changed, exchange, initializers, nodes, opened

fault = Table("onnx", in_file(opened))

_FACTOR = 20
"""Of a range: beyond what calibration on other images explains."""


@fault("constants", "int8 quantize")
def integer_off_by_one(model: onnx.ModelProto, rng: Rng) -> None:
    """One weight's integer off by one."""
    integers = pick(rng, initializers(model, ".weight_quantized"))
    changed(integers, lambda value: one_changed(value, rng, nearer_to_zero))


@fault("constants", "int8 quantize")
def weight_scale_by_an_ulp(model: onnx.ModelProto, rng: Rng) -> None:
    """The scale of one channel of a weight off by its last bit."""
    changed(pick(rng, initializers(model, ".weight_scale")), lambda value: one_changed(value, rng, next_up))


@fault("constants", "int8 quantize")
def other_heads_integers(model: onnx.ModelProto, rng: Rng) -> None:
    """The quantized attention bias of another head, with its own scale kept."""
    biases = [tensor for tensor in initializers(model, "_quantized") if ".bias." in tensor.name]
    exchange(*pick(rng, alike(biases, lambda tensor: list(tensor.dims))))


@fault("constants", "int8 quantize")
def bias_zero_point_off_by_one(model: onnx.ModelProto, rng: Rng) -> None:
    """The zero point of an attention bias off by one: every score of a head moves by a unit."""
    zeros = [tensor for tensor in initializers(model, "_zero_point") if ".bias." in tensor.name]
    changed(pick(rng, zeros), lambda value: np.asarray(value + np.uint8(1) if value < 255 else value - np.uint8(1)))


def operands(model: onnx.ModelProto, place: int) -> list[onnx.TensorProto]:
    """Scales (1) or zero points (2) of activations."""
    names = {node.input[place] for node in nodes(model, "QuantizeLinear")}
    return [tensor for tensor in model.graph.initializer if tensor.name in names]


@fault("ranges", "int8 quantize")
def coarse_activation(model: onnx.ModelProto, rng: Rng) -> None:
    """A range twenty times too wide: most of its integers are never used."""
    changed(pick(rng, operands(model, 1)), lambda value: np.asarray(value * np.float32(_FACTOR)))


@fault("ranges", "int8 quantize")
def clipped_activation(model: onnx.ModelProto, rng: Rng) -> None:
    """A range twenty times too narrow: what is large is cut off."""
    changed(pick(rng, operands(model, 1)), lambda value: np.asarray(value / np.float32(_FACTOR)))


@fault("ranges", "int8 quantize")
def zero_point_for_negatives(model: onnx.ModelProto, rng: Rng) -> None:
    """A ReLU's range turned to negative values, of which it gives none."""
    zeros = [tensor for tensor in operands(model, 2) if not numpy_helper.to_array(tensor).any()]
    changed(pick(rng, zeros), lambda value: np.full_like(value, 245))


@fault("operators", "int8 quantize")
def back_by_another_scale(model: onnx.ModelProto, rng: Rng) -> None:
    """A dequantizer that reads another tensor's scale than its quantizer."""
    quantized = {node.output[0] for node in nodes(model, "QuantizeLinear")}
    inverses = [node for node in nodes(model, "DequantizeLinear") if node.input[0] in quantized]
    one = pick(rng, inverses)
    held = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    others = [node for node in inverses if not np.array_equal(held[node.input[1]], held[one.input[1]])]
    one.input[1] = pick(rng, others).input[1]


@fault("operators", "int8 quantize")
def lost_pair(model: onnx.ModelProto, rng: Rng) -> None:
    """A convolution that reads the tensor itself, past its quantizer: as right as before, and in float32."""
    makers = {node.output[0]: node for node in model.graph.node}
    reader = pick(rng, [node for node in nodes(model, "Conv") if node.input[0] in makers])
    reader.input[0] = makers[makers[reader.input[0]].input[0]].input[0]


@fault("structure", "int8 quantize")
def lost_relu(model: onnx.ModelProto, rng: Rng) -> None:
    """A ReLU left to its quantizer's range, which this runtime clips to and the next may not."""
    relu = pick(rng, nodes(model, "Relu"))
    relu.op_type = "Identity"
