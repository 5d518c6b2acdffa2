"""A file written whole or not at all: the four packages write every file that somebody else may read this way."""

import os
from collections.abc import Callable
from pathlib import Path


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make the new `path`, which takes the old one's place in one step.

    Raises:
        OSError: it cannot be written; the old file, if there was one, is as it was.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        write(part)
        with part.open("rb") as stream:
            os.fsync(stream.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
