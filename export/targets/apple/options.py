"""What can be asked of a file for Apple's systems, whichever of the two formats it has."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from efficientvit.errors import BadOption
from efficientvit.images.label_file import IMAGENET, NONE, read_labels
from efficientvit.images.labels import find_labels
from export.targets.options import option
from export.targets.target import Job, TargetOptions
from runtimes.interface import labels_digest
from runtimes.precision import Dtype
from validation.budgets import Budgets

_PALETTES = {8: Dtype.PALETTE8, 6: Dtype.PALETTE6, 4: Dtype.PALETTE4}


@dataclass(frozen=True, slots=True)
class AppleOptions(TargetOptions):
    """A classifier's labels, the form of the weights, the Neural Engine's budget, and what the file says of itself.

    A subclass adds `ios`, checks it in `__post_init__`, and calls `check_values` there. `called`: the format, in words.

    Raises:
        BadOption: a value out of range, or two that exclude each other.
    """

    called: ClassVar[str]

    labels: str | None = option(
        None,
        "--labels",
        "Class labels: ImageNet's, a UTF-8 file with one label a line or a JSON list or dictionary, or none. With "
        "--eval they also name the folders' classes. [default: the checkpoint's; imagenet for 1000 classes]",
        metavar="imagenet|FILE|none",
        for_labeled_images=True,
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

    def check_values(self) -> None:
        """Refuse what no such file can be.

        Raises:
            BadOption: a value out of range, or two that exclude each other.
        """
        compression(self.weights_bits, self.weights_method)
        Budgets(readiness=self.ane_budget)  # raises where it is out of range
        for path in self.files():
            read_labels(path)

    @property
    def weights(self) -> Dtype | None:
        """How large weights are compressed: 8 bits are linear (int8) by default, fewer a palette. None: not at all."""
        return compression(self.weights_bits, self.weights_method)

    @property
    def readiness_budget(self) -> float | None:
        """The Neural Engine's."""
        return self.ane_budget

    def check(self, job: Job) -> None:
        """A classifier with labels takes one image; compressed weights are fp16 when decoded.

        Raises:
            BadOption: the head, the batch or the precision is another.
        """
        if self._names_labels and not job.head.gives_logits:
            raise BadOption(
                "--labels names the classes of a classifier",
                expected="--head logits with --labels",
                got=f"--head {job.head}",
                next_step="leave --labels out: maps and embeddings have no classes",
            )
        self.check_batch(job.batch)
        if self.weights is not None and job.precision != "fp16":
            raise BadOption(
                "compressed weights decode to fp16",
                expected="-p fp16 with --weights-bits",
                got=f"-p {job.precision}",
                next_step=f"leave -p out: fp16 is {self.called}'s default",
            )

    def check_batch(self, batch: int | None) -> None:
        """A classifier with labels takes one image.

        Raises:
            BadOption: it is another number.
        """
        if self._names_labels and batch != 1:
            raise BadOption(
                "a classifier with labels takes one image",
                expected="--batch 1, or --labels none",
                got=f"--batch {batch or 'dynamic'}",
                next_step="add --labels none: a batch gives logits alone",
            )

    @property
    def _names_labels(self) -> bool:
        return self.labels not in (None, NONE)

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
        """What is not the default and changes the file, for the folder's name."""
        return [*self.weights_parts, *self.labels_parts]

    @property
    def weights_parts(self) -> list[str]:
        """Of it, how the weights are compressed."""
        return [] if self.weights is None else [str(self.weights)]

    @property
    def labels_parts(self) -> list[str]:
        """Of it, which labels the file has."""
        if self.labels == NONE:
            return ["nolabels"]
        return [f"labels-{labels_digest(read_labels(path))[:8]}" for path in self.files()]

    def files(self) -> tuple[Path, ...]:
        """The labels' file."""
        return () if self.labels in (None, IMAGENET, NONE) else (Path(str(self.labels)),)


def uncompressed(job: Job) -> Job:
    """What the stages before the weights are compressed read of a job."""
    return replace(job, options=replace(AppleOptions.of(job), weights_bits=None, weights_method=None))


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
