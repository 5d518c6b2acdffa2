"""Files are written whole or not at all; JSON that others wrote is read strictly."""

import json
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


def write_text(path: Path, text: str) -> None:
    """In UTF-8. A file name in it may not be text where it was read (LC_ALL=C, or of another encoding): its bytes."""
    path.write_text(text.encode("utf-8", "surrogateescape").decode("utf-8", "replace"), encoding="utf-8")


def parse_json(text: bytes | str) -> Any:
    """What a JSON document says.

    Raises:
        ValueError: it is no JSON, which has neither NaN nor infinity, or is nested too deeply to be read.
    """
    try:
        return msgspec.json.decode(text)
    except RecursionError as error:
        raise ValueError("JSON that is nested too deeply") from error


def parse_unique_json(content: bytes) -> Any:
    """The same of a document on which two readers must not disagree: no key of an object twice, UTF-8 without a mark.

    Raises:
        ValueError: it is no JSON, or JSON that readers understand differently.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            names = [name for name, _ in pairs]
            raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)!r} twice in one object")
        return found

    def refused(constant: str) -> None:
        raise ValueError(f"{constant}, which JSON does not have")

    try:
        return json.loads(content.decode("utf-8"), object_pairs_hook=once, parse_constant=refused)
    except RecursionError as error:
        raise ValueError("JSON that is nested too deeply") from error
