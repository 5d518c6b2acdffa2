"""Files are written whole or not at all; JSON that others wrote is read strictly."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make the new `path`, which replaces the old one in one step; an OSError leaves the old one there."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        write(part)
        with part.open("rb") as stream:
            os.fsync(stream.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def parse_json(text: bytes | str) -> Any:
    """What a JSON document says.

    Raises:
        ValueError: it is no JSON, which has neither NaN nor infinity, or is nested too deeply to be read.
    """
    try:
        return msgspec.json.decode(text)
    except RecursionError as error:
        raise ValueError("JSON that is nested too deeply") from error
