"""Golden inputs from the user's photographs."""

import os
from pathlib import Path

from efficientvit.errors import BadGoldenSet, BadImage
from efficientvit.preprocess import Preprocessing, load_rgb, to_uint8
from validation.golden import GoldenImage, GoldenSet, Kind

LARGEST_COUNT = 1000
_SYSTEM_FILES = {"thumbs.db", "desktop.ini"}


def photos(folder: Path, preprocessing: Preprocessing, skip_bad: bool = False) -> GoldenSet:
    """Every file in the folder and the folders below it, through the preprocessing contract, sorted by path.

    Each is named by its path in the folder, with `/`. What a file is, its content decides, not its suffix: a
    list of labels beside the photographs is a file that is no image. Only hidden files and folders (a leading
    dot) and those that Windows leaves behind (Thumbs.db, desktop.ini) are passed over in silence. Links to
    folders are not followed. With `skip_bad` a file that is no usable image is left out and named in the
    set's `skipped`.

    Raises:
        BadGoldenSet: the folder is missing, unreadable, empty or has more than `LARGEST_COUNT` files; or a
            file is no usable image (without `skip_bad`), or all are.
    """
    files = files_below(folder, f"the golden folder {folder}", LARGEST_COUNT)
    members, skipped = [], []
    for name, file in files:
        try:
            pixels = to_uint8(load_rgb(file, preprocessing), preprocessing)
        except BadImage as error:
            if not skip_bad:
                raise BadGoldenSet(
                    f"the golden folder {folder} holds a file that cannot be used: {name}",
                    expected=error.expected,
                    got=error.what if error.got is None else f"{error.what}: {error.got}",
                    next_step="take the file away, or say that bad files are to be skipped",
                ) from error
            skipped.append(name)
        else:
            members.append(GoldenImage(name, Kind.PHOTO, pixels))
    if not members:
        raise BadGoldenSet(
            f"the golden folder {folder} holds no usable image",
            expected="at least one",
            got=f"{len(skipped)} files that are none: {', '.join(skipped[:5])}",
        )
    return GoldenSet(tuple(members), preprocessing, tuple(skipped))


def files_below(folder: Path, what: str, most: int) -> list[tuple[str, Path]]:
    """(name, file), sorted by name: the order in which a file system lists them says nothing.

    `what` it is, for a message. Hidden files and folders and what Windows leaves behind are passed over.

    Raises:
        BadGoldenSet: the folder is missing or unreadable, or has no file, or more than `most`.
    """

    def unreadable(error: OSError) -> None:
        raise BadGoldenSet(f"{what} cannot be read", got=str(error)) from error

    if not folder.is_dir():
        raise BadGoldenSet(
            f"{what} cannot be used",
            expected="a folder of photographs",
            got="a file" if folder.exists() else "nothing of that name",
        )
    found = []
    for parent, below, names in os.walk(folder, onerror=unreadable):
        below[:] = [name for name in below if not name.startswith(".")]
        for name in names:
            if not name.startswith(".") and name.lower() not in _SYSTEM_FILES:
                file = Path(parent, name)
                found.append((file.relative_to(folder).as_posix(), file))
    if not 0 < len(found) <= most:
        raise BadGoldenSet(
            f"{what} {'has too many files' if found else 'is empty'}",
            expected=f"1 to {most} images",
            got=f"{len(found)}",
            next_step="a few dozen photographs of the kind that the model will see are enough",
        )
    return sorted(found)
