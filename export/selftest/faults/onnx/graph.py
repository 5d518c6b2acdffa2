"""Faults in ONNX files: in their weights, in their graph, in what they take and give."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from export.selftest.faults.fault import Rng


def initializers(model: onnx.ModelProto, ending: str) -> list[onnx.TensorProto]:
    """Those whose names end so."""
    return [tensor for tensor in model.graph.initializer if tensor.name.endswith(ending)]


def pick(rng: Rng, items: list[Any]) -> Any:
    """One of them, at random."""
    assert items, "the fault has nothing to be planted in"
    return items[int(rng.integers(len(items)))]


def changed(tensor: onnx.TensorProto, change: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]) -> None:
    """Put another value into an initializer."""
    value = change(numpy_helper.to_array(tensor).copy())
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(value), tensor.name))


def nodes(model: onnx.ModelProto, kind: str) -> list[onnx.NodeProto]:
    """Those of one kind."""
    return [node for node in model.graph.node if node.op_type == kind]


def _bias(model: onnx.ModelProto, head: int) -> onnx.TensorProto:
    """The first attention's bias of a head; its name has a level less where one window is the whole grid."""
    held: list[onnx.TensorProto] = initializers(model, f".bias.{head}")
    return next(tensor for tensor in held if "mixer" in tensor.name)


def last_bit(model: onnx.ModelProto, rng: Rng) -> None:
    """One weight off by a unit in the last place."""

    def flip(value: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        flat = value.reshape(-1)
        i = int(rng.integers(flat.size))
        flat[i] = np.nextafter(flat[i], flat.dtype.type(np.inf))
        return value

    changed(pick(rng, initializers(model, ".weight")), flip)


def zeroed_bias(model: onnx.ModelProto, rng: Rng) -> None:
    """A convolution without its bias."""
    changed(pick(rng, initializers(model, "project.bias")), np.zeros_like)


def scaled_weight(model: onnx.ModelProto, rng: Rng) -> None:
    """A weight tensor off by up to two per cent."""
    factor = 1 + rng.uniform(0.001, 0.02)
    changed(pick(rng, initializers(model, "expand.weight")), lambda value: (value * factor).astype(value.dtype))


def swapped_biases(model: onnx.ModelProto, rng: Rng) -> None:
    """Two attention heads with each other's bias: every tensor is still there."""
    first, second = _bias(model, 0), _bias(model, 1)
    one, other = numpy_helper.to_array(first), numpy_helper.to_array(second)
    first.CopyFrom(numpy_helper.from_array(other, first.name))
    second.CopyFrom(numpy_helper.from_array(one, second.name))


def rewired_biases(model: onnx.ModelProto, rng: Rng) -> None:
    """The same by the wires: constants and names are right, only the graph is wrong."""
    names = [_bias(model, 0).name, _bias(model, 1).name]
    for node in model.graph.node:
        for i, name in enumerate(node.input):
            if name in names:
                node.input[i] = names[1 - names.index(name)]


def flipped_kernel(model: onnx.ModelProto, rng: Rng) -> None:
    """A depthwise kernel left to right."""
    changed(pick(rng, initializers(model, "depthwise1.weight")), lambda value: value[..., ::-1])


def transposed_constant(model: onnx.ModelProto, rng: Rng) -> None:
    """A square matrix transposed, shape kept."""
    tensors = [t for t in initializers(model, "project.weight") if t.dims[0] == t.dims[1]]
    changed(pick(rng, tensors), lambda value: value.transpose(1, 0, 2, 3))


def _sees_large_values(node: onnx.NodeProto) -> bool:
    """Not the ReLUs of the gates and the attention: what seeded weights send there may stay below 6."""
    return "stem" in node.name or "merge" in node.name


def relu6(model: onnx.ModelProto, rng: Rng) -> None:
    """One of the ReLUs that sees large values clips at 6."""
    node = pick(rng, [node for node in nodes(model, "Relu") if _sees_large_values(node)])
    dtype = np.float16 if any(t.data_type == onnx.TensorProto.FLOAT16 for t in model.graph.initializer) else np.float32
    for name, bound in (("clip_low", 0), ("clip_high", 6)):
        model.graph.initializer.append(numpy_helper.from_array(np.array(bound, dtype), name))
    node.op_type = "Clip"
    node.input.extend(["clip_low", "clip_high"])


def softmax_axis(model: onnx.ModelProto, rng: Rng) -> None:
    """A softmax over the queries: the sizes are equal, so nothing complains."""
    node = pick(rng, nodes(model, "Softmax"))
    (attribute,) = [a for a in node.attribute if a.name == "axis"]
    attribute.i = 1


def stripped_padding(model: onnx.ModelProto, rng: Rng) -> None:
    """A depthwise convolution padded on the wrong side."""
    node = pick(rng, [node for node in nodes(model, "Conv") if "depthwise1" in node.name])
    (attribute,) = [a for a in node.attribute if a.name == "pads"]
    attribute.ints[:] = [2, 2, 0, 0]


def swapped_classes(model: onnx.ModelProto, rng: Rng) -> None:
    """Two neighboring classes change places."""
    count = int(initializers(model, "head.linear.bias")[0].dims[0])
    i = int(rng.integers(count - 1))
    order = np.arange(count)
    order[[i, i + 1]] = order[[i + 1, i]]
    for ending in ("head.linear.weight", "head.linear.bias"):
        changed(initializers(model, ending)[0], lambda value: value[order])


def renamed_input(model: onnx.ModelProto, rng: Rng) -> None:
    """An app that feeds `image` finds nothing of that name; the numbers are right."""
    del rng
    for node in model.graph.node:
        node.input[:] = ["pixels" if name == "image" else name for name in node.input]
    model.graph.input[0].name = "pixels"


def half_ports(model: onnx.ModelProto, rng: Rng) -> None:
    """Inputs and outputs in fp16 though float32 was promised: the casts at the ends are lost."""
    del rng
    for port in (model.graph.input[0], model.graph.output[0]):
        port.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    for node in nodes(model, "Cast"):
        node.op_type = "Identity"
        del node.attribute[:]


def one_class_less(model: onnx.ModelProto, rng: Rng) -> None:
    """The last class is gone."""
    del rng
    for ending in ("head.linear.weight", "head.linear.bias"):
        tensor = initializers(model, ending)[0]
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor)[:-1].copy(), tensor.name))
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value -= 1


