"""What is done to the pairs that ONNX Runtime's quantiser writes: some are taken out, some become symmetric."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

_PRODUCTS = ("Conv", "MatMul", "Gemm")


@dataclass(frozen=True, slots=True)
class Pair:
    """A quantiser and its only dequantiser, the node before them (None for an input) and the only one behind."""

    forth: Any
    back: Any
    maker: Any | None
    reader: Any


def behind_each_relu_alone(pair: Pair) -> bool:
    """The pair before a ReLU: half of its integers would be for values that the ReLU drops."""
    return bool(pair.reader.op_type == "Relu")


def rounded_once(pair: Pair) -> bool:
    """The pair before a ReLU; that between a product and what is added to it; that before a softmax."""
    summed = pair.reader.op_type == "Add" and pair.maker is not None and pair.maker.op_type in _PRODUCTS
    return summed or pair.reader.op_type == "Softmax" or behind_each_relu_alone(pair)


def without_pairs(model: Any, needless: Callable[[Pair], bool]) -> None:
    """Take out, in place, the pairs that are `needless` and have one reader."""
    graph = model.graph
    taken = set()
    for pair in list(_pairs(graph)):
        if needless(pair):
            index = list(pair.reader.input).index(pair.back.output[0])
            pair.reader.input[index] = pair.forth.input[0]
            taken |= {id(pair.forth), id(pair.back)}
    kept = [type(node).FromString(node.SerializeToString()) for node in graph.node if id(node) not in taken]
    del graph.node[:]
    graph.node.extend(kept)
    used = {name for node in graph.node for name in node.input}
    held = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(held)


def _pairs(graph: Any) -> Iterator[Pair]:
    makers = {name: node for node in graph.node for name in node.output}
    readers: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    for back in graph.node:
        forth = makers.get(back.input[0]) if back.op_type == "DequantizeLinear" else None
        if forth is None or forth.op_type != "QuantizeLinear":
            continue
        behind = readers.get(back.output[0], [])
        if len(behind) == len(readers[forth.output[0]]) == 1:
            yield Pair(forth, back, makers.get(forth.input[0]), behind[0])


def without_zero_points(model: Any) -> None:
    """Make each activation's range symmetric, in int8, where it has negative values: the larger side decides.

    In place; a range from zero up stays uint8. A zero point costs OpenVINO's kernels a correction for every output, and
    its matrix products can't have any.
    """
    import onnx

    held = {tensor.name: tensor for tensor in model.graph.initializer}
    quantisers = [node for node in model.graph.node if node.op_type == "QuantizeLinear" and node.input[0] not in held]
    for scale_name, zero_name in {(node.input[1], node.input[2]) for node in quantisers}:
        scale, zero = (onnx.numpy_helper.to_array(held[name]) for name in (scale_name, zero_name))
        if zero.dtype != np.uint8 or not zero.any():
            continue
        most = np.float32(max(int(zero), 255 - int(zero)))
        held[scale_name].CopyFrom(onnx.numpy_helper.from_array(scale * most / np.float32(127), scale_name))
        held[zero_name].CopyFrom(onnx.numpy_helper.from_array(np.zeros_like(zero, np.int8), zero_name))
    del model.graph.value_info[:]  # the types of what was quantised are others now
