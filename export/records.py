"""What the records of JSON documents are made of: types that write, read and describe themselves.

A field's type is its form, its `Meta` its description: `export/folder/schema.py` makes JSON Schemas of them. A field
with a default was added to an existing form: readers take its absence for the default.
"""

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, TypeAlias, TypeVar

import msgspec
import numpy as np
from msgspec import Meta

Number = float | Literal["nan", "inf", "-inf"]
"""JSON has no NaN and no infinity: they are written by name, so that they are not mistaken for a missing value."""

_T = TypeVar("_T")
IfMeasured: TypeAlias = _T | msgspec.UnsetType
"""A field that is there where `measured` is true."""

Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Count = Annotated[int, Meta(ge=0)]
Positive = Annotated[int, Meta(ge=1)]
Size = Positive | Annotated[list[Positive], Meta(min_length=2, max_length=2)]
"""An `ImageSize`, as its `to_json` writes it. No tuple: of one in a union msgspec 0.22 crashes."""
Share = Annotated[float, Meta(ge=0, le=1)]


def says(description: str, *choices: str | None) -> Meta:
    """A field's description. `choices`: what the schema lets it be, where its type lets it be more."""
    extra: dict[str, Any] | None = {"enum": [*choices]} if choices else None
    return Meta(description=description, extra_json_schema=extra)


def field_of(error: msgspec.ValidationError) -> tuple[str, str, str]:
    """The field that a message of msgspec's names, what was expected there, and what was found."""
    said, _, place = str(error).partition(" - at ")
    where = place.strip("`").removeprefix("$.").removeprefix("$") or "the whole"
    if missing := re.fullmatch(r"Object missing required field `(.+)`", said):
        return where, f"a field '{missing[1]}'", "none"
    expected, _, got = said.removeprefix("Expected ").partition(", got ")
    return (where, expected, got) if got else (where, "what vit-export writes there", said)


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """An object of a JSON document, its fields in the document's order."""

    @classmethod
    def from_attributes(cls, source: object, **others: Any) -> Self:
        """The record of `source`: its attributes, by the names of the fields, and `others` where there are none."""
        names = (name for name in cls.__struct_fields__ if name not in others)
        return cls(**{name: getattr(source, name) for name in names}, **others)

    def to_json(self) -> dict[str, Any]:
        """Ready for `json.dumps`."""
        found: dict[str, Any] = plain(self)
        return found


def plain(document: Any) -> Any:
    """A document with records and dataclasses in it, ready for `json.dumps`: a `Number` is written as it says."""
    return _named(msgspec.to_builtins(document, enc_hook=_plain))


def _plain(value: Any) -> Any:
    match value:
        case np.generic():
            return value.item()
        case Mapping():
            return dict(value)
        case _:
            return str(value)


def _named(value: Any) -> Any:
    match value:
        case dict():
            return {key: _named(each) for key, each in value.items()}
        case list() | tuple():
            return [_named(each) for each in value]
        case float() if not math.isfinite(value):
            return str(value)
        case _:
            return value
