"""An ONNX file, opened to be spoiled."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

Array = NDArray[Any]


@contextmanager
def opened(path: Path) -> Iterator[onnx.ModelProto]:
    """The model at `path`, written back on exit."""
    model = onnx.load(path)
    yield model
    onnx.save(model, path)


def initializers(model: onnx.ModelProto, ending: str) -> list[onnx.TensorProto]:
    """Those whose names end so."""
    return [tensor for tensor in model.graph.initializer if tensor.name.endswith(ending)]


def changed(tensor: onnx.TensorProto, change: Callable[[Array], Array]) -> None:
    """Put another value into an initializer."""
    value = change(numpy_helper.to_array(tensor).copy())
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(value), tensor.name))


def exchange(one: onnx.TensorProto, other: onnx.TensorProto) -> None:
    """Give two initializers each other's values."""
    first, second = numpy_helper.to_array(one), numpy_helper.to_array(other)
    changed(one, lambda _: second)
    changed(other, lambda _: first)


def nodes(model: onnx.ModelProto, kind: str) -> list[onnx.NodeProto]:
    """Those of one kind."""
    return [node for node in model.graph.node if node.op_type == kind]


def stored_in(model: onnx.ModelProto) -> Any:
    """float16 or float32, whichever the weights are."""
    half = any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in model.graph.initializer)
    return np.float16 if half else np.float32
