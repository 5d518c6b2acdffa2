"""What is written about the artifacts of a bundle, and whether a document that lies there says just that."""

import json
from collections.abc import Callable, Iterable
from typing import Any

from efficientvit.files import parse_unique_json
from export.bundle.bom import bom_of
from export.bundle.card import card_of
from export.bundle.contents import Contents
from export.bundle.layout import BOM, CARD, STATEMENT
from export.bundle.statement import statement_of

DOCUMENTS: dict[str, Callable[[Contents], bytes]] = {
    CARD: lambda contents: card_of(contents).encode(),
    BOM: lambda contents: as_json(bom_of(contents)),
    STATEMENT: lambda contents: as_json(statement_of(contents).to_json()),
}
"""Path in the bundle -> its bytes, which follow from the artifacts alone."""


def as_json(document: object) -> bytes:
    """Indented, in UTF-8."""
    return (json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def difference(path: str, found: bytes, contents: Contents) -> str | None:
    """Where a document is another than these artifacts' own, or None."""
    own = DOCUMENTS[path](contents)
    if found == own:
        return None
    if path.endswith(".json"):
        try:
            return _apart("", parse_unique_json(own), parse_unique_json(found)) or "it is not written as ours is"
        except ValueError as error:
            return f"it is no JSON: {error}"
    lines = found.decode("utf-8", "replace").splitlines()
    for number, (meant, said) in enumerate(zip(own.decode().splitlines(), lines, strict=False), 1):
        if meant != said:
            return f"line {number} says {said.strip()[:80]!r}, and the manifests say {meant.strip()[:80]!r}"
    return f"it has {len(lines)} lines, and the manifests say {own.decode().count(chr(10))}"


def _apart(place: str, meant: Any, said: Any) -> str | None:
    """The first place at which two documents differ."""
    match meant, said:
        case dict(), dict():
            return _first(_inside(place, key, meant, said) for key in dict.fromkeys((*meant, *said)))
        case list(), list() if len(meant) == len(said):
            pairs = enumerate(zip(meant, said, strict=True))
            return _first(_apart(f"{place}[{number}]", one, other) for number, (one, other) in pairs)
        case list(), list():
            return f"{place} has {len(said)} entries, and the manifests have {len(meant)}"
    if meant == said and type(meant) is type(said):
        return None
    return f"{place} says {said!r:.80}, and the manifests say {meant!r:.80}"


def _inside(place: str, key: str, meant: dict[str, Any], said: dict[str, Any]) -> str | None:
    where = f"{place}.{key}".lstrip(".")
    if key in meant and key in said:
        return _apart(where, meant[key], said[key])
    return f"{where} is {'missing' if key in meant else 'not known'}"


def _first(found: Iterable[str | None]) -> str | None:
    return next((each for each in found if each is not None), None)
