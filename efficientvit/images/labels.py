"""Class names: ImageNet's, or a file's with one name a line; and the most probable classes of an answer."""

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from efficientvit.errors import BadOption
from efficientvit.images.label_file import IMAGENET, NONE, Labels, read_labels

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

IMAGENET_CLASSES = 1000
TOP = 5


def imagenet() -> Labels:
    """The 1000 names of ImageNet-1k in order, made unique: two of them are cranes, two are maillots."""
    text = files("efficientvit.images").joinpath("imagenet_labels.txt").read_text(encoding="utf-8")
    return tuple(text.splitlines())


def find_labels(option: str | None, classes: int, own: Labels = ()) -> Labels:
    """The labels that `--labels OPTION` names: imagenet, none or a file.

    None: the checkpoint's `own`, or without those imagenet's where there are 1000 classes.

    Raises:
        BadOption: the file cannot be read, a name is empty or occurs twice, or there are not `classes` of them.
    """
    if option is None:
        return own or (imagenet() if classes == IMAGENET_CLASSES else ())
    if option == NONE:
        return ()
    labels = imagenet() if option == IMAGENET else read_labels(Path(option))
    if len(labels) != answers(classes):
        one = "2 labels, for the answers no and yes of a single logit"
        raise BadOption(
            f"the labels '{option}' are not this model's",
            expected=one if classes == 1 else f"{classes} labels, one for each class",
            got=f"{len(labels)}, from '{labels[0]}' to '{labels[-1]}'",
            next_step="pass a file with one label a line in the order of the classes, or --labels none",
        )
    return labels


def answers(classes: int) -> int:
    """How many answers a head of so many logits has: a single one, for a sigmoid, says no or yes."""
    return 2 if classes == 1 else classes


def class_names(classes: int) -> Labels:
    """For an artifact without labels: ImageNet's names if there are 1000 classes, otherwise `class 0` and so on."""
    return imagenet() if classes == IMAGENET_CLASSES else tuple(f"class {i}" for i in range(answers(classes)))


def both_answers(logits: "NDArray[Any]") -> "NDArray[Any]":
    """(..., classes) logits with a column for each answer: of a single logit z, 0 for no and z for yes.

    Their softmax is 1 - sigmoid(z) and sigmoid(z), and their maximum says whether z is above 0.
    """
    import numpy as np

    if logits.shape[-1] != 1:
        return logits
    return np.concatenate([np.zeros_like(logits), logits], axis=-1)


def probabilities_of(logits: "NDArray[np.float64]") -> "NDArray[np.float64]":
    """(classes,) logits -> the softmax of `both_answers`: of a single logit, (no, yes)."""
    import numpy as np

    values = both_answers(logits)
    exponentials = np.exp(values - values.max())
    shares: NDArray[np.float64] = exponentials / exponentials.sum()
    return shares


def most_probable(logits: "NDArray[Any]", names: Sequence[str]) -> tuple[tuple[str, float], ...]:
    """The TOP answers by (classes,) logits, with their softmax (for one logit: sigmoid) probabilities, best first."""
    import numpy as np

    return largest(names, probabilities_of(logits.astype(np.float64)))


def largest(names: Sequence[str], probabilities: "NDArray[Any]") -> tuple[tuple[str, float], ...]:
    """The TOP classes by (classes,) probabilities, best first; equal ones in the order of the classes."""
    order = (-probabilities).argsort(kind="stable")[:TOP]
    return tuple((names[i], float(probabilities[i])) for i in order)
