"""What can be asked of a Core ML package beyond its precision, checked before anything is made."""

from dataclasses import dataclass
from pathlib import Path

from efficientvit.errors import BadOption
from efficientvit.images.labels import IMAGENET, NONE, find_labels, read_labels
from runtimes.interface import labels_digest
from runtimes.precision import Dtype

IOS = (15, 16, 17, 18)
INPUTS = ("image", "tensor")
METHODS = ("linear", "palette")
WEIGHT_BITS = (8, 6, 4)
OLDEST_COMPRESSED = 16
"""The first iOS whose Core ML computes from compressed weights."""

_PALETTES = {8: Dtype.PALETTE8, 6: Dtype.PALETTE6, 4: Dtype.PALETTE4}


@dataclass(frozen=True, slots=True)
class CoreMlOptions:
    """One package's interface and form.

    `labels`: what `--labels` was given, None for its default. `weights`: None, or how large weights are compressed.

    Raises:
        BadOption: a value out of range, or two that exclude each other.
    """

    input: str = "image"
    labels: str | None = None
    ios: int = 15
    weights: Dtype | None = None
    author: str | None = None
    license: str | None = None

    def __post_init__(self) -> None:
        if self.ios not in IOS:
            known = ", ".join(map(str, IOS))
            raise BadOption(
                f"--ios {self.ios} is not known",
                expected=known,
                got=str(self.ios),
                next_step="name the oldest iOS that the app runs on; a later one runs the package as well",
            )
        if self.weights is not None and self.ios < OLDEST_COMPRESSED:
            raise BadOption(
                f"compressed weights need iOS {OLDEST_COMPRESSED}",
                expected=f"--ios {OLDEST_COMPRESSED} or later",
                got=f"--ios {self.ios}",
                next_step=f"add --ios {OLDEST_COMPRESSED}, or leave --weights-bits out for devices on iOS {self.ios}",
            )
        if self.labels is not None and self.labels not in (IMAGENET, NONE):
            read_labels(Path(self.labels))

    @property
    def image_input(self) -> bool:
        """The package takes an 8-bit RGB image."""
        return self.input == "image"

    def require_batch(self, batch: int | None) -> None:
        """An image input and a classifier take one image.

        Raises:
            BadOption: the batch is another.
        """
        if batch == 1:
            return
        if self.image_input:
            raise BadOption(
                "an image input takes one image",
                expected="--batch 1, or --input tensor",
                got=f"--batch {batch or 'dynamic'}",
                next_step="add --input tensor, and preprocess in the app",
            )
        if self.labels not in (None, NONE):
            raise BadOption(
                "a classifier with labels takes one image",
                expected="--batch 1, or --labels none",
                got=f"--batch {batch or 'dynamic'}",
                next_step="add --labels none: a batch gives logits alone",
            )

    def slug_parts(self) -> list[str]:
        """What is not the default and changes the package, for the folder's name."""
        parts = [] if self.weights is None else [str(self.weights)]
        if self.input != "image":
            parts.append(self.input)
        if self.labels == NONE:
            parts.append("nolabels")
        elif self.labels not in (None, IMAGENET):
            parts.append(f"labels-{labels_digest(read_labels(Path(self.labels)))[:8]}")
        if self.ios != IOS[0]:
            parts.append(f"ios{self.ios}")
        return parts

    def labels_for(self, classes: int, batch: int | None) -> tuple[str, ...]:
        """The labels, now that the number of classes is known.

        Raises:
            BadOption: they are another number.
        """
        return find_labels(NONE if self.labels is None and batch != 1 else self.labels, classes)


def compression(bits: int | None, method: str | None) -> Dtype | None:
    """`--weights-bits` and `--weights-method` as a format: 8 bits are linear (int8) by default, fewer a palette.

    Raises:
        BadOption: a number of bits or a method that there isn't, or the two don't go together.
    """
    if bits is None:
        if method is not None:
            raise BadOption(
                "--weights-method says how to compress",
                expected="--weights-bits with it",
                got=method,
                next_step="add --weights-bits 8, or leave --weights-method out",
            )
        return None
    if bits not in WEIGHT_BITS:
        raise BadOption(
            f"weights of {bits} bits cannot be made",
            expected="8, 6 or 4",
            got=str(bits),
            next_step="start with --weights-bits 8, which costs the least quality",
        )
    if (method or ("linear" if bits == 8 else "palette")) == "palette":
        return _PALETTES[bits]
    if bits != 8:
        raise BadOption(
            f"linear weights of {bits} bits cannot be made",
            expected="--weights-bits 8, or --weights-method palette",
            got=f"--weights-bits {bits} --weights-method linear",
            next_step="leave --weights-method out: fewer bits take a palette",
        )
    return Dtype.INT8
