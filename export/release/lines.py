"""Where a key stands in a TOML file: tomllib gives values without their lines."""

import re
from dataclasses import dataclass

Place = tuple[str | int, ...]
"""A path of keys, such as `("override", 0, "match", "target")`."""

_HEADER = re.compile(r"\s*(\[\[?)\s*([^\[\]]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(r"""\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'))*)\s*=""")
_PART = re.compile(r"""[A-Za-z0-9_-]+|"[^"]*"|'[^']*'""")


@dataclass(frozen=True, slots=True)
class Line:
    """`number`: from 1. `text`: without the white space around it."""

    number: int
    text: str


def line_of(text: str, place: Place) -> Line | None:
    """The line of the key, or of the nearest key or table that it lies in; None for the whole file."""
    best: tuple[int, Line] | None = None
    table: Place = ()
    counts: dict[Place, int] = {}
    for number, content in enumerate(text.splitlines(), 1):
        if (header := _HEADER.match(content)) is not None:
            table = _table(_parts(header[2]), counts, array=header[1] == "[[")
            found = table
        elif (key := _KEY.match(content)) is not None:
            found = (*table, *_parts(key[1]))
        else:
            continue
        if found == place[: len(found)] and (best is None or len(found) > best[0]):
            best = len(found), Line(number, content.strip())
    return None if best is None else best[1]


def written(place: Place) -> str:
    """`override[0].match.target`."""
    parts = (f"[{each}]" if isinstance(each, int) else f".{each}" for each in place)
    return "".join(parts).removeprefix(".")


def _parts(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip("\"'") for part in _PART.findall(dotted))


def _table(parts: tuple[str, ...], counts: dict[Place, int], *, array: bool) -> Place:
    """The path of a table's header: within an array of tables, the last one's."""
    path: Place = ()
    for depth, part in enumerate(parts, 1):
        path = (*path, part)
        last = depth == len(parts)
        if last and array:
            counts[path] = counts.get(path, -1) + 1
        if path in counts:
            path = (*path, counts[path])
    return path
