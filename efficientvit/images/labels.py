"""Class names: ImageNet's, or a file's with one name a line; and the most probable classes of an answer."""

import re
from collections import Counter
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from efficientvit.errors import BadOption

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

IMAGENET, NONE = "imagenet", "none"
IMAGENET_CLASSES = 1000
_MARKS = {",", ";", "\t", ":"}
_NUMBERED = re.compile(r"(?P<index>\d{1,6})(?P<mark>[,;:\t] *| +)(?P<name>\S.*)")
TOP = 5

Labels = tuple[str, ...]


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
            got=str(len(labels)),
            next_step="pass a file with one label a line in the order of the classes, or --labels none",
        )
    return labels


def read_labels(path: Path) -> Labels:
    """One label a line, UTF-8; blank lines at the end don't count. All may begin with the class: `5,name`, `5: name`.

    Raises:
        BadOption: the file cannot be read, its numbers are not those of the classes, or a label is empty or occurs
            twice (Core ML keys probabilities by label).
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadOption(
            f"the labels '{path}' cannot be read",
            expected=f"{IMAGENET}, {NONE}, or a UTF-8 text file with one label a line",
            got=str(error),
            next_step="write one label a line in the order of the classes, or pass --labels none",
        ) from error
    labels = _in_order(path, tuple(line.strip() for line in text.rstrip().splitlines()))
    if "" in labels:
        raise BadOption(f"{path} has an empty label", got=f"line {labels.index('') + 1}", next_step="name that class")
    if repeated := [label for label, count in Counter(labels).items() if count > 1]:
        lines = [i + 1 for i, label in enumerate(labels) if label == repeated[0]]
        raise BadOption(
            f"{path} has a label twice",
            expected="every label once: an app gets the probabilities by label",
            got=f"'{repeated[0]}' on lines {', '.join(map(str, lines))}",
            next_step="tell them apart, as in 'crane (bird)' and 'crane (machine)'",
        )
    return labels


def _in_order(path: Path, lines: Labels) -> Labels:
    """The names in the order of the classes, where every line has the number of its class before the name.

    A tab or a comma, a colon or a blank may stand between them, in all lines the same. Names that only begin with
    numbers don't count the classes from 0, and stay what they are.
    """
    numbered = [_NUMBERED.fullmatch(line) for line in lines]
    found = {match["mark"].strip() or match["mark"]: match for match in numbered if match is not None}
    by_class = {int(match["index"]): match["name"] for match in numbered if match is not None}
    whole = len(by_class) == len(lines) and len(found) == 1
    if whole and sorted(by_class) == list(range(len(lines))):
        return tuple(by_class[index] for index in range(len(lines)))
    from_one = sorted(by_class) == list(range(1, len(lines) + 1))
    if len(lines) > 1 and all(numbered) and (from_one or next(iter(found)) in _MARKS):
        raise BadOption(
            f"the lines of {path} begin with numbers that are not those of the classes",
            expected=f"each of 0 to {len(lines) - 1} once, before a name",
            got=", ".join(line for line in lines[:3]),
            next_step="count the classes from 0, or write the names alone, one a line in the order of the classes",
        )
    return lines


def names_in(value: Any) -> Labels | None:
    """A list of names, or a dictionary from class index to name or from name to class index; None of anything else."""
    if isinstance(value, dict) and value and all(map(_index, value.values())):
        value = {index: name for name, index in value.items()}
    if isinstance(value, dict) and value and all(str(index).isdigit() for index in value):
        by_index = {int(index): name for index, name in value.items()}
        if sorted(by_index) == list(range(len(by_index))):
            value = [by_index[index] for index in range(len(by_index))]
    if isinstance(value, list | tuple) and value and all(isinstance(name, str) and name.strip() for name in value):
        return tuple(name.strip() for name in value)
    return None


def _index(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


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
