"""What a file that somebody else's tool made takes and gives, as far as the file itself says."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from efficientvit.errors import BadInput
from efficientvit.spec import model_spec
from runtimes.artifact import Artifact, Format
from runtimes.interface import BATCH, Port, read_ports
from runtimes.precision import Dtype, Precision

_FLOATS = frozenset({"float32", "float16"})

SUFFIXES: Mapping[str, Format] = {".onnx": Format.ONNX, ".xml": Format.OPENVINO, ".mlpackage": Format.COREML}


@dataclass(frozen=True, slots=True)
class Foreign:
    """A file, and its one image input and classifier output. `channels_last`: it takes NHWC."""

    artifact: Artifact
    image: Port
    output: Port
    channels_last: bool


def open_foreign(path: Path, model: str, classes: int) -> Foreign:
    """Recognize what the file at `path` takes and gives: batch, image size, layout, precision.

    Raises:
        BadInput: no file of a format that can be judged, or not one image in and `classes` scores out.
        BrokenArtifact: it cannot be read.
        MissingExtra: the package that reads the format is not installed.
    """
    fmt = SUFFIXES.get(path.suffix)
    if fmt is None or not path.exists():
        raise BadInput(
            f"{path} is nothing that can be judged",
            expected="a file that is there: .onnx, .xml (OpenVINO IR, its .bin beside it) or .mlpackage",
            got="nothing of that name" if not path.exists() else f"'{path.suffix}'",
            next_step="name the exported file itself",
        )
    spec = model_spec(model, None, classes)
    bare = Artifact.on_disk(path, fmt, spec, made_by="somebody")
    inputs, outputs = _PORTS.get(fmt, read_ports)(bare)
    image, channels_last, size = _image(path, inputs)
    scores = [port for port in outputs if port.shape and port.shape[-1] == classes and len(port.shape) <= 2]
    if len(scores) != 1 or (len(outputs) > 1 and fmt != Format.COREML):
        raise BadInput(
            f"{path.name} is no classifier of {classes} classes",
            expected=f"one output, of shape (batch, {classes})",
            got=", ".join(map(str, outputs)) or "no output",
            next_step="export the logits, and name the checkpoint of the same number of classes with -w",
        )
    batch = None if image.shape[0] == BATCH else int(image.shape[0])
    spec = spec.resized(size, classes)
    artifact = Artifact.on_disk(path, fmt, spec, made_by="somebody", batch=batch, precision=_precision(bare))
    return Foreign(artifact, image, scores[0], channels_last)


def _image(path: Path, inputs: tuple[Port, ...]) -> tuple[Port, bool, int]:
    shape = inputs[0].shape if len(inputs) == 1 else ()
    if len(shape) == 4 and inputs[0].dtype in _FLOATS:
        for channels_last, channel, sides in ((False, shape[1], shape[2:]), (True, shape[3], shape[1:3])):
            if channel == 3 and sides[0] == sides[1] and isinstance(sides[0], int):
                return inputs[0], channels_last, sides[0]
    raise BadInput(
        f"{path.name} does not take one image",
        expected="one floating-point input (batch, 3, S, S) or (batch, S, S, 3), S a number",
        got=", ".join(map(str, inputs)) or "no input",
        next_step="export it for one image size; only the batch may be dynamic",
    )


def _program_ports(artifact: Artifact) -> tuple[tuple[Port, ...], tuple[Port, ...]]:
    """Of a Core ML package, as its program has them: an image input is a tensor of 0 to 255 there."""
    from runtimes.coreml.mlpackage import load_program

    program = load_program(artifact.path)
    types = program.types()

    def port(name: str) -> Port:
        dtype = {"fp32": "float32", "fp16": "float16"}.get(types[name].dtype, types[name].dtype)
        return Port(name, dtype, tuple(types[name].shape))

    return tuple(map(port, program.inputs)), tuple(port(name) for name in program.outputs if name in types)


_PORTS: Mapping[Format, Callable[[Artifact], tuple[tuple[Port, ...], tuple[Port, ...]]]] = {
    Format.COREML: _program_ports
}


def _precision(artifact: Artifact) -> Precision:
    """By what most of the file's numbers are stored as.

    Raises:
        BadInput: activations are quantized, whose execution is another question than parity.
    """
    from runtimes.constants import read_constants

    stored: dict[str, int] = {}
    for _, value in read_constants(artifact):
        stored[value.dtype.name] = stored.get(value.dtype.name, 0) + value.size
    most = max(stored, key=stored.__getitem__, default="float32")
    if most in ("int8", "uint8"):
        raise BadInput(
            f"{artifact.path.name} is quantized",
            expected="weights in float32 or float16, or a Core ML package with compressed weights",
            got=f"mostly {most}",
            next_step="judge the file that it was quantized from; `vit-export m2 -p int8` makes a verified one",
        )
    if artifact.format == Format.COREML and _is_compressed(artifact):
        return Precision(Dtype.INT8, Dtype.FP16, Dtype.FP16)
    if most != "float16":
        return Precision()
    return (
        Precision(Dtype.FP16) if artifact.format == Format.OPENVINO else Precision(Dtype.FP16, Dtype.FP16, Dtype.FP16)
    )


def _is_compressed(artifact: Artifact) -> bool:
    from runtimes.coreml.mlpackage import load_program

    return any(constant.stored != "const" for constant in load_program(artifact.path).constants.values())