def sham(model: onnx.ModelProto, rng: Rng) -> None:
    """The artifact that ignores its input."""
    del rng
    first = next(node for node in model.graph.node if "image" in node.input)
    zero = onnx.helper.make_node("Sub", ["image", "image"], ["nothing"], name="sham")
    first.input[list(first.input).index("image")] = "nothing"
    model.graph.node.insert(0, zero)


def permuted_channels(model: onnx.ModelProto, rng: Rng) -> None:
    """A Concat that joins the heads in another order."""
    node = pick(rng, [node for node in nodes(model, "Concat") if "mixer" in node.name and len(node.input) == 4])
    inputs = list(node.input)
    node.input[:] = [*inputs[1:], inputs[0]]


def dropped_residual(model: onnx.ModelProto, rng: Rng) -> None:
    """A residual connection that goes nowhere: the branch is all that is left."""
    node = pick(rng, [node for node in nodes(model, "Add") if "ffn" in node.name])
    node.op_type = "Identity"
    del node.input[0]


def subnormals_flushed(model: onnx.ModelProto, rng: Rng) -> None:
    """Small fp16 weights flushed to zero, as some converters do."""
    del rng
    changed = 0
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT16:
            value = numpy_helper.to_array(tensor)
            small = (np.abs(value) < 2.0**-12) & (value != 0)
            changed += int(small.sum())
            tensor.CopyFrom(numpy_helper.from_array(np.where(small, np.float16(0), value), tensor.name))
    assert changed


def _dtype(model: onnx.ModelProto) -> Any:
    half = any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in model.graph.initializer)
    return np.float16 if half else np.float32


