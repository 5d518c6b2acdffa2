"""Small quantized ONNX models for tests: pairs of a quantizer and its inverse, and what holds them."""

from collections.abc import Mapping, Sequence
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

Shape = Sequence[int | str]


def pair(tensor: str, scale: str | None = None, zero: str = "zero") -> list[onnx.NodeProto]:
    """A quantizer and its inverse over `tensor`, whose result is `tensor_dq`; by default of a scale of its own."""
    operands = [scale or f"{tensor}_scale", zero]
    return [
        helper.make_node("QuantizeLinear", [tensor, *operands], [f"{tensor}_q"]),
        helper.make_node(
            "DequantizeLinear", [f"{tensor}_q", *operands], [f"{tensor}_dq"], name=f"{tensor}_DequantizeLinear"
        ),
    ]


def model_of(
    nodes: Sequence[onnx.NodeProto], held: Mapping[str, NDArray[Any]], takes: Shape, gives: Shape | None = None
) -> onnx.ModelProto:
    """`image` of the shape `takes` -> `logits` of the shape `gives`, by default the same."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "quantized",
        [value("image", onnx.TensorProto.FLOAT, takes)],
        [value("logits", onnx.TensorProto.FLOAT, takes if gives is None else gives)],
        [numpy_helper.from_array(array, name) for name, array in held.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
