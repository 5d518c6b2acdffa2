"""The quantisers of an int8 ONNX file: where they stand, and the file without those between its operators.

Without them the file is its structure and its decoded weights in float32 arithmetic, and a fault in either stands out
a thousandfold that would drown in the rounding of activations.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

_QUANTISERS = ("QuantizeLinear", "DequantizeLinear")


@dataclass(frozen=True, slots=True)
class Quantiser:
    """One between two operators: of the tensor `tensor`, by `scale` (one for the whole tensor)."""

    tensor: str
    scale_name: str
    scale: float


def is_quantised(model: Any) -> bool:
    """There is a quantiser in the graph."""
    return any(node.op_type in _QUANTISERS for node in model.graph.node)


def activation_quantisers(model: Any) -> Iterator[Quantiser]:
    """Those between operators; weights are stored quantised and have none."""
    import onnx

    held = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear" and node.input[1] in held:
            scale = np.asarray(onnx.numpy_helper.to_array(held[node.input[1]]))
            yield Quantiser(node.input[0], node.input[1], float(scale.reshape(-1)[0]) if scale.size == 1 else np.nan)


def without_quantisers(model: Any) -> Any:
    """Change an onnx.ModelProto in place: operators read what was to be quantised. Weights stay. Returns it."""
    held = {tensor.name for tensor in model.graph.initializer}
    instead: dict[str, str] = {}

    def resolved(name: str) -> str:
        while name in instead:
            name = instead[name]
        return name

    kept = []
    for node in model.graph.node:
        first = resolved(node.input[0]) if node.input else ""
        if node.op_type in _QUANTISERS and first not in held:
            instead[node.output[0]] = first
            continue
        for index, name in enumerate(node.input):
            node.input[index] = resolved(name)
        kept.append(node)
    kept = [type(node).FromString(node.SerializeToString()) for node in kept]
    del model.graph.node[:]
    model.graph.node.extend(kept)
    return model
