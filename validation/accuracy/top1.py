"""Accuracy on labeled images: the trained form's and the artifact's, image by image, and whether the loss is real.

Both see the same images, so what counts is the pairs on which they part: `lost` (the reference is right, the artifact
wrong) and `gained`. The drop is their difference over all images; its interval is Tango's score interval for a paired
difference of proportions (Statistics in Medicine 17, 1998), which holds for few images and few flips.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from efficientvit.errors import StageFailed
from efficientvit.images.labels import both_answers
from efficientvit.images.preprocessing import Preprocessing, normalize
from runtimes.artifact import Artifact
from runtimes.interface import OUTPUT
from runtimes.runtime import Evidence, Images, Mode, Runtime
from validation.accuracy.sharing import Answering, Pixels, Rows, Run, current
from validation.budgets import ACCURACY_POINTS, Budgets
from validation.inputs.labeled_images import LabeledImages
from validation.metrics import most_explained

if TYPE_CHECKING:
    from torch import nn

CONFIDENCE = 90
"""Per cent, two-sided: on either side of the interval lies the truth once in twenty times."""

QUANTILE = 1.6448536269514722  # of the normal distribution, 95 %
_GUESSING = 0.05
"""How likely a reference's hits may be by chance before nothing is concluded from them."""

_TOP = 5
_BATCH = 16
_BISECTIONS = 60
_EVERY = 8


@dataclass(frozen=True, slots=True)
class Flip:
    """An image that the reference has right and the artifact wrong. `outside`: the budget cannot explain it."""

    image: str
    right: int
    given: int
    outside: bool


@dataclass(frozen=True, slots=True)
class Accuracy:
    """The result, as counts of `images`. Top-5 is None for five classes or fewer.

    `agree`: images with the same winner. `lost`: those that count against the artifact, outside the margin first;
    `gained`: how many count for it. `not_finite`: those with NaN or infinite logits. `budget`: percentage points.
    `evidence`: of the runtime that gave the answers.
    """

    folder: str
    images: int
    matched_by: str
    skipped: tuple[str, ...]
    reference_top1: int
    artifact_top1: int
    reference_top5: int | None
    artifact_top5: int | None
    agree: int
    lost: tuple[Flip, ...]
    gained: int
    budget: float
    evidence: Evidence
    not_finite: int = 0

    @property
    def drop(self) -> float:
        """Percentage points that the artifact is below the reference; negative where it is above."""
        return 100 * (self.reference_top1 - self.artifact_top1) / self.images

    @property
    def interval(self) -> tuple[float, float]:
        """Percentage points: what the drop may be on images like these, with `CONFIDENCE`."""
        low, high = paired_interval(len(self.lost), self.gained, self.images)
        return 100 * low, 100 * high


def paired_interval(lost: int, gained: int, images: int) -> tuple[float, float]:
    """Tango's score interval of (lost - gained) / images, with `CONFIDENCE`; `images` above 0."""
    drop = (lost - gained) / images

    def beyond(difference: float) -> float:
        """Standard errors from a true `difference` to what was seen."""
        a = 2 * images
        b = -lost - gained + (2 * images - lost + gained) * difference
        c = -gained * difference * (1 - difference)
        gains = (math.sqrt(max(b * b - 4 * a * c, 0)) - b) / (2 * a)
        variance = images * (2 * gains + difference * (1 - difference))
        seen = lost - gained - images * difference
        return seen / math.sqrt(variance) if variance > 1e-12 else math.copysign(math.inf, seen) if seen else 0.0

    def edge(inside: float, outside: float) -> float:
        if abs(beyond(outside)) < QUANTILE:
            return outside
        for _ in range(_BISECTIONS):
            middle = (inside + outside) / 2
            inside, outside = (middle, outside) if abs(beyond(middle)) < QUANTILE else (inside, middle)
        return inside

    return edge(drop, -1.0), edge(drop, 1.0)


