"""Reads Core ML packages, on any host."""

from collections.abc import Iterator, Mapping
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from efficientvit.errors import BrokenArtifact
from runtimes.artifact import Artifact
from runtimes.coreml.evaluated import behind_preprocessing
from runtimes.coreml.kinds import KINDS
from runtimes.coreml.mlpackage import Types, load_model, load_program, load_signature
from runtimes.evaluator.neural_engine import Readiness
from runtimes.evaluator.program import Program, TensorType, unexpected
from runtimes.interface import METADATA_PREFIX, RGB8, Port, Ports, labels_digest
from runtimes.precision import Dtype, Precision
from runtimes.reader import Constant, Layers, Reader
from runtimes.runtime import Images, Mode

if TYPE_CHECKING:
    from runtimes.evaluator.evaluator import Language

_AFFINE = ("constexpr_affine_dequantize", "constexpr_blockwise_shift_scale")  # of iOS 16, of iOS 18
_TABLE = ("constexpr_lut_to_dense",)
_STORED = {Dtype.INT8: _AFFINE, Dtype.PALETTE8: _TABLE, Dtype.PALETTE6: _TABLE, Dtype.PALETTE4: _TABLE}

_VERSIONS = {"CoreML5": 6, "CoreML6": 7, "CoreML7": 8, "CoreML8": 9}
"""Opset -> the version of the format that introduced it: those of iOS 15, 16, 17 and 18."""

_SUFFIXES = ("_palettized", "_quantized", "_to_fp16")


def source_name(name: str) -> str:
    """The name that torch.export gave a parameter, from coremltools' (p_net_stem_conv_weight_to_fp16)."""
    for suffix in _SUFFIXES:
        name = name.removesuffix(suffix)
    return name.removeprefix("p_").removeprefix("b_").removeprefix("net_")


class CoreMlReader(Reader):
    """Reads .mlpackage folders."""

    several_outputs = True

    def ports(self, artifact: Artifact) -> Ports:
        """As the description declares them, which an app uses; the program, which runs, must agree with it."""
        model = load_model(artifact.path)
        _require_agreement(artifact, model)
        description = model.description
        return (
            tuple(_port(value, model) for value in description.input),
            tuple(_port(value, model) for value in description.output),
        )

    def program_ports(self, artifact: Artifact) -> Ports:
        """As the program has them: an image input is a tensor of 0 to 255 there.

        Of a classifier, whose dictionary is no tensor, the logits that it is made of are an output too.
        """
        program = load_program(artifact.path)
        _require_fitting(artifact, load_model(artifact.path).description)
        inputs, outputs = program.ports()
        if any(operation.kind == "classify" for operation in program.operations):
            name, types = _classified(program), program.types()
            if name in program.outputs:
                return inputs, outputs
            outputs = (*outputs, Port(name, types[name].dtype.replace("fp", "float"), types[name].shape))
        return inputs, outputs

    def colors(self, artifact: Artifact) -> str | None:
        """As the description declares them: Core ML hands the program the channels in that order."""
        kinds = [value.type for value in load_model(artifact.path).description.input]
        images = [kind.imageType for kind in kinds if kind.WhichOneof("Type") == "imageType"]
        return images[0].ColorSpace.Name(images[0].colorSpace) if images else None

    def metadata(self, artifact: Artifact) -> Mapping[str, str]:
        """The package's own fields, and the user-defined ones of this project."""
        metadata = load_model(artifact.path).description.metadata
        return {
            **{key: value for key, value in metadata.userDefined.items() if key.startswith(METADATA_PREFIX)},
            "author": metadata.author,
            "license": metadata.license,
            "version": metadata.versionString,
            "description": metadata.shortDescription,
        }

    def program(self, artifact: Artifact) -> "tuple[Program, Language]":
        """The main function of the package's program."""
        from runtimes.coreml.operators import MIL

        return load_program(artifact.path), MIL

    def readiness(self, artifact: Artifact) -> Readiness:
        """For the Neural Engine."""
        from runtimes.coreml.neural_engine import readiness

        return readiness(artifact)

    def constants(self, artifact: Artifact) -> Iterator[Constant]:
        """The tensors, decoded where they are compressed."""
        for name, constant in load_program(artifact.path).constants.items():
            if isinstance(constant.value, np.ndarray):
                yield source_name(name), constant.value

    def stored_precision(self, artifact: Artifact, weights: Dtype) -> Precision:
        """Compressed weights count as int8, whatever their form."""
        if load_program(artifact.path).compressed:
            return Precision(Dtype.INT8, Dtype.FP16, Dtype.FP16)
        return super().stored_precision(artifact, weights)

    def count_operators(self, artifact: Artifact) -> int | None:
        """The operations of the program."""
        return len(load_program(artifact.path).operations)

    def unexpected_operators(self, artifact: Artifact) -> Mapping[str, int]:
        """A kind of operation decides on which compute units, and from which version of iOS on, it can run."""
        program = load_program(artifact.path)
        large = _large_weights(program) if artifact.precision.weights.compressed else ()
        return unexpected(program, KINDS, large, _STORED.get(artifact.precision.weights, ()))

    def layers(self, artifact: Artifact, mode: Mode, output: str | None) -> Layers:
        """Run by the evaluator."""
        import torch

        from runtimes.coreml.operators import MIL
        from runtimes.program_layers import program_layers

        program = load_program(artifact.path)
        (image,) = program.inputs

        def feed(images: Images) -> dict[str, Any]:
            if images.dtype == np.uint8:
                return {image: torch.tensor(np.moveaxis(images, 3, 1).astype(np.float32))}
            network = behind_preprocessing(program, image) if artifact.interface.image_input else image
            return {network: torch.tensor(images)}

        outputs = (output,) if output else tuple(each.name for each in artifact.model.outputs)
        return program_layers(program, MIL, mode, outputs, feed, source_name)


