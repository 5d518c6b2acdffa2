"""Files that another tool made: their inputs, outputs and precision, as the files declare them."""

from dataclasses import dataclass
from pathlib import Path

from efficientvit.errors import BadInput, UnknownOperation
from efficientvit.size import ImageSize
from efficientvit.spec import PUBLISHED_SIZE, model_spec
from runtimes.artifact import COMPANIONS, Artifact, Format
from runtimes.interface import BATCH, Port
from runtimes.precision import Dtype, Precision
from runtimes.reader import Reader
from runtimes.registry import external_format, formats, reader_of

_NAMED = 5
_IMAGES = frozenset({"float32", "float16", "uint8"})

_QUANTIZERS = frozenset({
    "ConvInteger", "DynamicQuantizeLinear", "FakeQuantize", "MatMulInteger", "QLinearConv", "QLinearMatMul",
    "QuantizeLinear", "com.microsoft.QGemm", "quantize",
})  # fmt: skip
"""Operations that round activations to integers, or compute with such."""


@dataclass(frozen=True, slots=True)
class Foreign:
    """A file, and its one image input and classifier output. `channels_last`: it takes NHWC.

    `colors`: it takes an 8-bit image, whose channels come in this order; None of a tensor.
    """

    artifact: Artifact
    image: Port
    output: Port
    channels_last: bool
    colors: str | None = None

    @property
    def takes_bytes(self) -> bool:
        """Its input cannot hold anything but pixels from 0 to 255."""
        return self.image.dtype == "uint8"


def open_foreign(path: Path, model: str, classes: int, size: ImageSize = PUBLISHED_SIZE) -> Foreign:
    """Recognize what the file at `path` takes and gives: batch, image size, layout, precision.

    `size`: what the checkpoint takes, to name it where the file takes images of any size.

    Raises:
        BadInput: no file of a format that can be judged, or not one image in and `classes` scores out.
        BrokenArtifact: it cannot be read.
        MissingExtra: the package that reads the format is not installed.
    """
    suffix = path.suffix.lower()
    fmt = external_format(suffix)
    _require_judged(path, suffix, fmt)
    assert fmt is not None, "required"
    spec = model_spec(model, None, classes)
    bare = Artifact.on_disk(path, fmt, spec, made_by="external")
    reader = reader_of(bare)
    inputs, outputs = reader.program_ports(bare)
    image, channels_last, size = _image(path, inputs, reader, size)
    output = _scores(path, outputs, reader, classes)
    batch = None if image.shape[0] == BATCH else int(image.shape[0])
    spec = spec.resized(size, classes)
    artifact = Artifact.on_disk(path, fmt, spec, made_by="external", batch=batch, precision=_precision(bare, reader))
    return Foreign(artifact, image, output, channels_last, _colors(path, reader.colors(bare)))


def _require_judged(path: Path, suffix: str, fmt: Format | None) -> None:
    package = next((each for each in path.parents if each.suffix.lower() == ".mlpackage"), None)
    if package is not None:
        raise BadInput(
            f"{path.name} is a part of {package.name}",
            expected="the whole package, which is a folder",
            got=str(path),
            next_step=f"judge {package}",
        )
    if suffix == ".mlmodel" and path.exists():
        raise BadInput(
            f"{path.name} is a neural network of Core ML's older format",
            expected="an ML program, .mlpackage",
            got="'.mlmodel'",
            next_step='convert it again with ct.convert(..., convert_to="mlprogram"), and judge that package',
        )
    if fmt is None or not path.exists():
        suffixes = [row.external_suffix for row in formats().values() if row.external_suffix]
        raise BadInput(
            f"{path} is of a format that is not judged" if path.exists() else f"there is no file {path}",
            expected=f"an existing file: {', '.join(suffixes)} (an IR with its .bin beside it)",
            got="nothing of that name" if not path.exists() else "a folder" if path.is_dir() else f"'{path.suffix}'",
            next_step="unpack it, and name the file or package in it"
            if suffix in (".zip", ".gz", ".tar")
            else "name the exported file itself",
        )
    if suffix == ".mlpackage" and not (path / "Manifest.json").is_file():
        raise BadInput(
            f"{path.name} is no whole Core ML package",
            expected="a folder with Manifest.json and all that it names",
            got="a folder without it" if path.is_dir() else "a file; a package that was zipped has to be unpacked",
            next_step="copy or unpack the whole package again",
        )
    companion = path.with_suffix(COMPANIONS[suffix]) if suffix in COMPANIONS else path
    if not companion.exists():
        raise BadInput(
            f"the other half of {path.name} is not there",
            expected=f"{companion.name} beside it",
            got=f"no such file in {path.parent}",
            next_step=f"copy {companion.name} from where the file was exported to, beside it",
        )


