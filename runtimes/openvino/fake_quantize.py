"""The quantizers of an int8 IR: where they stand, and the IR without those between its operators.

OpenVINO's converter makes one FakeQuantize of each Q/DQ pair, which rounds floats within a range of floats, and leaves
a ReLU to the range behind it that starts at zero. Weights stay integers, each with a Multiply by its channels' scales.
"""

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtimes.openvino.package import import_openvino

FAKE = "FakeQuantize"
_BACK = "_DequantizeLinear"
_WITHOUT_BIAS = "/WithoutBiases"
PRODUCTS = ("Convolution", "GroupConvolution", "MatMul")
"""What multiplies."""

_MOVES = ("Reshape", "Transpose", "Split", "VariadicSplit", "StridedSlice", "Slice", "Squeeze", "Unsqueeze")


@dataclass(frozen=True, slots=True)
class FakeQuantizer:
    """One between two operators: of the tensor `tensor`, from `low` to `high`; `back`: the limits it decodes to."""

    tensor: str
    low: np.float32
    high: np.float32
    back: tuple[np.float32, np.float32]
    levels: int

    @property
    def symmetric(self) -> bool:
        """As far below zero as above, the one integer more apart."""
        return bool(self.low < 0)

    @property
    def least(self) -> int:
        """The lowest of its integers: int8 where anything is negative, uint8 elsewhere."""
        return -128 if self.symmetric else 0

    @property
    def scale(self) -> np.float32:
        """One unit; NaN of what has no integers of ours."""
        return np.float32((np.float64(self.high) - np.float64(self.low)) / (self.levels - 1))

    @property
    def dtype(self) -> type[np.int8] | type[np.uint8]:
        """Of its integers."""
        return np.int8 if self.symmetric else np.uint8

    @property
    def range(self) -> tuple[float, float]:
        """The lowest and the highest value that it can represent."""
        return (-float(self.high) if self.symmetric else float(self.low)), float(self.high)

    @property
    def ours(self) -> bool:
        """256 levels with zero among them and no zero point, decoded to the limits that they were taken from."""
        return self.levels == 256 and self.back == (self.low, self.high) and self._centered

    @property
    def _centered(self) -> bool:
        unit = self.scale
        return bool(unit > 0 and abs(np.float64(self.low) - self.least * np.float64(unit)) < 1e-3 * unit)

    def integers(self, values: NDArray[np.float32]) -> NDArray[np.integer]:
        """What values on its grid, in units, are as integers."""
        return values.astype(self.dtype)


def quantizer_of(fake: Any) -> FakeQuantizer:
    """The quantizer of a FakeQuantize operation; limits that differ by channel, which none of ours has, are NaN."""
    name = fake.get_friendly_name().removesuffix(_BACK)
    low, high, *back = (_limit(fake.input_value(index).get_node()) for index in range(1, 5))
    return FakeQuantizer(name, low, high, (back[0], back[1]), int(fake.get_attributes()["levels"]))


def _limit(constant: Any) -> np.float32:
    if constant.get_type_name() != "Constant" or constant.data.size != 1:
        return np.float32(np.nan)
    return np.float32(constant.data.reshape(-1)[0])


def fakes(model: Any) -> list[Any]:
    """The FakeQuantize operations of an openvino.Model, in the order in which they can be computed."""
    return [op for op in model.get_ordered_ops() if op.get_type_name() == FAKE]


def scaled_weights(model: Any) -> Iterator[tuple[Any, Any, Any]]:
    """(multiplication, integers, scale): each weight that is stored in integers, as operations."""
    for op in model.get_ordered_ops():
        if op.get_type_name() != "Multiply":
            continue
        left, scale = (op.input_value(index).get_node() for index in range(2))
        if left.get_type_name() == "Convert" and scale.get_type_name() == "Constant":
            integers = left.input_value(0).get_node()
            if integers.get_type_name() == "Constant":
                yield op, integers, scale


def makers_of_quantized(path: Path) -> dict[str, str]:
    """Tensor -> what an IR calls the module that makes it: the part before the last slash of the operation's name."""
    model = import_openvino().Core().read_model(path)
    makers = {quantizer_of(fake).tensor: fake.input_value(0).get_node().get_friendly_name() for fake in fakes(model)}
    return {
        tensor: maker.removesuffix(_WITHOUT_BIAS).rsplit("/", 1)[0] for tensor, maker in makers.items() if "/" in maker
    }