def _classified(program: Program) -> str:
    """What `classify` takes, before a softmax and casts."""
    makers = {name: operation for operation in program.operations for name, _ in operation.outputs}
    (classify,) = [operation for operation in program.operations if operation.kind == "classify"]
    name = str(classify.inputs["probabilities"])
    while name in makers and makers[name].kind in ("cast", "softmax"):
        name = str(makers[name].inputs["x"])
    return name


def _require_agreement(artifact: Artifact, model: Any) -> None:
    """The description and the program have the same inputs and outputs, and the version of the format fits the opset.

    Raises:
        BrokenArtifact: they differ.
    """
    opset, inputs, outputs = load_signature(artifact.path)
    description = model.description
    for what, described, held in (("inputs", description.input, inputs), ("outputs", description.output, outputs)):
        said = {value.name: _described(value) for value in described}
        if said != held:
            raise BrokenArtifact(
                f"the package's description and its program have different {what}",
                expected=_listed(held),
                got=_listed(said),
            )
    if model.specificationVersion != _VERSIONS.get(opset):
        raise BrokenArtifact(
            f"the package's specification version does not fit its opset {opset}",
            expected=str(_VERSIONS.get(opset)),
            got=str(model.specificationVersion),
        )


def _require_fitting(artifact: Artifact, description: Any) -> None:
    """What an app is told of the inputs and outputs fits the program, as far as it is told.

    Raises:
        BrokenArtifact: other names or sizes, or more sizes than the program's one.
    """
    _, inputs, outputs = load_signature(artifact.path)
    for what, described, held in (("inputs", description.input, inputs), ("outputs", description.output, outputs)):
        said = {value.name: _described(value) for value in described}
        if said.keys() != held.keys() or not all(_fits(kind, held[name]) for name, kind in said.items()):
            raise BrokenArtifact(
                f"the package's description and its program have different {what}",
                expected=_listed(held),
                got=_listed(said),
            )
    if loose := [value.name for value in description.input if value.type.isOptional or _is_flexible(value)]:
        raise BrokenArtifact(
            "the package's description lets its input be left out, or be of other sizes than its program's",
            expected="one size, required",
            got=f"'{loose[0]}'",
        )


def _fits(said: TensorType | None, held: TensorType | None) -> bool:
    """Converters may leave the shape of an output out; of an image the sides are what counts."""
    if said is None or held is None or not said.shape:
        return True
    return said.shape[-2:] == held.shape[-2:]


def _described(value: Any) -> TensorType | None:
    """The type that the program must have for this input or output; None for a dictionary."""
    kind = value.type.WhichOneof("Type")
    if kind == "multiArrayType":
        array = value.type.multiArrayType
        dtype = array.ArrayDataType.Name(array.dataType).lower().replace("float", "fp")
        return TensorType(dtype, tuple(array.shape))
    if kind == "imageType":
        image = value.type.imageType
        return TensorType("fp32", (1, 3, image.height, image.width))
    return TensorType("string", ()) if kind == "stringType" else None


def _listed(types: Types) -> str:
    return ", ".join(f"'{name}' {kind or 'dictionary'}" for name, kind in types.items())


def _port(value: Any, model: Any) -> Port:
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
        labels = _labels(model)
        return Port(value.name, "dictionary", (len(labels),), labels_digest(labels))
    return Port(value.name, str(kind), ())


def _is_flexible(value: Any) -> bool:
    """An app may feed other sizes: the program is of one size."""
    array, image = value.type.multiArrayType, value.type.imageType
    return any(kind.WhichOneof(what) for kind, what in ((array, "ShapeFlexibility"), (image, "SizeFlexibility")))


def _labels(model: Any) -> list[str]:
    """The labels that the program's `classify` operations hold."""
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


def _large_weights(program: Program) -> Iterator[str]:
    """The weights that are compressed, by the rule of efficientvit.deploy.compression, as the file tells them."""
    from efficientvit.deploy.compression import LEAST_ELEMENTS

    for operation in program.operations:
        if operation.kind in ("conv", "linear"):
            groups = program.constants.get(str(operation.inputs.get("groups")))
            weight = program.constants.get(str(operation.inputs["weight"]))
            dense = groups is None or groups.value == 1
            if dense and weight is not None and prod(weight.type.shape) >= LEAST_ELEMENTS:
                yield str(operation.inputs["weight"])
