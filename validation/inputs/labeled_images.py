"""Labeled images: a folder with a sub-folder for each class, as `--eval` takes it."""

import re
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from efficientvit.errors import BadGoldenSet, BadLabeledSet
from efficientvit.images.preprocessing import Preprocessing
from validation.inputs.photos import decoded, files_below, left_by_system

MOST = 100_000
_SHOWN = 5
_SPLITS = ("val", "valid", "validation", "test", "train")
_EVERY = 64

BY_INDEX, BY_LABEL, BY_ORDER = "class index", "label", "sorted order of the folders"
"""How a folder's name came to mean a class."""

Step = Callable[[str], None]


@dataclass(frozen=True, slots=True, eq=False)
class LabeledImages:
    """Images and their classes: `pixels` (n, H, W, 3) uint8 through the contract's resize and crop, `classes` (n,).

    `names` are paths in the folder; `matched_by` is how folders became classes; `skipped` are the files that are no
    image.
    """

    folder: Path
    preprocessing: Preprocessing
    names: tuple[str, ...]
    pixels: NDArray[np.uint8]
    classes: NDArray[np.intp]
    matched_by: str
    skipped: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)


def labeled_images(
    folder: Path,
    preprocessing: Preprocessing,
    classes: int,
    labels: Sequence[str] = (),
    *,
    skip_bad: bool = False,
    step: Step = lambda _: None,
) -> LabeledImages:
    """Every image below `folder`, whose sub-folders are classes: `classes_of` says which.

    Each is decoded once, into a temporary file that is gone with the process: 150 kB an image at 224 pixels. Files
    beside the sub-folders are passed over, as torchvision does. A file that is no image is treated as among golden
    photos: an error, or, with `skip_bad`, left out and named.

    Raises:
        BadLabeledSet: no such folder, no sub-folders, names that are not this model's classes, a file
            that is not an image (without `skip_bad`), or no image at all.
    """
    folders = _folders(folder)
    by_folder, matched_by = classes_of(folders, classes, labels)
    what = f"the folder {folder} of --eval"
    names, found = [], []
    skipped: list[str] | None = [] if skip_bad else None
    try:
        with tempfile.TemporaryFile(prefix="vit-export-eval-") as store:
            files = [(name, file) for name, file in files_below(folder, what, MOST) if "/" in name]
            counted = _counting(files, step)
            for name, pixels in decoded(counted, what, preprocessing, skipped, "pass --skip-bad-photos"):
                store.write(pixels.tobytes())
                names.append(name)
                found.append(by_folder[name.split("/", 1)[0]])
            if not names:
                raise BadLabeledSet(
                    f"{what} holds no usable image",
                    expected="images in its sub-folders",
                    got=f"{len(skipped)} files that are none" if skipped else "no file in any sub-folder",
                )
            store.flush()
            stored = np.memmap(store, np.uint8, "r", shape=preprocessing.image_size.nhwc(len(names)))
    except BadGoldenSet as error:  # the same faults, of another folder
        raise BadLabeledSet(error.what, expected=error.expected, got=error.got, next_step=error.next_step) from error
    except OSError as error:
        raise BadLabeledSet(
            f"the images of {folder} cannot be kept while they are used",
            expected=f"room for them in {tempfile.gettempdir()}",
            got=str(error),
            next_step="set TMPDIR to a folder with more room, or pass fewer images",
        ) from error
    return LabeledImages(
        folder, preprocessing, tuple(names), stored, np.array(found, np.intp), matched_by, tuple(skipped or ())
    )


def _counting(files: Sequence[tuple[str, Path]], step: Callable[[str], None]) -> Iterator[tuple[str, Path]]:
    for count, file in enumerate(files):
        if count % _EVERY == 0:
            step(f"--eval: reading image {count + 1} of {len(files)}")
        yield file


