"""What can be asked of a Core ML package beyond its precision, checked before anything is made."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from efficientvit.errors import BadOption
from efficientvit.images.labels import IMAGENET, NONE, find_labels, read_labels
from export.targets.options import TargetOptions, option
from export.targets.target import Job
from runtimes.interface import labels_digest
from runtimes.precision import Dtype
from runtimes.wrapping import TENSOR, Feed, Takes
from validation.budgets import Budgets

IOS = (15, 16, 17, 18)
OLDEST_COMPRESSED = 16
"""The first iOS whose Core ML computes from compressed weights."""

_PALETTES = {8: Dtype.PALETTE8, 6: Dtype.PALETTE6, 4: Dtype.PALETTE4}


@dataclass(frozen=True, slots=True)
class CoreMlOptions(TargetOptions):
    """One package's interface and form. `input`: `image`, of 8 bits and the network's size, or `tensor`.

    Raises:
        BadOption: a value out of range, or two that exclude each other.
    """

    input: str = "image"
    labels: str | None = option(
        None,
        "--labels",
        "Class labels: ImageNet's, a UTF-8 text file with one label a line, or none. With --eval they also name the "
        "folders' classes. [default: the checkpoint's; imagenet where there are 1000 classes]",
        metavar="imagenet|FILE|none",
        for_labeled_images=True,
    )
    ios: int = option(
        15,
        "--ios",
        "Oldest iOS version that the app supports. Compressed weights need 16. [default: 15]",
        choices=tuple(map(str, IOS)),
        parse=int,
    )
    weights_bits: int | None = option(
        None,
        "--weights-bits",
        "Compress large weights to so many bits, for iOS 16 or later; the quality gate decides whether the package "
        "may ship. [default: fp16 weights]",
        choices=("8", "6", "4"),
        parse=int,
    )
    weights_method: str | None = option(
        None,
        "--weights-method",
        "How weights are compressed: int8 with a scale for each channel, or indices into a palette. "
        "[default: linear for 8 bits, palette for fewer]",
        choices=("linear", "palette"),
    )
    ane_budget: float | None = option(
        None,
        "--ane-budget",
        "Least share of the multiply-accumulates that must be fit for the Neural Engine, by a heuristic, for example "
        "0.95; less is rejected. [default: only reported]",
        metavar="SHARE",
        type=float,
    )
    author: str | None = option(None, "--author", "Author in the package's metadata.", metavar="TEXT")
    license: str | None = option(
        None, "--license", "License in the package's metadata. [default: unstated]", metavar="TEXT"
    )

    def __post_init__(self) -> None:
        if self.ios not in IOS:
            raise BadOption(
                f"--ios {self.ios} is not known",
                expected=", ".join(map(str, IOS)),
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
        Budgets(readiness=self.ane_budget)  # raises where it is out of range
        for path in self.files():
            read_labels(path)

    @property
    def weights(self) -> Dtype | None:
        """How large weights are compressed: 8 bits are linear (int8) by default, fewer a palette. None: not at all."""
        return compression(self.weights_bits, self.weights_method)

    @property
    def takes_image(self) -> bool:
        """The package takes an 8-bit RGB image."""
        return self.input == "image"

    @property
    def readiness_budget(self) -> float | None:
        """The Neural Engine's."""
        return self.ane_budget

    def fed(self, feed: Feed | None) -> tuple[Self, Feed]:
        """An image of Core ML's has the network's size, and the package normalizes it: nothing is left.

        Raises:
            BadOption: the image is to have another size.
        """
        if feed is None:
            return self, TENSOR
        if feed.size is not None:
            raise BadOption(
                f"a Core ML package does not take --input {feed}",
                expected="--input image, an image of the network's size, or --input tensor",
                got=f"--input {feed}",
                next_step="take --input image: Vision resizes and crops in the app, as docs/coreml.md says",
            )
        return replace(self, input="tensor" if feed.takes is Takes.TENSOR else "image"), TENSOR

    def check(self, job: Job) -> None:
        """An image input and a classifier take one image; compressed weights are fp16 when decoded.

        Raises:
            BadOption: the batch or the precision is another.
        """
        if not job.head.gives_logits and self.labels not in (None, NONE):
            raise BadOption(
                "--labels names the classes of a classifier",
                expected="--head logits with --labels",
                got=f"--head {job.head}",
                next_step="leave --labels out: maps and embeddings have no classes",
            )
        if job.batch != 1:
            self._require_tensor(job.batch)
        if self.weights is not None and job.precision != "fp16":
            raise BadOption(
                "compressed weights decode to fp16",
                expected="-p fp16 with --weights-bits",
                got=f"-p {job.precision}",
                next_step="leave -p out: fp16 is Core ML's default",
            )

    def _require_tensor(self, batch: int | None) -> None:
        if self.takes_image:
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

    def check_classes(self, classes: int, batch: int | None) -> None:
        """Refuse labels of another number of classes."""
        self.labels_for(classes, batch)

    def labels_for(self, classes: int, batch: int | None, own: tuple[str, ...] = ()) -> tuple[str, ...]:
        """The labels, now that the number of classes is known, and the checkpoint's `own`; none of no classes.

        Raises:
            BadOption: they are another number.
        """
        if classes == 0:
            return ()
        return find_labels(NONE if self.labels is None and batch != 1 else self.labels, classes, own)

    def slug_parts(self, batch: int | None) -> list[str]:
        """What is not the default and changes the package, for the folder's name."""
        parts = [] if self.weights is None else [str(self.weights)]
        if self.input != "image":
            parts.append(self.input)
        if self.labels == NONE:
            parts.append("nolabels")
        parts += [f"labels-{labels_digest(read_labels(path))[:8]}" for path in self.files()]
        if self.ios != IOS[0]:
            parts.append(f"ios{self.ios}")
        return parts

    def files(self) -> tuple[Path, ...]:
        """The labels' file."""
        return () if self.labels in (None, IMAGENET, NONE) else (Path(str(self.labels)),)


def compression(bits: int | None, method: str | None) -> Dtype | None:
    """`--weights-bits` and `--weights-method` as a format; None where nothing is compressed.

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
    if bits not in _PALETTES:
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
