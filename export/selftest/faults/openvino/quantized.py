"""Faults that only an int8 IR can have. Each changes a model in place, at random."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.selftest.faults.fault import Rng, Table, alike, in_file, nearer_to_zero, next_up, one_changed, pick
from runtimes.openvino.fake_quantize import fakes, quantizer_of, scaled_weights
from runtimes.openvino.package import import_openvino

_FACTOR = 20
"""Of a range: beyond what calibration on other images explains."""


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The IR's model, written back on exit."""
    openvino = import_openvino()
    core = openvino.Core()
    core.set_property({"ENABLE_MMAP": False})  # or the .bin could not be replaced
    model = core.read_model(path)
    yield model
    model.validate_nodes_and_infer_types()
    openvino.save_model(model, path, compress_to_fp16=False)


fault = Table[Any]("openvino", in_file(_opened))


def _exchanged(constant: Any, value: NDArray[Any]) -> None:
    """Put a constant of another value, and the same name, in the place of one."""
    from openvino import opset13

    new = opset13.constant(np.ascontiguousarray(value))
    new.set_friendly_name(constant.get_friendly_name())
    constant.output(0).replace(new.output(0))


def _limits(fake: Any, low: np.float32, high: np.float32, places: tuple[int, ...] = (1, 2, 3, 4)) -> None:
    """Another range for one quantizer."""
    for place, value in zip((1, 2, 3, 4), (low, high, low, high), strict=True):
        if place in places:
            constant = fake.input_value(place).get_node()
            _exchanged(constant, np.full(constant.data.shape, value, np.float32))


@fault("constants", "int8 openvino")
def ir_integer_off_by_one(model: Any, rng: Rng) -> None:
    """One weight's integer off by one."""
    _, integers, _ = pick(rng, list(scaled_weights(model)))
    _exchanged(integers, one_changed(np.array(integers.data), rng, nearer_to_zero))


@fault("constants", "int8 openvino")
def ir_weight_scale_by_an_ulp(model: Any, rng: Rng) -> None:
    """The scale of one channel of a weight off by its last bit."""
    _, _, scale = pick(rng, list(scaled_weights(model)))
    _exchanged(scale, one_changed(np.array(scale.data), rng, next_up))


@fault("constants", "int8 openvino")
def permuted_scales(model: Any, rng: Rng) -> None:
    """The scales of a weight's channels in another order."""
    _, _, scale = pick(rng, list(scaled_weights(model)))
    _exchanged(scale, np.roll(np.array(scale.data), 1, axis=0))


@fault("constants", "int8 openvino")
def exchanged_ranges(model: Any, rng: Rng) -> None:
    """Two quantizers that have each other's range."""
    signed = [fake for fake in fakes(model) if quantizer_of(fake).symmetric]
    one = pick(rng, signed)
    other = pick(rng, [fake for fake in signed if quantizer_of(fake).high != quantizer_of(one).high])
    first, second = quantizer_of(one), quantizer_of(other)
    _limits(one, second.low, second.high)
    _limits(other, first.low, first.high)


@fault("ranges", "int8 openvino", program=True)
def ir_coarse_activation(model: Any, rng: Rng) -> None:
    """A range twenty times too wide: most of its integers are never used."""
    _scaled(pick(rng, fakes(model)), np.float32(_FACTOR))


@fault("ranges", "int8 openvino", program=True)
def ir_clipped_activation(model: Any, rng: Rng) -> None:
    """A range twenty times too narrow: what is large is cut off."""
    _scaled(pick(rng, fakes(model)), np.float32(1 / _FACTOR))


@fault("constants", "int8 openvino")
def range_by_an_ulp(model: Any, rng: Rng) -> None:
    """A range off by its last bit."""
    _scaled(pick(rng, fakes(model)), np.float32(1 + 2**-23))


def _scaled(fake: Any, factor: np.float32) -> None:
    quantizer = quantizer_of(fake)
    _limits(fake, quantizer.low * factor, quantizer.high * factor)


@fault("operators", "int8 openvino")
def moved_zero(model: Any, rng: Rng) -> None:
    """A quantizer's zero point off by three: its range lies three units higher."""
    fake = pick(rng, fakes(model))
    quantizer = quantizer_of(fake)
    _limits(fake, quantizer.low + 3 * quantizer.scale, quantizer.high + 3 * quantizer.scale)


@fault("operators", "int8 openvino")
def back_by_another_range(model: Any, rng: Rng) -> None:
    """A quantizer that decodes its integers to a range half as wide."""
    fake = pick(rng, fakes(model))
    quantizer = quantizer_of(fake)
    _limits(fake, quantizer.low / 2, quantizer.high / 2, places=(3, 4))


@fault("structure", "int8 openvino")
def signed_relu(model: Any, rng: Rng) -> None:
    """A range from zero up made symmetric: the ReLU that was in it is gone."""
    fake = pick(rng, [each for each in fakes(model) if quantizer_of(each).tensor.startswith("relu")])
    high = quantizer_of(fake).high
    _limits(fake, -high * np.float32(128 / 127), high)


@fault("operators", "int8 openvino")
def lost_quantizer(model: Any, rng: Rng) -> None:
    """A convolution that reads the tensor itself, past its quantizer: as right as before, and in float32."""
    readers = [
        op
        for op in model.get_ops()
        if op.get_type_name() == "Convolution" and op.input_value(0).get_node().get_type_name() == "FakeQuantize"
    ]
    reader = pick(rng, readers)
    past = reader.input_value(0).get_node().input_value(0)
    reader.input(0).replace_source_output(past)


@fault("operators", "int8 openvino")
def decoded_weight(model: Any, rng: Rng) -> None:
    """A weight that is stored decoded, and computes in float32."""
    product, integers, scale = pick(rng, list(scaled_weights(model)))
    from openvino import opset13

    value = np.array(integers.data).astype(np.float32) * np.array(scale.data)
    product.output(0).replace(opset13.constant(value).output(0))


@fault("structure", "int8 openvino")
def other_heads_bias(model: Any, rng: Rng) -> None:
    """The attention biases of two heads exchanged."""
    biases = [op for op in model.get_ops() if op.get_type_name() == "Constant" and _softmax_reads(op)]
    one, other = pick(rng, alike(biases, lambda constant: list(constant.data.shape)))
    first, second = np.array(one.data), np.array(other.data)
    _exchanged(one, second)
    _exchanged(other, first)


def _softmax_reads(constant: Any) -> bool:
    added = [port.get_node() for port in constant.output(0).get_target_inputs()]
    behind = [port.get_node() for node in added for output in node.outputs() for port in output.get_target_inputs()]
    return bool(behind) and all(node.get_type_name() == "Softmax" for node in behind)
