"""What it takes to leave layers of an int8 file in float32: multiply-adds counted from shapes, to rank layers by.

No time is measured. A file that int8 costs too much is not verified, and what is not verified is not timed; a count is
also the same on every host, so that a folder can be made again. docs/adr/0029 compares it with times.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from export.targets.onnx.float_layers import layer_of_each
from runtimes.onnx.qdq import DENSE, MOVES, is_depthwise

DEPTHWISE = 10
"""Multiply-adds of a dense product that take as long as one of a depthwise convolution. Measured, docs/adr/0029."""

_FUSED = ("Relu", *MOVES)


@dataclass(frozen=True, slots=True)
class LayerCosts:
    """Layer -> its multiply-adds for a batch, and the layers that are computed in float32 where it is."""

    work: Mapping[str, int]
    with_it: Mapping[str, frozenset[str]]

    def share(self, layers: Collection[str]) -> float:
        """Of the file's multiply-adds, those that are done in float32 where these layers are left so."""
        done = set(layers).union(*(self.with_it[layer] for layer in layers))
        return sum(self.work[layer] for layer in done) / sum(self.work.values())


def layer_costs(source: Any, *, feeding: bool) -> LayerCosts:
    """Of every layer of the float32 onnx.ModelProto that an int8 file was made of.

    Args:
        source: a dynamic batch counts as one image.
        feeding: a layer whose output is read unrounded is computed in float32 as well. ONNX Runtime's integer kernels
            end in integers, OpenVINO's and TensorRT's need not.
    """
    shapes = _shapes(source)
    work: dict[str, int] = {}
    with_it: dict[str, set[str]] = {}
    makers = {name: node for node in source.graph.node for name in node.output}
    for node, layer in zip(source.graph.node, layer_of_each(source), strict=True):
        if layer is None:
            continue
        if node.op_type in DENSE:
            work[layer] = _multiply_adds(node, shapes)
            with_it[layer] = set()
        if feeding:
            with_it[layer] |= {product.name for name in node.input for product in _product(name, makers)} - {layer}
    return LayerCosts(work, {layer: frozenset(others) for layer, others in with_it.items()})


def _shapes(model: Any) -> Mapping[str, tuple[int, ...]]:
    import onnx

    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    found = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        found[value.name] = tuple(size.dim_value or 1 for size in value.type.tensor_type.shape.dim)
    return found


def _multiply_adds(node: Any, shapes: Mapping[str, tuple[int, ...]]) -> int:
    left, right, result = (shapes[name] for name in (*node.input[:2], node.output[0]))
    depth = prod(right[1:]) if node.op_type == "Conv" else left[-1]
    return prod(result) * depth * (DEPTHWISE if is_depthwise(node) else 1)


def _product(name: str, makers: Mapping[str, Any]) -> Iterator[Any]:
    """The product that makes this tensor, in one kernel with the ReLU behind it."""
    node = makers.get(name)
    while node is not None and node.op_type in _FUSED:
        node = makers.get(node.input[0])
    if node is not None and node.op_type in DENSE:
        yield node
