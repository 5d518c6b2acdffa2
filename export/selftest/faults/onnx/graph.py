"""Faults in the graph of an ONNX file, and in what it takes and gives."""

import numpy as np
import onnx
from onnx import numpy_helper

from export.selftest.faults.fault import Rng, Table, alike, in_file, pick
from export.selftest.faults.onnx.model import initializers, nodes, opened, stored_in
from export.selftest.faults.onnx.weights import bias_of_head

fault = Table("onnx", in_file(opened))


@fault("structure", "fp32 trace", "fp16 precision")
def rewired_biases(model: onnx.ModelProto, rng: Rng) -> None:
    """Two attention heads read each other's bias: constants and names are right, only the graph is wrong."""
    names = [bias_of_head(model, 0).name, bias_of_head(model, 1).name]
    for node in model.graph.node:
        for i, name in enumerate(node.input):
            if name in names:
                node.input[i] = names[1 - names.index(name)]


def _sees_large_values(node: onnx.NodeProto) -> bool:
    """Not the ReLUs of the gates and the attention: what seeded weights send there may stay below 6."""
    return "stem" in node.name or "merge" in node.name


@fault("structure", "fp32 trace", "fp16 precision")
def relu6(model: onnx.ModelProto, rng: Rng) -> None:
    """One of the ReLUs that sees large values clips at 6."""
    node = pick(rng, [node for node in nodes(model, "Relu") if _sees_large_values(node)])
    dtype = stored_in(model)
    for name, bound in (("clip_low", 0), ("clip_high", 6)):
        model.graph.initializer.append(numpy_helper.from_array(np.array(bound, dtype), name))
    node.op_type = "Clip"
    node.input.extend(["clip_low", "clip_high"])


@fault("structure", "fp32 simplify", "int8 quantize")
def softmax_axis(model: onnx.ModelProto, rng: Rng) -> None:
    """A softmax over the queries: the sizes are equal, so nothing complains."""
    node = pick(rng, nodes(model, "Softmax"))
    (attribute,) = [a for a in node.attribute if a.name == "axis"]
    attribute.i = 1


@fault("structure", "fp32 simplify")
def stripped_padding(model: onnx.ModelProto, rng: Rng) -> None:
    """A depthwise convolution padded on the wrong side."""
    node = pick(rng, [node for node in nodes(model, "Conv") if "depthwise1" in node.name])
    (attribute,) = [a for a in node.attribute if a.name == "pads"]
    attribute.ints[:] = [2, 2, 0, 0]


@fault("interface", "fp32 simplify")
def renamed_input(model: onnx.ModelProto, rng: Rng) -> None:
    """An app that feeds `image` finds nothing of that name; the numbers are right."""
    for node in model.graph.node:
        node.input[:] = ["pixels" if name == "image" else name for name in node.input]
    model.graph.input[0].name = "pixels"


@fault("interface", "fp16 precision")
def half_ports(model: onnx.ModelProto, rng: Rng) -> None:
    """Inputs and outputs in fp16 though float32 was promised: the casts at the ends are lost."""
    for port in (model.graph.input[0], model.graph.output[0]):
        port.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    for node in nodes(model, "Cast"):
        node.op_type = "Identity"
        del node.attribute[:]


@fault("interface", "fp32 trace", program=True)
def one_class_less(model: onnx.ModelProto, rng: Rng) -> None:
    """The last class is gone."""
    for ending in ("head.linear.weight", "head.linear.bias"):
        tensor = initializers(model, ending)[0]
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor)[:-1].copy(), tensor.name))
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value -= 1


@fault("precision", "fp32 trace", "fp16 precision")
@fault("quality", "int8 quantize")
def sham(model: onnx.ModelProto, rng: Rng) -> None:
    """The artifact that ignores its input."""
    first = next(node for node in model.graph.node if "image" in node.input)
    zero = onnx.helper.make_node("Sub", ["image", "image"], ["nothing"], name="sham")
    first.input[list(first.input).index("image")] = "nothing"
    model.graph.node.insert(0, zero)


@fault("structure", "fp32 simplify")
def permuted_channels(model: onnx.ModelProto, rng: Rng) -> None:
    """A Concat that joins the heads in another order."""
    node = pick(rng, [node for node in nodes(model, "Concat") if "mixer" in node.name and len(node.input) == 4])
    inputs = list(node.input)
    node.input[:] = [*inputs[1:], inputs[0]]


