"""Golden inputs from the user's photographs."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from efficientvit.errors import BadGoldenSet, BadImage
from efficientvit.images.preprocessing import Preprocessing, load_rgb, to_uint8
from validation.inputs.golden_set import GoldenImage, GoldenSet, Kind, merge
from validation.inputs.synthetic import synthetic

LARGEST_COUNT = 1000
_SYSTEM = {
    "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r",
    "__macosx", "@eadir", "lost+found", "$recycle.bin", "system volume information",
}  # fmt: skip
"""What Windows, macOS, Linux and Synology's servers leave in folders."""


def photos(folder: Path, preprocessing: Preprocessing, skip_bad: bool = False, what: str = "golden") -> GoldenSet:
    """Every file in the folder and the folders below it, through the preprocessing contract, sorted by path.

    Each is named by its path in the folder, with `/`. What a file is, its content decides, not its suffix: a
    list of labels among the photographs is not an image. Only hidden files and folders (a leading
    dot) and those that systems leave behind (Thumbs.db, __MACOSX, @eaDir) are passed over in silence. Links to
    folders are followed. With `skip_bad` a file that is not a usable image is left out and named in the
    set's `skipped`.

    Raises:
        BadGoldenSet: the folder is missing, unreadable, empty or has more than `LARGEST_COUNT` files; or a
            file is not a usable image (without `skip_bad`), or all are.
    """
    what = f"the {what} folder {folder}"
    skipped: list[str] | None = [] if skip_bad else None
    files = files_below(folder, what, LARGEST_COUNT)
    members = [GoldenImage(name, Kind.PHOTO, pixels) for name, pixels in decoded(files, what, preprocessing, skipped)]
    if not members:
        raise BadGoldenSet(
            f"{what} holds no usable image",
            expected="at least one",
            got=f"{len(skipped or ())} files that are none: {', '.join((skipped or [])[:5])}",
        )
    return GoldenSet(tuple(members), preprocessing, tuple(skipped or ()))


def golden_images(folder: Path | None, preprocessing: Preprocessing, skip_bad: bool = False) -> GoldenSet:
    """The synthetic images, and before them the photos in `folder`, if one is named.

    Raises:
        BadGoldenSet: as `photos`.
    """
    made = synthetic(preprocessing)
    return made if folder is None else merge(photos(folder, preprocessing, skip_bad), made)


def decoded(
    files: Iterable[tuple[str, Path]],
    what: str,
    preprocessing: Preprocessing,
    skipped: list[str] | None,
    how_to_skip: str = "pass --skip-bad-photos",
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """(name, (H, W, 3) uint8) of each file; one that is not an image goes to `skipped`, where there is such a list.

    `what` they lie in, for a message.

    Raises:
        BadGoldenSet: a file is not a usable image, and there is no such list.
    """
    for name, file in files:
        try:
            pixels = to_uint8(load_rgb(file, preprocessing), preprocessing)
        except BadImage as error:
            if skipped is None:
                raise BadGoldenSet(
                    f"{what} holds a file that cannot be used: {name}",
                    expected=error.expected,
                    got=error.what if error.got is None else f"{error.what}: {error.got}",
                    next_step=f"take the file away, or {how_to_skip}",
                ) from error
            skipped.append(name)
        else:
            yield name, pixels


def left_by_system(name: str) -> bool:
    """Whether a file or folder of this name is hidden, or no one's own."""
    return name.startswith(".") or name.lower() in _SYSTEM


def _files(folder: Path, above: frozenset[Path]) -> Iterator[Path]:
    """The files in it and in the folders below. Links are followed, but not back into a folder above."""
    here = above | {folder.resolve()}
    for each in folder.iterdir():
        if left_by_system(each.name):
            continue
        if not each.is_dir():
            yield each
        elif each.resolve() not in here:
            yield from _files(each, here)


def files_below(folder: Path, what: str, most: int) -> list[tuple[str, Path]]:
    """(name, file), sorted by name: the order in which a file system lists them says nothing.

    `what` it is, for a message. Hidden files and folders and what systems leave behind are passed over.

    Raises:
        BadGoldenSet: the folder is missing or unreadable, or has no file, or more than `most`.
    """
    if not folder.is_dir():
        raise BadGoldenSet(
            f"{what} cannot be used",
            expected="a folder of photographs",
            got="a file" if folder.exists() else "nothing of that name",
        )
    try:
        found = [(file.relative_to(folder).as_posix(), file) for file in _files(folder, frozenset())]
    except OSError as error:
        raise BadGoldenSet(f"{what} cannot be read", got=str(error)) from error
    if not 0 < len(found) <= most:
        raise BadGoldenSet(
            f"{what} {'has too many files' if found else 'is empty'}",
            expected=f"1 to {most} images",
            got=f"{len(found)}",
            next_step="a few dozen photographs of the kind that the model will see are enough",
        )
    return sorted(found)