class AccuracyTest:
    """The labeled images with the trained form's answers to them, which every artifact of a model is held against.

    A single logit is compared with 0: class 1 is where it is above.
    """

    def __init__(
        self,
        images: LabeledImages,
        trained: "nn.Module",
        budgets: Budgets | None = None,
        step: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`trained` in float64; Evaluates it on all images."""
        self.images = images
        points = None if budgets is None else budgets.accuracy
        self.budget = ACCURACY_POINTS if points is None else points
        self._step = step
        parts = self._answers(ReferenceAnswers(trained, images.preprocessing), _BATCH, "the reference")
        self._outputs = int(parts[0].shape[1])
        self.logits: NDArray[np.float64] = both_answers(np.concatenate(parts)[: len(images)].astype(np.float64))

    def of(self, artifact: Artifact, runtime: Runtime, error: float) -> Accuracy:
        """The artifact as it ships, on every image; `error` is the relative error that its budget allows an image.

        Raises:
            StageFailed: the runtime refuses the file, or it gives logits of another shape.
        """
        answering = ArtifactAnswers(artifact, runtime, self.images.preprocessing)
        return self._counted(answering, artifact, runtime, error)

    def of_answers(
        self, run: Callable[[Pixels], NDArray[np.floating]], artifact: Artifact, runtime: Runtime, error: float
    ) -> Accuracy:
        """The same of an `artifact` that was opened: `run` takes (B, H, W, 3) uint8 and gives (B, classes) logits.

        Raises:
            StageFailed: it gives logits of another shape.
        """
        return self._counted(_Opened(run), artifact, runtime, error)

    def _counted(self, answering: Answering, artifact: Artifact, runtime: Runtime, error: float) -> Accuracy:
        images, count = self.images, len(self.images)
        classes = self._outputs
        logits: NDArray[np.float32] = np.full((count, classes), np.nan, np.float32)
        batch = artifact.batch or _BATCH
        answers = self._answers(answering, batch, f"{artifact.path.name} in {runtime.name}")
        for rows, answer in zip(_batches(count, batch), answers, strict=True):
            if answer.shape != (len(rows), classes):
                raise StageFailed(
                    "the artifact returns logits of the wrong shape",
                    expected=f"({len(rows)}, {classes})",
                    got=str(answer.shape),
                    next_step="the graph's output is not the classifier's",
                )
            logits[rows] = answer
        logits = both_answers(logits)
        right, given = self.logits.argmax(axis=1), _winners(logits)
        hit, own_hit = right == images.classes, given == images.classes
        rows = np.arange(count)
        margin = self.logits[rows, right] - self.logits[rows, np.maximum(given, 0)]
        outside = ~(margin <= most_explained(self.logits, np.full(count, error))) | (given < 0)
        lost = [
            Flip(images.names[row], int(right[row]), int(given[row]), bool(outside[row]))
            for row in np.flatnonzero(hit & ~own_hit)
        ]
        several = classes > _TOP
        return Accuracy(
            folder=images.folder.name,
            images=count,
            matched_by=images.matched_by,
            skipped=images.skipped,
            reference_top1=int(hit.sum()),
            artifact_top1=int(own_hit.sum()),
            reference_top5=_top5(self.logits, images.classes) if several else None,
            artifact_top5=_top5(logits, images.classes) if several else None,
            agree=int((right == given).sum()),
            lost=tuple(sorted(lost, key=lambda flip: (not flip.outside, flip.image))),
            gained=int((own_hit & ~hit).sum()),
            budget=self.budget,
            evidence=runtime.evidence,
            not_finite=int((given < 0).sum()),
        )

    @property
    def guessed(self) -> bool:
        """The reference itself is right no more often than one that guesses: then nothing can be lost."""
        count, classes = self.logits.shape
        hits = int((self.logits.argmax(axis=1) == self.images.classes).sum())
        return _at_least(hits, count, 1 / classes) > _GUESSING

    def _answers(self, answering: Answering, batch: int, who: str) -> list[NDArray[np.floating]]:
        """To all images, a batch at a time; tells how far it is."""
        count = len(self.images)

        def step(number: int) -> None:
            if number % max(1, _EVERY // batch) == 0:
                self._step(f"--eval: {who}, image {number * batch + 1} of {count}")

        return current().answers(answering, self.images.pixels, _batches(count, batch), step)


@dataclass(frozen=True, slots=True)
class ReferenceAnswers:
    """Those of the trained form, in float64."""

    trained: "nn.Module"
    preprocessing: Preprocessing

    @contextmanager
    def opened(self) -> Iterator[Run]:
        """(B, H, W, 3) uint8 to (B, classes) float64."""
        import torch

        from validation.reference.emulation import evaluate

        def run(pixels: Pixels) -> NDArray[np.floating]:
            inputs = torch.tensor(normalize(pixels, self.preprocessing)).double()
            values: NDArray[np.floating] = evaluate(self.trained, inputs).numpy()
            return values

        yield run


@dataclass(frozen=True, slots=True)
class ArtifactAnswers:
    """Those of a file in its runtime, as it ships."""

    artifact: Artifact
    runtime: Runtime
    preprocessing: Preprocessing

    @contextmanager
    def opened(self) -> Iterator[Run]:
        """(B, H, W, 3) uint8 to (B, classes)."""
        with self.runtime.open(self.artifact, Mode.SHIPPED) as session:

            def run(pixels: Pixels) -> NDArray[np.floating]:
                takes_images = self.artifact.interface.image_input
                feed: Images = pixels if takes_images else normalize(pixels, self.preprocessing)
                return session(feed)[OUTPUT]

            yield run


@dataclass(frozen=True, slots=True)
class _Opened:
    """What is open already, and stays in this process."""

    run: Run

    @contextmanager
    def opened(self) -> Iterator[Run]:
        yield self.run


def _batches(count: int, batch: int) -> list[Rows]:
    """All images in order, the last batch filled up with the first."""
    return [np.take(np.arange(count), range(start, start + batch), mode="wrap") for start in range(0, count, batch)]


def _at_least(hits: int, images: int, chance: float) -> float:
    """The probability of so many hits, or more, by chance."""
    logarithms = (
        math.lgamma(images + 1)
        - math.lgamma(k + 1)
        - math.lgamma(images - k + 1)
        + k * math.log(chance)
        + (images - k) * math.log1p(-chance)
        for k in range(hits)
    )
    return 1 - math.fsum(map(math.exp, logarithms)) if chance < 1 else 1.0


def _winners(logits: NDArray[np.float32]) -> NDArray[np.intp]:
    """(n,) the winning classes; -1, which is no class, where a logit is NaN or infinite."""
    finite = np.isfinite(logits).all(axis=1)
    return np.where(finite, np.where(np.isfinite(logits), logits, -np.inf).argmax(axis=1), -1)


def _top5(logits: NDArray[np.floating], classes: NDArray[np.intp]) -> int:
    """Images whose class is among the five largest logits, ties counted against it; NaN counts as wrong."""
    own = logits[np.arange(len(classes)), classes][:, None]
    others = (logits >= own).sum(axis=1) - 1
    return int(((others < _TOP) & np.isfinite(logits).all(axis=1)).sum())
