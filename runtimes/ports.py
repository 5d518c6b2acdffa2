"""The interface of an artifact: what an app feeds it by name, and gets. Read from the file, not remembered."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from efficientvit.errors import StageFailed
from efficientvit.spec import ModelSpec
from runtimes.artifact import Artifact, Format
from runtimes.openvino_ir import import_openvino

INPUT, OUTPUT, BATCH = "image", "logits", "batch"


@dataclass(frozen=True, slots=True)
class Port:
    """One input or output. A dimension is a number, or `batch` where it is dynamic."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    def __str__(self) -> str:
        return f"'{self.name}' {self.dtype} ({', '.join(map(str, self.shape))})"


Ports = tuple[tuple[Port, ...], tuple[Port, ...]]
"""Inputs, outputs."""


def intended_ports(model: ModelSpec, batch: int | None) -> Ports:
    """What every artifact of ours has: normalised images in, logits out, both float32 whatever is between."""
    size: int | str = BATCH if batch is None else batch
    image = Port(INPUT, "float32", (size, 3, model.image_size, model.image_size))
    return (image,), (Port(OUTPUT, "float32", (size, model.classes)),)


def read_ports(artifact: Artifact) -> Ports:
    """What the file declares.

    Raises:
        MissingExtra: the package that reads this format is not installed.
        StageFailed: there is no reader for the format.
    """
    reader = _READERS.get(artifact.format)
    if reader is None:
        raise StageFailed(f"the ports of a {artifact.format} artifact cannot be read", expected=" or ".join(_READERS))
    return reader(artifact)


def _onnx(artifact: Artifact) -> Ports:
    import onnx

    def port(value: Any) -> Port:
        kind = value.type.tensor_type
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name
        return Port(value.name, dtype, tuple(d.dim_value if d.HasField("dim_value") else BATCH for d in kind.shape.dim))

    graph = onnx.load(artifact.path, load_external_data=False).graph
    return tuple(map(port, graph.input)), tuple(map(port, graph.output))


def _openvino(artifact: Artifact) -> Ports:
    def port(value: Any) -> Port:
        shape = (BATCH if d.is_dynamic else d.get_length() for d in value.get_partial_shape())
        name = sorted(value.get_names())[0] if value.get_names() else ""
        return Port(name, value.get_element_type().to_dtype().name, tuple(shape))

    model = import_openvino().Core().read_model(artifact.path)
    return tuple(map(port, model.inputs)), tuple(map(port, model.outputs))


def _coreml(artifact: Artifact) -> Ports:
    import coremltools as ct

    kinds = ct.proto.FeatureTypes_pb2.ArrayFeatureType.ArrayDataType

    def port(value: Any) -> Port:
        array = value.type.multiArrayType
        return Port(value.name, kinds.Name(array.dataType).lower(), tuple(array.shape))

    description = ct.utils.load_spec(str(artifact.path)).description
    return tuple(map(port, description.input)), tuple(map(port, description.output))


_READERS: Mapping[Format, Callable[[Artifact], Ports]] = {
    Format.ONNX: _onnx,
    Format.OPENVINO: _openvino,
    Format.COREML: _coreml,
}
