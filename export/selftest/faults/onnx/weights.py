"""Faults in the constants of an ONNX file."""

import numpy as np
import onnx
from onnx import numpy_helper

from export.selftest.faults.fault import Rng, Table, in_file, next_up, one_changed, pick
from export.selftest.faults.onnx.model import Array, changed, exchange, initializers, opened, stored_in

fault = Table("onnx", in_file(opened))


def bias_of_head(model: onnx.ModelProto, head: int) -> onnx.TensorProto:
    """The first attention's bias of a head; its name has a level less where one window is the whole grid."""
    held: list[onnx.TensorProto] = initializers(model, f".bias.{head}")
    return next(tensor for tensor in held if "mixer" in tensor.name)


@fault("constants", "fp32 trace", "fp16 precision")
def last_bit(model: onnx.ModelProto, rng: Rng) -> None:
    """One weight off by a unit in the last place."""
    changed(pick(rng, initializers(model, ".weight")), lambda value: one_changed(value, rng, next_up))


@fault("constants", "int8 equalize")
def factor_on_one_side(model: onnx.ModelProto, rng: Rng) -> None:
    """A channel scaled up by a quarter of a power of two, and not scaled down where it is read."""

    def scaled(value: Array) -> Array:
        channel = int(rng.integers(len(value)))
        value[channel] = value[channel] * np.float32(2**0.25)
        return value

    changed(pick(rng, initializers(model, "project.weight")), scaled)


@fault("precision", "fp32 trace")
def zeroed_bias(model: onnx.ModelProto, rng: Rng) -> None:
    """A convolution without its bias."""
    changed(pick(rng, initializers(model, "project.bias")), np.zeros_like)


@fault("precision", "fp32 trace")
def scaled_weight(model: onnx.ModelProto, rng: Rng) -> None:
    """A weight tensor off by up to two per cent."""
    factor = 1 + rng.uniform(0.001, 0.02)
    changed(pick(rng, initializers(model, "expand.weight")), lambda value: (value * factor).astype(value.dtype))


@fault("constants", "fp32 trace")
def swapped_biases(model: onnx.ModelProto, rng: Rng) -> None:
    """Two attention heads with each other's bias: every tensor is still there."""
    exchange(bias_of_head(model, 0), bias_of_head(model, 1))


@fault("structure", "fp32 trace")
def flipped_kernel(model: onnx.ModelProto, rng: Rng) -> None:
    """A depthwise kernel left to right."""
    changed(pick(rng, initializers(model, "depthwise1.weight")), lambda value: value[..., ::-1])


@fault("constants", "fp32 simplify")
def transposed_constant(model: onnx.ModelProto, rng: Rng) -> None:
    """A square matrix transposed, shape kept."""
    tensors = [t for t in initializers(model, "project.weight") if t.dims[0] == t.dims[1]]
    changed(pick(rng, tensors), lambda value: value.transpose(1, 0, 2, 3))


@fault("structure", "fp32 simplify")
def swapped_classes(model: onnx.ModelProto, rng: Rng) -> None:
    """Two neighboring classes change places."""
    count = int(initializers(model, "head.linear.bias")[0].dims[0])
    i = int(rng.integers(count - 1))
    order = np.arange(count)
    order[[i, i + 1]] = order[[i + 1, i]]
    for ending in ("head.linear.weight", "head.linear.bias"):
        changed(initializers(model, ending)[0], lambda value: value[order])


@fault("constants", "fp16 precision")
def subnormals_flushed(model: onnx.ModelProto, rng: Rng) -> None:
    """Small fp16 weights flushed to zero, as some converters do."""
    changed = 0
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT16:
            value = numpy_helper.to_array(tensor)
            small = (np.abs(value) < 2.0**-12) & (value != 0)
            changed += int(small.sum())
            tensor.CopyFrom(numpy_helper.from_array(np.where(small, np.float16(0), value), tensor.name))
    assert changed


@fault("constants", "fp16 precision")
def scale_off_by_an_ulp(model: onnx.ModelProto, rng: Rng) -> None:
    """A whole tensor moved by one unit in its type's last place."""
    towards = stored_in(model)(np.inf)
    changed(pick(rng, initializers(model, "expand.weight")), lambda value: np.nextafter(value, towards))


@fault("constants", "fp16 precision")
def flushed_weight(model: onnx.ModelProto, rng: Rng) -> None:
    """The smallest weight of a tensor flushed to zero."""

    def flush(value: Array) -> Array:
        flat = value.reshape(-1)
        flat[np.where(flat == 0, np.inf, np.abs(flat)).argmin()] = 0
        return value

    changed(pick(rng, initializers(model, ".weight")), flush)


@fault("constants", "fp32 simplify")
def nudged_logits(model: onnx.ModelProto, rng: Rng) -> None:
    """One class's bias off by 1e-6 to 1e-2 of its value: the head is the last that could be noticed."""

    def nudge(value: Array) -> Array:
        i = int(np.abs(value).argmax())
        value[i] = max(
            value[i] * (1 + 10 ** rng.uniform(-6, -2)), np.nextafter(value[i], value.dtype.type(np.inf)), key=abs
        )
        return value

    changed(initializers(model, "head.linear.bias")[0], nudge)


@fault("constants", "fp32 trace")
def other_checkpoint(model: onnx.ModelProto, rng: Rng) -> None:
    """Weights of the same shapes and the same statistics, of another training."""
    for tensor in model.graph.initializer:
        value = numpy_helper.to_array(tensor)
        if value.dtype.kind == "f" and value.size > 1:
            other = rng.permutation(value.reshape(-1)).reshape(value.shape)
            tensor.CopyFrom(numpy_helper.from_array(other, tensor.name))
