"""A Q/DQ file split into subgraphs at its quantizers, each with inputs and outputs of its own.

ONNX Runtime fuses within a subgraph, not across quantizers: each runs in the kernels of the whole model.
"""

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from runtimes.onnx.graph import inferred
from runtimes.onnx.runtime import shipped_session

_FED = ".fed"


class OnnxSubgraphs:
    """The subgraphs of a Q/DQ file, with the optimizations and kernels that the file ships with.

    Args:
        model: an onnx.ModelProto; it is changed.
    """

    def __init__(self, model: Any) -> None:
        self.integers = _split(model)
        self._session = shipped_session(model.SerializeToString())
        self._outputs = [output.name for output in self._session.get_outputs()]
        self._inputs = {port.name: port.name.removesuffix(_FED) for port in self._session.get_inputs()}

    def __call__(self, right: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """`right`, the image and every integer tensor -> the result of each subgraph, by the name of its tensor."""
        feed = {port: right[name] for port, name in self._inputs.items()}
        return dict(zip(self._outputs, self._session.run(self._outputs, feed), strict=True))


def _split(model: Any) -> tuple[str, ...]:
    """Integer tensors become outputs, and their readers read inputs instead. Their names."""
    import onnx

    shapes = {value.name: value.type.tensor_type.shape for value in inferred(model).value_info}
    graph = model.graph
    held = {tensor.name: tensor for tensor in graph.initializer}
    kinds = {node.output[0]: held[node.input[2]].data_type for node in graph.node if node.op_type == "QuantizeLinear"}
    for node in graph.node:
        for index, name in enumerate(node.input):
            if name in kinds:
                node.input[index] = f"{name}{_FED}"
    read = {name for node in graph.node for name in node.input}
    outputs = {output.name for output in graph.output}
    for name, kind in kinds.items():
        if f"{name}{_FED}" in read:
            # With its shape, or the layout would not be optimized as in the whole.
            fed = onnx.helper.make_tensor_value_info(f"{name}{_FED}", kind, None)
            fed.type.tensor_type.shape.CopyFrom(shapes[name])
            graph.input.append(fed)
        if name not in outputs:
            graph.output.append(onnx.helper.make_tensor_value_info(name, kind, None))
    return tuple(kinds)