def left_out(model: Any, declared: Collection[str] = ()) -> Counter[str]:
    """Kinds of the matrix products and convolutions that read anything in floats though they are to be quantized.

    Those that are `declared`, by the names that they have in the ONNX file, are to be left out, each once.
    """
    awaited, found = Counter(set(declared)), Counter[str]()
    for op in _in_floats(model):
        if awaited[_layer(op)]:
            awaited[_layer(op)] -= 1
        else:
            found[op.get_type_name()] += 1
    return found


def not_left_out(model: Any, declared: Collection[str]) -> set[str]:
    """Those of `declared` that are quantized all the same, or not there."""
    return set(declared) - set(map(_layer, _in_floats(model)))


def _layer(op: Any) -> str:
    """What the ONNX file calls a product: the converter takes its bias apart."""
    name: str = op.get_friendly_name()
    return name.removesuffix(_WITHOUT_BIAS)


def _in_floats(model: Any) -> Iterator[Any]:
    """The products that read anything in floats."""
    weights = {op.get_friendly_name() for op, _, _ in scaled_weights(model)}

    def quantized(port: Any) -> bool:
        node = port.get_node()
        while node.get_type_name() in _MOVES:
            node = node.input_value(0).get_node()
        return node.get_type_name() == FAKE or node.get_friendly_name() in weights

    for op in model.get_ordered_ops():
        if op.get_type_name() in PRODUCTS and not all(quantized(op.input_value(index)) for index in range(2)):
            yield op


def readers_of(node: Any, kinds: Collection[str]) -> list[str]:
    """Names of the operations of these kinds whose first operand is what `node` gives, moved about at most."""
    found: list[str] = []
    for port in (port for output in node.outputs() for port in output.get_target_inputs()):
        reader = port.get_node()
        if reader.get_type_name() in kinds and port.get_index() == 0:
            found.append(reader.get_friendly_name())
        elif reader.get_type_name() in _MOVES:
            found += readers_of(reader, kinds)
    return found


def not_ours(model: Any) -> int:
    """How many quantizers round to other integers than ours, or decode them to something else."""
    return sum(not quantizer_of(fake).ours for fake in fakes(model))


def without_quantizers(model: Any) -> dict[str, Any]:
    """Change an openvino.Model in place: operators read what was to be quantized, weights are decoded.

    What starts at zero stays as a ReLU. Returns the output that each quantized tensor now comes from, by its name.
    """
    opset = _opset()
    bare: dict[str, Any] = {}
    for fake in fakes(model):
        quantizer, source = quantizer_of(fake), fake.input_value(0)
        output = source if quantizer.symmetric else _named(opset.relu(source), fake).output(0)
        fake.output(0).replace(output)
        bare[quantizer.tensor] = output
    _decode_weights(model)
    model.validate_nodes_and_infer_types()
    return bare


def spelled_out(model: Any) -> dict[str, Any]:
    """Change an openvino.Model in place: each quantizer becomes a division, a rounding and a product in float32.

    So nothing is left that OpenVINO could fuse into integer kernels. Returns the output with each tensor's integers, as
    floats, by its name.
    """
    opset = _opset()
    rounded: dict[str, Any] = {}
    for fake in fakes(model):
        quantizer = quantizer_of(fake)
        least, unit = quantizer.least, opset.constant(quantizer.scale)
        units = opset.round(opset.divide(fake.input_value(0), unit), "half_to_even")
        within = opset.clamp(units, float(least), float(least + quantizer.levels - 1))
        fake.output(0).replace(_named(opset.multiply(within, unit), fake).output(0))
        rounded[quantizer.tensor] = within.output(0)
    _decode_weights(model)
    model.validate_nodes_and_infer_types()
    return rounded


def show(model: Any, outputs: list[Any]) -> None:
    """Make each of these an output of an openvino.Model, in this order, behind those that it has."""
    model.add_results([_opset().result(output) for output in outputs])
    model.validate_nodes_and_infer_types()


def _decode_weights(model: Any) -> None:
    for product, integers, scale in list(scaled_weights(model)):
        decoded = np.array(integers.data).astype(np.float32) * np.array(scale.data)
        constant = _opset().constant(decoded)
        constant.set_friendly_name(integers.get_friendly_name())
        product.output(0).replace(constant.output(0))


def _named(node: Any, after: Any) -> Any:
    node.set_friendly_name(after.get_friendly_name())
    return node


def _opset() -> Any:
    import_openvino()  # first, or the telemetry comes along
    from openvino import opset13

    return opset13