def _scores(path: Path, outputs: tuple[Port, ...], reader: Reader, classes: int) -> Port:
    """The one output of (batch, classes)."""
    scores = [port for port in outputs if len(port.shape) == 2 and port.shape[-1] == classes]
    if len(scores) == 1 and (len(outputs) == 1 or reader.several_outputs):
        return scores[0]
    if scores:
        named = [port.name for port in scores]
        raise BadInput(
            f"{path.name} has several outputs, and is judged with the scores of its classes alone",
            expected=f"one output, of shape (batch, {classes})",
            got=_listed(outputs),
            next_step=f"judge a copy of it with one output: onnx.utils.extract_model(…, output_names={named[:1]})"
            + (f", the logits where {' and '.join(named)} are logits and probabilities" if named[1:] else ""),
        )
    if len(outputs) == 1 and _one_dimension(outputs[0], classes):
        raise BadInput(
            f"{path.name} gives the scores of {classes} classes in another shape",
            expected=f"(batch, {classes})",
            got=str(outputs[0]),
            next_step=f"flatten them where it is exported: logits.reshape(len(images), {classes})",
        )
    if len(outputs) == 1 and not outputs[0].shape:
        raise BadInput(
            f"{path.name} declares no shape for its output, and none follows from its operators",
            expected=f"(batch, {classes})",
            got=str(outputs[0]),
            next_step="declare it: onnx.helper.make_tensor_value_info in the place of graph.output[0], then judge that",
        )
    raise BadInput(
        f"{path.name} is not a classifier of {classes} classes",
        expected=f"one output, of shape (batch, {classes})",
        got=_listed(outputs) or "no output",
        next_step="export the logits, and name the checkpoint of the same number of classes with -w",
    )


def _one_dimension(port: Port, classes: int) -> bool:
    """Whether all but one of its dimensions are 1, or the batch, and that one has the classes."""
    return [each for each in port.shape if each not in (1, BATCH)] == [classes] * (classes > 1)


def _listed(ports: tuple[Port, ...]) -> str:
    """The first few, and how many more there are."""
    rest = len(ports) - _NAMED
    return ", ".join(map(str, ports[:_NAMED])) + (f" and {rest} more" if rest > 0 else "")


def _colors(path: Path, declared: str | None) -> str | None:
    if declared in (None, "RGB", "BGR"):
        return declared
    raise BadInput(
        f"{path.name} declares an image input of {declared}",
        expected="RGB or BGR",
        got=str(declared),
        next_step="export it with ct.ImageType(color_layout=ct.colorlayout.RGB)",
    )


def _image(path: Path, inputs: tuple[Port, ...], reader: Reader, usual: ImageSize) -> tuple[Port, bool, ImageSize]:
    shape = inputs[0].shape if len(inputs) == 1 else ()
    if len(shape) == 4 and inputs[0].dtype in _IMAGES:
        for channels_last, channel, sides in ((False, shape[1], shape[2:]), (True, shape[3], shape[1:3])):
            height, width = sides
            if channel == 3 and isinstance(height, int) and isinstance(width, int):
                return inputs[0], channels_last, ImageSize(height=height, width=width)
        if 3 in (shape[1], shape[3]):
            raise _of_any_size(path, inputs[0], reader, usual)
    steps = {
        "export it with the image as its only input": len(inputs) != 1,
        "export it with an input of float32": bool(inputs) and inputs[0].dtype not in _IMAGES,
        "export it for one image size; only the batch may be dynamic": True,
    }
    raise BadInput(
        f"{path.name} does not take one image",
        expected="one input of float32, float16 or uint8, (batch, 3, H, W) or (batch, H, W, 3), H and W numbers",
        got=_listed(inputs) or "no input",
        next_step=next(step for step, due in steps.items() if due),
    )


def _of_any_size(path: Path, image: Port, reader: Reader, usual: ImageSize) -> BadInput:
    meant = usual.nchw(1) if image.shape[1] == 3 else (1, usual.height, usual.width, 3)
    shape = [each if isinstance(each, int) else stated for each, stated in zip(image.shape, meant, strict=True)]
    return BadInput(
        f"{path.name} takes images of more than one size, and is judged at one",
        expected=f"'{image.name}' with numbers for height and width; the checkpoint's are {usual.height}x{usual.width}",
        got=str(image),
        next_step=reader.at_one_size(str(path), image.name, shape),
    )


def _precision(artifact: Artifact, reader: Reader) -> Precision:
    """By what most of the file's numbers are stored as, and whether it rounds activations to integers."""
    stored: dict[str, int] = {}
    for _, value in reader.constants(artifact):
        stored[value.dtype.name] = stored.get(value.dtype.name, 0) + value.size
    most = max(stored, key=stored.__getitem__, default="float32")
    if most not in ("int8", "uint8"):
        return reader.stored_precision(artifact, Dtype.FP16 if most == "float16" else Dtype.FP32)
    try:
        program, _ = reader.program(artifact)
        quantized = any(each.kind in _QUANTIZERS for each in program.operations)
    except UnknownOperation:  # then it can't be told; the proof says what it is
        quantized = True
    return Precision(Dtype.INT8, Dtype.UINT8 if quantized else Dtype.FP32)
