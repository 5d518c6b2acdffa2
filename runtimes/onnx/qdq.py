"""The quantizers of an int8 ONNX file: where they stand, and the file without those between its operators.

Without them the file is its structure and its decoded weights in float32 arithmetic, and a fault in either stands out
a thousandfold that would drown in the rounding of activations.
"""

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from runtimes.onnx.graph import put

_QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")
DENSE = ("Conv", "Gemm", "MatMul")
"""What is called a layer here: what multiplies."""

MOVES = ("Reshape", "Transpose", "Split")
"""What changes no value."""


@dataclass(frozen=True, slots=True)
class Quantizer:
    """One between two operators: of the tensor `tensor`, by `scale` (one for the whole tensor) about `zero`.

    `least`, `most`: the integers that it gives.
    """

    tensor: str
    scale_name: str
    scale: float
    zero_name: str = ""
    zero: int = 0
    least: int = -128
    most: int = 127

    @property
    def symmetric(self) -> bool:
        """As far below zero as above, the one integer more apart."""
        return self.zero == 0 and self.least < 0

    @property
    def range(self) -> tuple[float, float]:
        """The lowest and the highest value that it can represent."""
        if self.symmetric:
            return -self.most * self.scale, self.most * self.scale
        return (self.least - self.zero) * self.scale, (self.most - self.zero) * self.scale

    @property
    def limits(self) -> tuple[np.float32, np.float32]:
        """What its lowest and its highest integer stand for, in float32, as a converter to ranges computes them."""
        unit = np.float32(self.scale)
        return np.float32(self.least - self.zero) * unit, np.float32(self.most - self.zero) * unit


def is_quantized(model: Any) -> bool:
    """There is a quantizer in the graph."""
    return any(node.op_type in _QUANTIZERS for node in model.graph.node)


def activation_quantizers(model: Any) -> Iterator[Quantizer]:
    """Those between operators; weights are stored quantized and have none."""
    import onnx

    held = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear" and node.input[1] in held:
            scale, zero = (np.asarray(onnx.numpy_helper.to_array(held[name])) for name in node.input[1:3])
            limits = np.iinfo(zero.dtype)
            yield Quantizer(
                node.input[0],
                node.input[1],
                float(scale.reshape(-1)[0]) if scale.size == 1 else np.nan,
                node.input[2],
                int(zero.reshape(-1)[0]),
                limits.min,
                limits.max,
            )


def left_out(
    model: Any, *, depthwise: bool = False, moved: bool = False, declared: Collection[str] = ()
) -> Counter[str]:
    """Kinds of the operators that read anything not dequantized though they are to be quantized, and how many.

    Those are matrix products and convolutions; where `depthwise`, the depthwise ones too. What was only moved since it
    was dequantized is as good as dequantized where `moved`. The nodes that are `declared` are to be left out, each
    once.
    """
    awaited = Counter(set(declared))
    found: Counter[str] = Counter()
    for node in _in_float(model, moved=moved):
        if awaited[node.name]:
            awaited[node.name] -= 1
        elif depthwise or not is_depthwise(node):
            found[node.op_type] += 1
    return found


def not_left_out(model: Any, declared: Collection[str]) -> set[str]:
    """Those of `declared` that are quantized all the same, or not there."""
    return set(declared) - {node.name for node in _in_float(model)}


def _in_float(model: Any, *, moved: bool = False) -> Iterator[Any]:
    """The nodes that multiply anything that was not dequantized, or, where `moved`, dequantized and then moved."""
    dequantized: set[str] = set()
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" or (moved and node.op_type in MOVES and node.input[0] in dequantized):
            dequantized.update(node.output)
    for node in model.graph.node:
        if node.op_type in DENSE and not dequantized.issuperset(node.input[:2]):
            yield node


def unlike_their_quantizer(model: Any) -> int:
    """How many go back to floating point by another scale or zero point than they came from it."""
    import onnx

    held = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    makers = {node.output[0]: node for node in model.graph.node if node.op_type == "QuantizeLinear"}

    def same(first: str, second: str) -> bool:
        return first == second or (first in held and second in held and np.array_equal(held[first], held[second]))

    return sum(
        not all(map(same, node.input[1:], makers[node.input[0]].input[1:]))
        for node in model.graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in makers
    )


def is_depthwise(node: Any) -> bool:
    """A convolution in groups, of which this family has no other kind."""
    return any(attribute.name == "group" and attribute.i > 1 for attribute in node.attribute)


def layers(model: Any) -> list[str]:
    """Names of the nodes that multiply, in the file's order."""
    return [node.name for node in model.graph.node if node.op_type in DENSE]


def without_quantizers(model: Any) -> Any:
    """Change an onnx.ModelProto in place: operators read what was to be quantized. Weights stay. Returns it."""
    held = {tensor.name for tensor in model.graph.initializer}
    instead: dict[str, str] = {}

    def resolved(name: str) -> str:
        while name in instead:
            name = instead[name]
        return name

    kept = []
    for node in model.graph.node:
        first = resolved(node.input[0]) if node.input else ""
        if node.op_type in _QUANTIZERS:
            if first not in held:
                instead[node.output[0]] = first
                continue
            held.add(node.output[0])  # still a constant, for the quantizer that reads it
        for index, name in enumerate(node.input):
            node.input[index] = resolved(name)
        kept.append(node)
    put(model.graph.node, kept)
    for output in model.graph.output:
        if output.name in instead:  # an app reads it by this name
            model.graph.node.add(op_type="Identity", input=[resolved(output.name)], output=[output.name])
    return model
