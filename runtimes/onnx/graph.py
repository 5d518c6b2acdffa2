"""ONNX files: opened, cleared of unread nodes, and put into float32 arithmetic."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from efficientvit.content import FIRST, described
from efficientvit.errors import BadInput, BrokenArtifact

_CONSTANTS_SINCE = 4  # IR version; before it every initializer had to be an input


def load_onnx(path: Path, *, weights: bool = True) -> Any:
    """The onnx.ModelProto at `path`; without `weights` those that lie in files beside it are not read.

    Initializers that are inputs as well, as older exporters write them, are inputs no more: nobody has to feed them.

    Raises:
        BrokenArtifact: it is not an ONNX file, or truncated.
        BadInput: a file in which its weights lie is missing.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(path, load_external_data=False)
        if weights:
            _require_data(model, path)
            onnx.load_external_data_for_model(model, str(path.parent))
    except (DecodeError, OSError, ValueError, onnx.checker.ValidationError) as error:
        raise BrokenArtifact(
            f"{path.name} cannot be read as an ONNX file",
            got=(f"{_beginning(path)}; " if isinstance(error, DecodeError) else "") + str(error).splitlines()[0],
            next_step="export it again",
        ) from error
    if not model.graph.node:
        raise BrokenArtifact(f"{path.name} is an ONNX file without a graph", next_step="export it again")
    _without_held_inputs(model)
    return model


def _without_held_inputs(model: Any) -> None:
    """Leave the inputs that the graph itself has no value for, where there are such."""
    graph = model.graph
    held = {tensor.name for tensor in graph.initializer}
    fed = [value for value in graph.input if value.name not in held]
    if fed and len(fed) < len(graph.input):
        put(graph.input, fed)
        model.ir_version = max(model.ir_version, _CONSTANTS_SINCE)


_LARGE = 1024
"""Values of a tensor that says nothing of shapes."""


def inferred(model: Any) -> Any:
    """The onnx.GraphProto of a model with the types that follow from what it declares; without its large weights.

    Raises:
        onnx.shape_inference.InferenceError: the shapes contradict each other.
    """
    import onnx

    graph = model.graph
    light = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    for name in ("node", "input", "output", "value_info"):
        getattr(light.graph, name).extend(getattr(graph, name))
    inputs = {value.name for value in graph.input}
    for tensor in graph.initializer:
        if np.prod(tensor.dims, dtype=int) < _LARGE or tensor.name in inputs:
            light.graph.initializer.append(tensor)
        else:
            light.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    return onnx.shape_inference.infer_shapes(light).graph


def _beginning(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return described(file.read(FIRST))
    except OSError:
        return "an unreadable file"


def write_onnx(model: Any, path: Path) -> None:
    """Write an onnx.ModelProto: the same model, the same bytes."""
    path.write_bytes(model.SerializeToString(deterministic=True))


def _require_data(model: Any, path: Path) -> None:
    """Every file in which the weights lie is beside it."""
    entries = (entry for tensor in model.graph.initializer for entry in tensor.external_data)
    named = {entry.value for entry in entries if entry.key == "location"}
    for name in sorted(named):
        try:
            there = (path.parent / name).exists()
        except ValueError:  # no name of a file
            there = False
        if not there:
            raise BadInput(
                f"the weights of {path.name} lie in another file, which is not there",
                expected=f"{name} beside it",
                got=f"no such file in {path.parent}",
                next_step=f"copy {name} from where the file was exported to, beside it",
            )


def put(field: Any, messages: Iterable[Any]) -> None:
    """Let a repeated field hold these messages, some of which may be in it."""
    kept = [type(each).FromString(each.SerializeToString()) for each in messages]  # those in it go with what it holds
    del field[:]
    field.extend(kept)


def without_unread(model: Any) -> None:
    """Remove the nodes and constants of an onnx.ModelProto that nothing reads."""
    graph = model.graph
    used = {output.name for output in graph.output}
    kept = []
    for node in reversed(graph.node):  # from the end: what only an unread node reads is unread too
        if used.intersection(node.output):
            used.update(node.input)
            kept.append(node)
    put(graph.node, reversed(kept))
    held = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(held)


def widened(model: Any) -> Any:
    """Change an onnx.ModelProto in place: every float16 type becomes float32, values stay. Returns it.

    So what the file says is separated from the precision of its arithmetic: ONNX Runtime's CPU kernels round around
    float16 operators, and running the file as it is cannot show one without the other.
    """
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
