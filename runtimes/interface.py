"""The interface of an artifact: its inputs and outputs by name, type and shape."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from efficientvit.head import HeadKind
from efficientvit.spec import ModelSpec
from runtimes.artifact import Interface

INPUT, OUTPUT, BATCH = "image", str(HeadKind.LOGITS), "batch"
"""Names; the output is a classifier's."""
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
    """What every artifact of ours has: images in, the model's outputs in float32, and what `interface` adds to them."""
    size: int | str = BATCH if batch is None else batch
    dtype = RGB8 if interface.image_input else "float32"
    image = Port(INPUT, dtype, model.image_size.nchw(size))
    given = [Port(output.name, "float32", (size, *output.shape)) for output in model.outputs]
    if not interface.labels:
        return (image,), tuple(given)
    sha256 = labels_digest(interface.labels)
    names = (len(interface.labels),)
    label, probabilities = Port(LABEL, "string", ()), Port(PROBABILITIES, "dictionary", names, sha256)
    return (image,), (*given, label, probabilities)


def labels_digest(labels: Sequence[str]) -> str:
    """SHA-256 over the labels in order, a line each."""
    return hashlib.sha256("".join(f"{label}\n" for label in labels).encode()).hexdigest()
