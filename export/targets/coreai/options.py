"""What can be asked of a Core AI asset beyond its precision, checked before anything is made."""

from dataclasses import dataclass
from pathlib import Path

from efficientvit.errors import BadOption
from efficientvit.images.labels import IMAGENET, NONE, find_labels, read_labels
from export.targets.coreml.options import CoreMlOptions, compression
from export.targets.options import TargetOptions, option
from export.targets.target import Job
from runtimes.interface import labels_digest
from runtimes.precision import Dtype
from validation.budgets import Budgets

IOS = (27,)
"""The versions of iOS, and of macOS, that an asset can be made for: the first with Core AI."""

_OF_CORE_ML = CoreMlOptions.flags()


@dataclass(frozen=True, slots=True)
class CoreAiOptions(TargetOptions):
    """One asset's labels and form. Its flags are Core ML's: one value serves both targets.

    Raises:
        BadOption: a value out of range, or two that exclude each other.
    """

    labels: str | None = option(
        None,
        "--labels",
        _OF_CORE_ML["labels"].help,
        metavar=_OF_CORE_ML["labels"].metavar,
        for_labeled_images=True,
    )
    ios: int = option(
        IOS[0],
        "--ios",
        "Oldest version of iOS and macOS that the app supports. [default: 27]",
        choices=tuple(map(str, IOS)),
        parse=int,
    )
    weights_bits: int | None = option(
        None, "--weights-bits", _OF_CORE_ML["weights_bits"].help, choices=("8", "6", "4"), parse=int
    )
    weights_method: str | None = option(
        None, "--weights-method", _OF_CORE_ML["weights_method"].help, choices=("linear", "palette")
    )
    ane_budget: float | None = option(None, "--ane-budget", _OF_CORE_ML["ane_budget"].help, metavar="SHARE", type=float)
    author: str | None = option(None, "--author", _OF_CORE_ML["author"].help, metavar="TEXT")
    license: str | None = option(None, "--license", _OF_CORE_ML["license"].help, metavar="TEXT")

    def __post_init__(self) -> None:
        if self.ios not in IOS:
            raise BadOption(
                f"--ios {self.ios} has no Core AI",
                expected=", ".join(map(str, IOS)),
                got=str(self.ios),
                next_step="leave --ios out, or export -t coreml for older systems",
            )
        compression(self.weights_bits, self.weights_method)
        Budgets(readiness=self.ane_budget)  # raises where it is out of range
        for path in self.files():
            read_labels(path)

    @property
    def weights(self) -> Dtype | None:
        """How large weights are compressed; None: not at all."""
        return compression(self.weights_bits, self.weights_method)

    @property
    def readiness_budget(self) -> float | None:
        """The Neural Engine's."""
        return self.ane_budget

    def check(self, job: Job) -> None:
        """A classifier with labels takes one image; compressed weights are fp16 when decoded.

        Raises:
            BadOption: the batch, the head or the precision is another.
        """
        if not job.head.gives_logits and self.labels not in (None, NONE):
            raise BadOption(
                "--labels names the classes of a classifier",
                expected="--head logits with --labels",
                got=f"--head {job.head}",
                next_step="leave --labels out: maps and embeddings have no classes",
            )
        if job.batch != 1 and self.labels not in (None, NONE):
            raise BadOption(
                "a classifier with labels takes one image",
                expected="--batch 1, or --labels none",
                got=f"--batch {job.batch or 'dynamic'}",
                next_step="add --labels none: a batch gives logits alone",
            )
        if self.weights is not None and job.precision != "fp16":
            raise BadOption(
                "compressed weights decode to fp16",
                expected="-p fp16 with --weights-bits",
                got=f"-p {job.precision}",
                next_step="leave -p out: fp16 is Core AI's default",
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
        """What is not the default and changes the asset, for the folder's name."""
        parts = [] if self.weights is None else [str(self.weights)]
        if self.labels == NONE:
            parts.append("nolabels")
        return parts + [f"labels-{labels_digest(read_labels(path))[:8]}" for path in self.files()]

    def files(self) -> tuple[Path, ...]:
        """The labels' file."""
        return () if self.labels in (None, IMAGENET, NONE) else (Path(str(self.labels)),)
