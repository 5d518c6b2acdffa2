"""Opens ONNX files; what cannot be parsed is a broken artifact, not a crash. And clears them of what nothing reads."""

from pathlib import Path
from typing import Any

from efficientvit.errors import BrokenArtifact


def load_onnx(path: Path, *, weights: bool = True) -> Any:
    """The onnx.ModelProto at `path`; without `weights` those that lie in files beside it are not read.

    Raises:
        BrokenArtifact: it is no ONNX file, it is cut off, or a file that it refers to is missing.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(path, load_external_data=weights)
    except (DecodeError, OSError, ValueError, onnx.checker.ValidationError) as error:
        raise BrokenArtifact(
            f"{path.name} cannot be read as an ONNX file", got=str(error).splitlines()[0], next_step="export it again"
        ) from error
    if not model.graph.node:
        raise BrokenArtifact(f"{path.name} is an ONNX file without a graph", next_step="export it again")
    return model


def without_unread(model: Any) -> None:
    """Take out of an onnx.ModelProto the nodes and constants that nothing reads."""
    graph = model.graph
    used = {output.name for output in graph.output}
    kept = []
    for node in reversed(graph.node):  # from the end: what only an unread node reads is unread too
        if used.intersection(node.output):
            used.update(node.input)
            kept.append(type(node).FromString(node.SerializeToString()))
    del graph.node[:]
    graph.node.extend(reversed(kept))
    held = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(held)