def relu6_without_a_constant(model: onnx.ModelProto, rng: Rng) -> None:
    """The same by a Min with a bound that no audit of floating-point constants can see."""
    node = pick(rng, [node for node in nodes(model, "Relu") if _sees_large_values(node)])
    at, result = list(model.graph.node).index(node), node.output[0]
    node.output[0] = "unclipped"
    to = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(_dtype(model)))
    model.graph.initializer.append(numpy_helper.from_array(np.array(6), "six"))
    model.graph.node.insert(at + 1, onnx.helper.make_node("Cast", ["six"], ["bound"], to=to, name="cast"))
    model.graph.node.insert(at + 2, onnx.helper.make_node("Min", ["unclipped", "bound"], [result], name="clip"))


def leaky(model: onnx.ModelProto, rng: Rng) -> None:
    """A ReLU that lets a ten-thousandth or more of what is negative through."""
    node = pick(rng, [node for node in nodes(model, "Relu") if "expand" in node.name or "ffn" in node.name])
    node.op_type = "LeakyRelu"
    node.attribute.append(onnx.helper.make_attribute("alpha", float(10 ** rng.uniform(-3, -1))))


def hard_sigmoid(model: onnx.ModelProto, rng: Rng) -> None:
    """A squeeze-excite gate by its cheap approximation."""
    pick(rng, nodes(model, "Sigmoid")).op_type = "HardSigmoid"


def softmax_at_the_end(model: onnx.ModelProto, rng: Rng) -> None:
    """Probabilities in place of logits: the winners are the same."""
    del rng
    name = model.graph.output[0].name
    (last,) = [node for node in model.graph.node if name in node.output]
    last.output[0] = "before"
    model.graph.node.append(onnx.helper.make_node("Softmax", ["before"], [name], axis=1, name="probabilities"))


def scale_off_by_an_ulp(model: onnx.ModelProto, rng: Rng) -> None:
    """A whole tensor moved by one unit in its type's last place."""
    towards = _dtype(model)(np.inf)
    changed(pick(rng, initializers(model, "expand.weight")), lambda value: np.nextafter(value, towards))


def flushed_weight(model: onnx.ModelProto, rng: Rng) -> None:
    """The smallest weight of a tensor flushed to zero."""

    def flush(value: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        flat = value.reshape(-1)
        flat[np.where(flat == 0, np.inf, np.abs(flat)).argmin()] = 0
        return value

    changed(pick(rng, initializers(model, ".weight")), flush)


def nudged_logits(model: onnx.ModelProto, rng: Rng) -> None:
    """One class's bias off by 1e-6 to 1e-2 of its value: the head is the last that could be noticed."""

    def nudge(value: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        i = int(np.abs(value).argmax())
        value[i] = max(
            value[i] * (1 + 10 ** rng.uniform(-6, -2)), np.nextafter(value[i], value.dtype.type(np.inf)), key=abs
        )
        return value

    changed(initializers(model, "head.linear.bias")[0], nudge)


def stray_constant(model: onnx.ModelProto, rng: Rng) -> None:
    """Something added to the logits that is far below any rounding."""
    name = model.graph.output[0].name
    (last,) = [node for node in model.graph.node if name in node.output]
    last.output[0] = "before"
    value = np.array(10 ** rng.uniform(-7, -6), np.float32)
    model.graph.initializer.append(numpy_helper.from_array(value, "stray"))
    model.graph.node.append(onnx.helper.make_node("Add", ["before", "stray"], [name], name="stray_add"))


def crossed_wires(model: onnx.ModelProto, rng: Rng) -> None:
    """Two convolutions of one shape fed with each other's bias: every constant is as it should be."""
    shape = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    convolutions = [node for node in nodes(model, "Conv") if len(node.input) == 3]
    pairs = [
        (one, other)
        for i, one in enumerate(convolutions)
        for other in convolutions[:i]
        if shape[one.input[1]] == shape[other.input[1]]
    ]
    one, other = pick(rng, pairs)
    one.input[2], other.input[2] = other.input[2], one.input[2]


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


def other_checkpoint(model: onnx.ModelProto, rng: Rng) -> None:
    """Weights of the same shapes and the same statistics, of another training."""
    for tensor in model.graph.initializer:
        value = numpy_helper.to_array(tensor)
        if value.dtype.kind == "f" and value.size > 1:
            other = rng.permutation(value.reshape(-1)).reshape(value.shape)
            tensor.CopyFrom(numpy_helper.from_array(other, tensor.name))