def classes_of(folders: Sequence[str], classes: int, labels: Sequence[str] = ()) -> tuple[Mapping[str, int], str]:
    """Folder -> class, and how: by the model's labels, by class index, or by sorted order.

    Labels count first: who names a class `10` says which class that is. They are compared without case, `_` as a space.
    Sorted order is taken only where no name is an index or a label, there are as many folders as classes, and
    torchvision's order (as text) is timm's (numbers by value, without case) too. WordNet ids sort in ImageNet's order.

    Raises:
        BadLabeledSet: the names say nothing, two things, or the same class twice.
    """
    by_label: dict[str, list[int]] = {}
    for index, label in enumerate(labels):
        by_label.setdefault(_plain(label), []).append(index)
    numbers = {name: int(name) for name in folders if name.isascii() and name.isdigit()}
    named = {name: own[0] for name in folders if len(own := by_label.get(_plain(name), [])) == 1}
    whole = [reading for reading in (named, numbers) if len(reading) == len(folders)]
    if numbers in whole and named not in whole and max(numbers.values()) >= classes:
        over = [name for name, number in numbers.items() if number >= classes]
        raise _unclear(f"there is no class {', '.join(over[:_SHOWN])}: indices go from 0", folders, classes)
    if whole:
        reading, how = whole[0], BY_LABEL if whole[0] is named and numbers != named else BY_INDEX
        twice = [number for number, count in Counter(reading.values()).items() if count > 1]
        if twice:
            same = [name for name in folders if reading[name] == twice[0]]
            raise _unclear(f"{' and '.join(same)} both mean class {twice[0]}", folders, classes)
        return reading, how
    if numbers or named:
        rest = [name for name in folders if name not in numbers and name not in named]
        if not rest:
            indices = [name for name in folders if name in numbers]
            others = ", ".join([name for name in folders if name not in numbers][:_SHOWN])
            raise _unclear(
                f"some are indices ({', '.join(indices[:_SHOWN])}) and some are labels ({others}) of this model",
                folders,
                classes,
            )
        raise _unclear(
            f"some are indices or labels of this model and {', '.join(rest[:_SHOWN])} "
            f"{'is' if len(rest) == 1 else 'are'} not",
            folders,
            classes,
        )
    if len(folders) != classes:
        raise _unclear("none is an index or a label, and their number is not that of the classes", folders, classes)
    as_text, natural = sorted(folders), sorted(folders, key=_natural)
    if as_text != natural:
        first = next(place for place, pair in enumerate(zip(as_text, natural, strict=True)) if len(set(pair)) == 2)
        raise _unclear(
            f"class {first} is '{as_text[first]}' in the order of torchvision's ImageFolder (as text) and "
            f"'{natural[first]}' in timm's (numbers by value, without case)",
            folders,
            classes,
        )
    return {name: index for index, name in enumerate(as_text)}, BY_ORDER


def _natural(name: str) -> tuple[tuple[bool, int, str], ...]:
    """timm's key: runs of digits compare by value, all else without case."""
    parts = re.split(r"(\d+)", name.lower())
    return tuple((not part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts)


def _unclear(why: str, folders: Sequence[str], classes: int) -> BadLabeledSet:
    split = next((name for name in _SPLITS if name in folders), None)
    some = ", ".join(sorted(folders)[:_SHOWN]) + (", …" if len(folders) > _SHOWN else "")
    return BadLabeledSet(
        f"the folders of --eval do not say which classes they are: {why}",
        expected=f"class indices 0 to {classes - 1}, or labels of the model, or a folder for each of {classes} classes",
        got=f"{len(folders)} folders: {some}",
        next_step=f"these look like the parts of a data set: name one, as in DIR/{split}"
        if split is not None
        else "pass --labels FILE with the folders' names, one a line in the order in which the model was trained, or "
        "name the folders by class index",
    )


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold().replace("_", " ").strip()  # macOS takes accents apart


def _folders(folder: Path) -> list[str]:
    """The sub-folders, hidden ones and those of the system left out."""
    try:
        found = sorted(each.name for each in folder.iterdir() if each.is_dir() and not left_by_system(each.name))
    except OSError as error:
        raise BadLabeledSet(
            f"--eval names no folder that can be read: {folder}",
            expected="a folder with a sub-folder of images for each class",
            got=error.strerror or str(error),
        ) from error
    if not found:
        raise BadLabeledSet(
            f"the folder {folder} of --eval has no sub-folders",
            expected="a sub-folder of images for each class",
            got="files alone, or nothing",
            next_step="put the images of each class into a folder of their own, named by its index or label",
        )
    return found
