"""The interface of an artifact: what an app feeds it by name, and gets. Read from the file, not remembered."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from efficientvit.errors import StageFailed
from efficientvit.spec import ModelSpec
from runtimes.artifact import Artifact, Format, Interface
from runtimes.openvino_ir import import_openvino

INPUT, OUTPUT, BATCH = "image", "logits", "batch"
LABEL, PROBABILITIES = "classLabel", "probabilities"
RGB8 = "RGB, 8 bits"
METADATA_PREFIX = "vit-export."


@dataclass(frozen=True, slots=True)
class Port:
    """One input or output. A dimension is a number, or `batch` where it is dynamic.

    `dtype`: NumPy's name, or `RGB8`, `string`, `dictionary`. `labels_sha256`: of the labels that an output bears.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    labels_sha256: str = ""

    def __str__(self) -> str:
        text = f"'{self.name}' {self.dtype} ({', '.join(map(str, self.shape))})"
        return f"{text} labels {self.labels_sha256[:12]}" if self.labels_sha256 else text


Ports = tuple[tuple[Port, ...], tuple[Port, ...]]
"""Inputs, outputs."""


def intended_ports(model: ModelSpec, batch: int | None, interface: Interface = Interface()) -> Ports:  # noqa: B008
    """What every artifact of ours has: images in, float32 logits out, and what `interface` adds to them."""
    size: int | str = BATCH if batch is None else batch
    dtype = RGB8 if interface.image_input else "float32"
    image = Port(INPUT, dtype, (size, 3, model.image_size, model.image_size))
    logits = Port(OUTPUT, "float32", (size, model.classes))
    if not interface.labels:
        return (image,), (logits,)
    sha256 = labels_digest(interface.labels)
    label, probabilities = Port(LABEL, "string", ()), Port(PROBABILITIES, "dictionary", (model.classes,), sha256)
    return (image,), (logits, label, probabilities)


def labels_digest(labels: Sequence[str]) -> str:
    """SHA-256 over the labels in order, a line each."""
    return hashlib.sha256("".join(f"{label}\n" for label in labels).encode()).hexdigest()


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
    from runtimes.mil_program import load_model

    model = load_model(artifact.path)
    description = model.description
    return (
        tuple(_coreml_port(value, model) for value in description.input),
        tuple(_coreml_port(value, model) for value in description.output),
    )


def _network(artifact: Artifact) -> Ports:
    from runtimes.trt_network import load_network

    program = load_network(artifact)
    types = program.types()

    def port(name: str) -> Port:
        dtype = {"fp32": "float32", "fp16": "float16"}.get(types[name].dtype, types[name].dtype)
        return Port(name, dtype, tuple(BATCH if size == -1 else size for size in types[name].shape))

    return tuple(map(port, program.inputs)), tuple(map(port, program.outputs))


def _coreml_port(value: Any, model: Any) -> Port:
    kind = value.type.WhichOneof("Type")
    if kind == "multiArrayType":
        array = value.type.multiArrayType
        dtype: str = array.ArrayDataType.Name(array.dataType).lower()
        return Port(value.name, dtype, tuple(array.shape))
    if kind == "imageType":
        image = value.type.imageType
        layout = image.ColorSpace.Name(image.colorSpace)
        return Port(value.name, RGB8 if layout == "RGB" else layout, (1, 3, image.height, image.width))
    if kind == "stringType" and value.name == model.description.predictedFeatureName:
        return Port(value.name, "string", ())
    if kind == "dictionaryType" and value.name == model.description.predictedProbabilitiesName:
        labels = _coreml_labels(model)
        return Port(value.name, "dictionary", (len(labels),), labels_digest(labels))
    return Port(value.name, str(kind), ())


def _coreml_labels(model: Any) -> list[str]:
    """What the program's `classify` operations hold."""
    return [
        text
        for function in model.mlProgram.functions.values()
        for block in function.block_specializations.values()
        for operation in block.operations
        if operation.type == "classify"
        for binding in operation.inputs["classes"].arguments
        for entry in binding.value.immediateValue.list.values
        for text in entry.immediateValue.tensor.strings.values
    ]


def read_metadata(artifact: Artifact) -> Mapping[str, str]:
    """What the file says of itself under keys of ours; empty for a format that has no place for it here.

    Raises:
        MissingExtra: the package that reads this format is not installed.
        BrokenArtifact: the package cannot be read.
    """
    if artifact.format is not Format.COREML:
        return {}
    from runtimes.mil_program import load_model

    metadata = load_model(artifact.path).description.metadata
    ours = {key: value for key, value in metadata.userDefined.items() if key.startswith(METADATA_PREFIX)}
    return {
        **ours,
        "author": metadata.author,
        "license": metadata.license,
        "version": metadata.versionString,
        "description": metadata.shortDescription,
    }


_READERS: Mapping[Format, Callable[[Artifact], Ports]] = {
    Format.ONNX: _onnx,
    Format.OPENVINO: _openvino,
    Format.COREML: _coreml,
    Format.NETWORK: _network,
    Format.ENGINE: _network,
}
