"""The record of accuracy on labeled images, as a manifest and `verify --json` have it."""

from typing import Annotated, Self

from export.records import Count, Positive, Record, Share, says
from runtimes.runtime import Evidence
from validation.accuracy.top1 import CONFIDENCE, Accuracy


class TopRecord(Record, frozen=True, kw_only=True):
    """Shares of the images that are right."""

    top1: Annotated[Share, says("Share of the images, 0 to 1.")]
    top5: Annotated[Share | None, says("Share of the images, 0 to 1; null where there are no more than five classes.")]


class FlipRecord(Record, frozen=True, kw_only=True):
    """An image that the reference has right and the artifact wrong."""

    image: Annotated[str, says("Path in the folder.")]
    right: Annotated[Count, says("Class, by index.")]
    given: Annotated[int, says("The artifact's class; -1 where a logit is no number.")]
    outside_margin: Annotated[bool, says("The error that the budget allows cannot explain it.")]


class AccuracyRecord(Record, frozen=True, kw_only=True):
    """Accuracy on labeled images: counts of images, percentage points, shares of 0 to 1."""

    folder: Annotated[str, says("Name of the folder.")]
    images: Annotated[Positive, says("How many were used.")]
    matched_by: Annotated[
        str, says("How the folders became classes.", "class index", "label", "sorted order of the folders")
    ]
    skipped: Annotated[list[str], says("Files that are no images, --skip-bad-photos.")]
    reference: Annotated[TopRecord, says("The trained form in float64.")]
    artifact: Annotated[TopRecord, says("The artifact as it ships; of an engine that could not be run, the network "
                                        "that it was built from.")]  # fmt: skip
    agree: Annotated[Count, says("Images with the same winner.")]
    lost: Annotated[Count, says("Images that the reference has right and the artifact wrong.")]
    gained: Annotated[Count, says("Images that the artifact has right and the reference wrong.")]
    drop_points: Annotated[float, says("Top-1 of the reference less the artifact's, percentage points.")]
    interval_points: Annotated[
        tuple[float, float],
        says("Least and largest drop that the images allow for, percentage points: Tango's score interval."),
    ]
    confidence_percent: Annotated[float, says("Of the interval, two-sided.")]
    budget_points: Annotated[float, says("What may be lost, percentage points: --accuracy-budget.")]
    evidence: Annotated[
        Evidence, says("Of the runtime that gave the artifact's answers.", "native", "vendor", "reference")
    ]
    flips: Annotated[list[FlipRecord], says("The images lost, those first that the budget cannot explain.")]

    @classmethod
    def of(cls, found: Accuracy | None) -> Self | None:
        """What was measured; None where nothing was."""
        if found is None:
            return None

        def side(top1: int, top5: int | None) -> TopRecord:
            return TopRecord(top1=top1 / found.images, top5=None if top5 is None else top5 / found.images)

        return cls.from_attributes(
            found,
            skipped=list(found.skipped),
            reference=side(found.reference_top1, found.reference_top5),
            artifact=side(found.artifact_top1, found.artifact_top5),
            lost=len(found.lost),
            drop_points=found.drop,
            interval_points=found.interval,
            confidence_percent=CONFIDENCE,
            budget_points=found.budget,
            flips=[FlipRecord.from_attributes(flip, outside_margin=flip.outside) for flip in found.lost],
        )
