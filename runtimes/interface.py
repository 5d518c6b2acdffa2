"""The interface of an artifact: what an app feeds it by name, and gets. Read from the file, not remembered."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from efficientvit.errors import BrokenArtifact, StageFailed
from efficientvit.spec import ModelSpec
from runtimes.artifact import Artifact, Format, Interface
from runtimes.onnx.graph import load_onnx
from runtimes.openvino.runtime import import_openvino

if TYPE_CHECKING:
    from runtimes.coreml.mlpackage import TensorType, Types

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
        BrokenArtifact: a Core ML package cannot be read, or its description is not of its program.
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

    graph = load_onnx(artifact.path, weights=False).graph
    return tuple(map(port, graph.input)), tuple(map(port, graph.output))


def _openvino(artifact: Artifact) -> Ports:
    def port(value: Any) -> Port:
        shape = (BATCH if d.is_dynamic else d.get_length() for d in value.get_partial_shape())
        name = sorted(value.get_names())[0] if value.get_names() else ""
        return Port(name, value.get_element_type().to_dtype().name, tuple(shape))

    model = import_openvino().Core().read_model(artifact.path)
    return tuple(map(port, model.inputs)), tuple(map(port, model.outputs))


def _coreml(artifact: Artifact) -> Ports:
    from runtimes.coreml.mlpackage import load_model

    model = load_model(artifact.path)
    _require_agreement(artifact, model)
    description = model.description
    return (
        tuple(_coreml_port(value, model) for value in description.input),
        tuple(_coreml_port(value, model) for value in description.output),
    )


def _network(artifact: Artifact) -> Ports:
    from runtimes.tensorrt.evaluated import load_network

    program = load_network(artifact)
    types = program.types()

    def port(name: str) -> Port:
        dtype = {"fp32": "float32", "fp16": "float16"}.get(types[name].dtype, types[name].dtype)
        return Port(name, dtype, tuple(BATCH if size == -1 else size for size in types[name].shape))

    return tuple(map(port, program.inputs)), tuple(map(port, program.outputs))


_VERSIONS = {"CoreML5": 6, "CoreML6": 7, "CoreML7": 8, "CoreML8": 9}
"""The version of the format with which an opset came: with iOS 15, 16, 17 and 18."""


def _require_agreement(artifact: Artifact, model: Any) -> None:
    """An app goes by the description, and what runs is the program.

    Raises:
        BrokenArtifact: one has an input or an output that the other has not, or of another type; or the format is of
            another version than the program needs.
    """
    from runtimes.coreml.mlpackage import load_signature

    opset, inputs, outputs = load_signature(artifact.path)
    description = model.description
    for what, described, held in (("inputs", description.input, inputs), ("outputs", description.output, outputs)):
        said = {value.name: _described(value) for value in described}
        if said != held:
            raise BrokenArtifact(
                f"the description's {what} are not the program's", expected=_listed(held), got=_listed(said)
            )
    if model.specificationVersion != _VERSIONS.get(opset):
        raise BrokenArtifact(
            f"the package is in another version of the format than its opset {opset} asks for",
            expected=str(_VERSIONS.get(opset)),
            got=str(model.specificationVersion),
        )


def _described(value: Any) -> "TensorType | None":
    """What the program must have for this input or output; None for a dictionary."""
    from runtimes.coreml.mlpackage import TensorType

    kind = value.type.WhichOneof("Type")
    if kind == "multiArrayType":
        array = value.type.multiArrayType
        dtype = array.ArrayDataType.Name(array.dataType).lower().replace("float", "fp")
        return TensorType(dtype, tuple(array.shape))
    if kind == "imageType":
        image = value.type.imageType
        return TensorType("fp32", (1, 3, image.height, image.width))
    return TensorType("string", ()) if kind == "stringType" else None


def _listed(types: "Types") -> str:
    return ", ".join(f"'{name}' {kind or 'dictionary'}" for name, kind in types.items())


def _coreml_port(value: Any, model: Any) -> Port:
    kind = value.type.WhichOneof("Type")
    if value.type.isOptional or _is_flexible(value):
        return Port(value.name, f"optional or flexible {kind}", ())
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


def _is_flexible(value: Any) -> bool:
    """An app may feed other sizes: the program is of one size."""
    array, image = value.type.multiArrayType, value.type.imageType
    return any(kind.WhichOneof(what) for kind, what in ((array, "ShapeFlexibility"), (image, "SizeFlexibility")))


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
    if artifact.format != Format.COREML:
        return {}
    from runtimes.coreml.mlpackage import load_model

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
