"""`--eval DIR` and `--accuracy-budget POINTS`: accuracy on labeled images, of the reference and of every artifact."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from efficientvit.errors import BadLabeledSet, BadOption
from efficientvit.images.labels import find_labels
from efficientvit.images.preprocessing import Preprocessing
from export.step import Step

if TYPE_CHECKING:
    from efficientvit.weights.source import Weights
    from validation.accuracy.top1 import AccuracyTest


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What was asked for: a folder with a sub-folder for each class, and the percentage points that may be lost.

    Raises:
        BadOption: the budget is none.
        BadLabeledSet: the folder is none.
    """

    folder: Path
    budget: float | None = None

    def __post_init__(self) -> None:
        if self.budget is not None and not 0 <= self.budget <= 100:
            raise BadOption(
                "--accuracy-budget is in percentage points",
                expected="0 to 100",
                got=str(self.budget),
                next_step="leave it out for half a point",
            )
        if not self.folder.is_dir():
            raise BadLabeledSet(
                f"--eval names no folder: {self.folder}",
                expected="a folder with a sub-folder of images for each class",
                got="a file" if self.folder.exists() else "nothing of that name",
            )


def evaluation(folder: Path | None, budget: float | None, **beside: object) -> Evaluation | None:
    """What the options ask for; None where they ask for nothing. `beside`: options that say nothing without images.

    Raises:
        BadOption: a budget without images, or one that is none.
        BadLabeledSet: the folder is none.
    """
    if folder is not None:
        return Evaluation(folder, budget)
    for name, given in {"accuracy_budget": budget, **beside}.items():
        if given is not None and given is not False:
            option = f"--{name.replace('_', '-')}"
            raise BadOption(
                f"{option} is for labeled images",
                expected="--eval DIR with it",
                got="no --eval",
                next_step=f"name a folder with a sub-folder of images for each class, or leave {option} out",
            )
    return None


def accuracy_test(
    asked: Evaluation,
    weights: "Weights",
    preprocessing: Preprocessing,
    labels: tuple[str, ...] | str | None,
    *,
    skip_bad: bool,
    step: Step,
) -> "AccuracyTest":
    """The images, and the trained form's answers to them in float64: once for all artifacts of a model.

    `labels`: the classes' names, or as `--labels` has them.

    Raises:
        BadOption: the labels are not this model's.
        BadLabeledSet: the folder cannot be used.
    """
    from validation.accuracy.top1 import AccuracyTest
    from validation.inputs.labeled_images import labeled_images

    classes = weights.model.spec.classes
    names = labels if isinstance(labels, tuple) else find_labels(labels, classes)
    images = labeled_images(asked.folder, preprocessing, classes, names, skip_bad=skip_bad, step=step)
    test = AccuracyTest(images, copy.deepcopy(weights.model).double(), asked.budget, step)
    if weights.trained and test.guessed:
        raise BadLabeledSet(
            f"on {asked.folder} the model itself is right no more often than by guessing",
            expected="images whose sub-folders are the model's classes",
            got=f"sub-folders taken by {images.matched_by}",
            next_step="name the sub-folders by class index (the first is 0) or by label, with --labels FILE",
        )
    return test