@fault("precision", "fp32 simplify")
def dropped_residual(model: onnx.ModelProto, rng: Rng) -> None:
    """A residual connection that goes nowhere: the branch is all that is left."""
    node = pick(rng, [node for node in nodes(model, "Add") if "ffn" in node.name])
    node.op_type = "Identity"
    del node.input[0]


@fault("structure", "fp32 trace", "fp16 precision")
def relu6_without_a_constant(model: onnx.ModelProto, rng: Rng) -> None:
    """The same as `relu6` by a Min with a bound that no audit of floating-point constants can see."""
    node = pick(rng, [node for node in nodes(model, "Relu") if _sees_large_values(node)])
    at, result = list(model.graph.node).index(node), node.output[0]
    node.output[0] = "unclipped"
    to = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(stored_in(model)))
    model.graph.initializer.append(numpy_helper.from_array(np.array(6), "six"))
    model.graph.node.insert(at + 1, onnx.helper.make_node("Cast", ["six"], ["bound"], to=to, name="cast"))
    model.graph.node.insert(at + 2, onnx.helper.make_node("Min", ["unclipped", "bound"], [result], name="clip"))


@fault("structure", "fp32 trace")
def leaky(model: onnx.ModelProto, rng: Rng) -> None:
    """A ReLU that lets a ten-thousandth or more of what is negative through."""
    node = pick(rng, [node for node in nodes(model, "Relu") if "expand" in node.name or "ffn" in node.name])
    node.op_type = "LeakyRelu"
    node.attribute.append(onnx.helper.make_attribute("alpha", float(10 ** rng.uniform(-3, -1))))


@fault("structure", "fp32 simplify")
def hard_sigmoid(model: onnx.ModelProto, rng: Rng) -> None:
    """A squeeze-excite gate by its cheap approximation."""
    pick(rng, nodes(model, "Sigmoid")).op_type = "HardSigmoid"


@fault("precision", "fp32 simplify")
def softmax_at_the_end(model: onnx.ModelProto, rng: Rng) -> None:
    """Probabilities in place of logits: the winners are the same."""
    name = model.graph.output[0].name
    (last,) = [node for node in model.graph.node if name in node.output]
    last.output[0] = "before"
    model.graph.node.append(onnx.helper.make_node("Softmax", ["before"], [name], axis=1, name="probabilities"))


@fault("constants", "fp32 trace")
def stray_constant(model: onnx.ModelProto, rng: Rng) -> None:
    """Something added to the logits that is far below any rounding."""
    name = model.graph.output[0].name
    (last,) = [node for node in model.graph.node if name in node.output]
    last.output[0] = "before"
    value = np.array(10 ** rng.uniform(-7, -6), np.float32)
    model.graph.initializer.append(numpy_helper.from_array(value, "stray"))
    model.graph.node.append(onnx.helper.make_node("Add", ["before", "stray"], [name], name="stray_add"))


@fault("structure", "fp32 trace", "fp16 precision")
def crossed_wires(model: onnx.ModelProto, rng: Rng) -> None:
    """Two convolutions of one shape fed with each other's bias: every constant is as it should be."""
    shape = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    convolutions = [node for node in nodes(model, "Conv") if len(node.input) == 3]
    one, other = pick(rng, alike(convolutions, lambda node: shape[node.input[1]]))
    one.input[2], other.input[2] = other.input[2], one.input[2]


@fault("structure", "fp32 simplify")
def pool_less(model: onnx.ModelProto, rng: Rng) -> None:
    """An average pool over one row less."""
    node = pick(rng, [node for node in nodes(model, "ReduceMean") if "head" in node.name or "gate" in node.name])
    for name, value in (("pool_start", [0]), ("pool_end", [-1]), ("pool_axis", [2])):
        model.graph.initializer.append(numpy_helper.from_array(np.array(value, np.int64), name))
    inputs = [node.input[0], "pool_start", "pool_end", "pool_axis"]
    cut = onnx.helper.make_node("Slice", inputs, ["pool_cut"], name=f"{node.name}_cut")
    place = list(model.graph.node).index(node)
    node.input[0] = "pool_cut"
    model.graph.node.insert(place, cut)
