"""`--eval DIR` and `--accuracy-budget POINTS`: accuracy on labeled images, of the reference and of every artifact."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from efficientvit.errors import BadLabeledSet, BadOption
from efficientvit.images.labels import answers, find_labels
from efficientvit.images.preprocessing import Preprocessing
from export.workers.progress import Step
from validation.budgets import Budgets

if TYPE_CHECKING:
    from efficientvit.weights.source import Weights
    from validation.accuracy.top1 import AccuracyTest


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What was asked for: a folder with a sub-folder for each class.

    Raises:
        BadLabeledSet: there is no such folder.
    """

    folder: Path

    def __post_init__(self) -> None:
        if not self.folder.is_dir():
            raise BadLabeledSet(
                f"--eval names no folder: {self.folder}",
                expected="a folder with a sub-folder of images for each class",
                got="a file" if self.folder.exists() else "nothing of that name",
            )


def evaluation(folder: Path | None, budgets: Budgets, **beside: object) -> Evaluation | None:
    """What the options ask for; None where they ask for nothing. `beside`: options that need labeled images.

    Raises:
        BadOption: a budget without images.
        BadLabeledSet: there is no such folder.
    """
    if folder is not None:
        return Evaluation(folder)
    for name, given in {"accuracy_budget": budgets.accuracy, **beside}.items():
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
    budgets: Budgets,
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
    names = labels if isinstance(labels, tuple) else find_labels(labels, classes, weights.labels)
    images = labeled_images(asked.folder, preprocessing, answers(classes), names, skip_bad=skip_bad, step=step)
    test = AccuracyTest(images, copy.deepcopy(weights.model).double(), budgets, step)
    if weights.trained and test.guessed:
        raise BadLabeledSet(
            f"on {asked.folder} the model itself is right no more often than by guessing",
            expected="images whose sub-folders are the model's classes",
            got=f"sub-folders taken by {images.matched_by}",
            next_step="pass --labels FILE with the sub-folders' names, one a line in the order in which the model was "
            "trained: ImageFolder sorts names as text (0, 1, 10, 11, 2), timm numbers by value",
        )
    return test
