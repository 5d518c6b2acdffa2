"""A float16 ONNX file in float32 arithmetic: the same graph, the same (rounded) weights, nothing else rounded.

That separates what the file *says* from how coarse its arithmetic is. ONNX Runtime's CPU kernels round
around float16 operators, so running the file as it is can't show the one without the other.
"""

from typing import Any


def widened(model: Any) -> Any:
    """Change an onnx.ModelProto in place: every float16 type becomes float32; values stay. Returns it."""
    import numpy as np
    import onnx

    half, single = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT

    def wide(tensor: Any) -> None:
        if tensor.data_type == half:
            value = onnx.numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(value, tensor.name))

    graph = model.graph
    for tensor in graph.initializer:
        wide(tensor)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                wide(attribute.t)
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == half:
                attribute.i = single
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.type.tensor_type.elem_type == half:
            value.type.tensor_type.elem_type = single
    return model
