"""The interface of an artifact: its inputs and outputs by name, type and shape."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from efficientvit.head import HeadKind
from efficientvit.spec import ModelSpec
from runtimes.artifact import Artifact, Interface
from runtimes.wrapping import Answers, Gives, Takes, Wrapping

INPUT, OUTPUT, BATCH = "image", str(HeadKind.LOGITS), "batch"
"""Names; the output is a classifier's."""
LABEL, PROBABILITIES = "classLabel", "probabilities"
BEST_SCORES, BEST_CLASSES = "scores", "classes"
SIZES = ("height", "width")
"""Dimensions of an image input that takes any size."""
RGB8 = "RGB, 8 bits"
METADATA_PREFIX = "vit-export."


@dataclass(frozen=True, slots=True)
class Port:
    """One input or output. A dimension is a number, or `batch`, or `height` or `width`, where it is dynamic.

    `dtype`: NumPy's name, or `RGB8`, `string`, `dictionary`. `labels_sha256`: of the labels that an output bears.
    `aliases`: what else it is called, in an IR: some of its calls give an app any one of the names.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    labels_sha256: str = ""
    aliases: tuple[str, ...] = ()

    def __str__(self) -> str:
        name = " or ".join(f"'{each}'" for each in (self.name, *self.aliases))
        text = f"{name} {self.dtype} ({', '.join(map(str, self.shape))})"
        return f"{text} labels {self.labels_sha256[:12]}" if self.labels_sha256 else text


def takes_images(artifact: Artifact) -> bool:
    """It takes 8-bit images in the place of a tensor, by what is wrapped around its network."""
    wrapping = artifact.interface.wrapping
    return wrapping is not None and wrapping.takes_images


def dimensions(found: Sequence[int | None]) -> tuple[int | str, ...]:
    """Those of a port: the first is called `batch` where it is dynamic; sides of images with 3 channels by name too."""
    names = (BATCH,) * len(found)
    if len(found) == 4 and found[3] == 3:
        names = (BATCH, *SIZES, BATCH)
    elif len(found) == 4 and found[1] == 3:
        names = (BATCH, BATCH, *SIZES)
    return tuple(name if each is None else each for name, each in zip(names, found, strict=True))


Ports = tuple[tuple[Port, ...], tuple[Port, ...]]
"""Inputs, outputs."""


def intended_ports(model: ModelSpec, batch: int | None, interface: Interface = Interface()) -> Ports:  # noqa: B008
    """What every artifact of ours has: images in, the model's outputs in float32, and what `interface` adds to them."""
    size: int | str = BATCH if batch is None else batch
    given = [Port(output.name, "float32", (size, *output.shape)) for output in model.outputs]
    if interface.wrapping is not None:
        return (_fed(interface.wrapping, size),), (*given, *_answers(interface.wrapping.answers, model.classes, size))
    image = Port(INPUT, RGB8 if interface.image_input else "float32", model.image_size.nchw(size))
    if not interface.labels:
        return (image,), tuple(given)
    sha256 = labels_digest(interface.labels)
    names = (len(interface.labels),)
    if not interface.dictionary:
        return (image,), (*given, Port(PROBABILITIES, "float32", (size, *names), sha256))
    label, probabilities = Port(LABEL, "string", ()), Port(PROBABILITIES, "dictionary", names, sha256)
    return (image,), (*given, label, probabilities)


def _fed(wrapping: Wrapping, batch: int | str) -> Port:
    size = wrapping.fed_size
    match wrapping.feed.takes:
        case Takes.TENSOR:
            return Port(INPUT, "float32", wrapping.preprocessing.image_size.nchw(batch))
        case Takes.PIXELS | Takes.IMAGE:
            return Port(INPUT, "uint8", (batch, *(SIZES if size is None else (size.height, size.width)), 3))


def _answers(answers: Answers, classes: int, batch: int | str) -> tuple[Port, ...]:
    match answers.gives:
        case Gives.LOGITS:
            return ()
        case Gives.PROBABILITIES:
            return (Port(PROBABILITIES, "float32", (batch, classes)),)
        case Gives.TOPK:
            shape = (batch, answers.best)
            return Port(BEST_SCORES, "float32", shape), Port(BEST_CLASSES, "int64", shape)


def labels_digest(labels: Sequence[str]) -> str:
    """SHA-256 over the labels in order, a line each."""
    return hashlib.sha256("".join(f"{label}\n" for label in labels).encode()).hexdigest()
