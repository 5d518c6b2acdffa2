"""Faults around the network of an ONNX file that takes photos and names the best classes."""

import numpy as np
import onnx

from export.selftest.faults.fault import Rng, Table, in_file, next_up, pick
from export.selftest.faults.onnx.model import Array, changed, initializers, nodes, opened

fault = Table("onnx", in_file(opened), "wrapped wrap")


def _say(node: onnx.NodeProto, name: str, value: int | str) -> None:
    """Give an attribute another value."""
    kept = [attribute for attribute in node.attribute if attribute.name != name]
    del node.attribute[:]
    node.attribute.extend([*kept, onnx.helper.make_attribute(name, value)])


@fault("pixels", program=False)
def no_antialiasing(model: onnx.ModelProto, rng: Rng) -> None:
    """Photos are resized without antialiasing, as PyTorch does by default."""
    for node in nodes(model, "Resize"):
        _say(node, "mode", "linear")  # the only one that ONNX Runtime has for bytes then
        _say(node, "antialias", 0)
        _say(node, "exclude_outside", 0)


@fault("pixels", program=False)
def other_filter(model: onnx.ModelProto, rng: Rng) -> None:
    """Photos are resized with a bilinear filter in place of a bicubic one."""
    for node in nodes(model, "Resize"):
        _say(node, "mode", "linear")


@fault("pixels", program=False)
def corners_aligned(model: onnx.ModelProto, rng: Rng) -> None:
    """Pixels' corners are aligned, not their centers."""
    for node in nodes(model, "Resize"):
        _say(node, "mode", "linear")
        _say(node, "antialias", 0)
        _say(node, "coordinate_transformation_mode", "align_corners")
        _say(node, "exclude_outside", 0)


@fault("wrapping", program=False)
def edges_repeated(model: onnx.ModelProto, rng: Rng) -> None:
    """The outermost pixels are repeated beyond the image."""
    _say(pick(rng, nodes(model, "Resize")), "exclude_outside", 0)


@fault("wrapping", program=False)
def size_declared(model: onnx.ModelProto, rng: Rng) -> None:
    """The file says that its photos have 480 x 640 pixels, and ONNX Runtime computes sizes from that."""
    shape = (1, 3, 480, 640)
    declared = onnx.helper.make_tensor_value_info("preprocessing/channels_first", onnx.TensorProto.UINT8, shape)
    model.graph.value_info.append(declared)


@fault("pixels", program=False)
def cropped_aside(model: onnx.ModelProto, rng: Rng) -> None:
    """The crop begins two pixels from the resized image's upper left."""
    (tensor,) = initializers(model, "preprocessing/one_half")
    changed(tensor, lambda value: value * np.float32(0.5))


@fault("pixels", program=False)
def means_of_other_channels(model: onnx.ModelProto, rng: Rng) -> None:
    """Mean and standard deviation are those of B, G, R."""
    for name in ("mean", "std"):
        (tensor,) = initializers(model, f"preprocessing/{name}")
        changed(tensor, lambda value: value[::-1])


@fault("pixels", program=False)
def not_scaled(model: onnx.ModelProto, rng: Rng) -> None:
    """Pixels are not divided by 255."""
    (tensor,) = initializers(model, "preprocessing/white")
    changed(tensor, np.ones_like)


@fault("wrapping", program=False)
def last_bit_of_the_mean(model: onnx.ModelProto, rng: Rng) -> None:
    """A channel's mean is off by a unit in the last place, which no image shows."""
    (tensor,) = initializers(model, "preprocessing/mean")
    channel = int(rng.integers(3))

    def off(value: Array) -> Array:
        value[channel] = next_up(value[channel])
        return value

    changed(tensor, off)


@fault("answers", program=False)
def worst_classes(model: onnx.ModelProto, rng: Rng) -> None:
    """The least probable classes are named."""
    _say(nodes(model, "TopK")[0], "largest", 0)


@fault("answers", program=False)
def sigmoid_of_each_class(model: onnx.ModelProto, rng: Rng) -> None:
    """Scores are each class's sigmoid, and do not sum to 1."""
    node = nodes(model, "Softmax")[-1]
    node.op_type = "Sigmoid"
    del node.attribute[:]


@fault("answers", program=False)
def classes_off_by_one(model: onnx.ModelProto, rng: Rng) -> None:
    """Classes are counted from 1."""
    node = nodes(model, "TopK")[0]
    node.output[1] = "answers/from_0"
    one = onnx.numpy_helper.from_array(np.array(1, np.int64), "answers/one")
    model.graph.initializer.append(one)
    model.graph.node.append(onnx.helper.make_node("Add", ["answers/from_0", "answers/one"], ["classes"]))
