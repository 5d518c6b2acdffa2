"""`release.toml`: read, and checked by types. docs/release.md describes it."""

import difflib
import functools
import hashlib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NoReturn

import msgspec
from msgspec import Meta

from efficientvit.errors import BadInput
from export.records import field_of
from export.release.lines import Place, line_of, written
from export.release.options import structs

_NAME = r"^[A-Za-z0-9][A-Za-z0-9._+-]*$"
_PLACE = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]")


class BadRecipe(BadInput):
    """A recipe that cannot be used."""


@functools.cache
def recipe_type() -> Any:
    """The type of the whole document."""
    types: Any = structs()
    several = [("exclude", "match"), ("override", "override"), ("artifact", "artifact")]
    text = {
        "exclude": "Combinations of the matrix that are not made.",
        "override": "Options of the artifacts that match; of several, the last one counts.",
        "artifact": "Artifacts beyond the matrix.",
    }
    lists: dict[str, Any] = {name: list[types[kind]] for name, kind in several}
    fields: list[Any] = [
        ("name", Annotated[str, Meta(pattern=_NAME, description="Of the release: letters, digits and . _ + -.")]),
        ("version", Annotated[str, Meta(pattern=_NAME, description="Of the release, such as 1.4.0.")]),
        *((each, types[each] | msgspec.UnsetType, msgspec.UNSET) for each in ("options", "models", "matrix")),
        *(
            (name, Annotated[kind, Meta(description=text[name])], msgspec.field(default_factory=list))
            for name, kind in lists.items()
        ),
    ]
    return msgspec.defstruct(
        "Recipe", fields, forbid_unknown_fields=True, frozen=True, kw_only=True,
        namespace={"__doc__": "A release: which artifacts are made, and what is required of them."},
    )  # fmt: skip


def recipe_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a recipe, for editors."""
    found = msgspec.json.schema(recipe_type(), ref_template="#/$defs/{name}")
    parts = found["$defs"]
    own = parts.pop("Recipe")
    own |= {"title": "vit-export recipe", "$defs": parts}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **own}


@dataclass(frozen=True, slots=True)
class Recipe:
    """A recipe that has been read. `tables`: the document, as `recipe_type` has it. `sha256`: of the file."""

    path: Path
    text: str
    sha256: str
    tables: Any

    @property
    def name(self) -> str:
        """Of the release."""
        return str(self.tables.name)

    @property
    def version(self) -> str:
        """Of the release."""
        return str(self.tables.version)

    @property
    def folder(self) -> Path:
        """What its files are named from."""
        return self.path.parent

    def refuse(
        self, place: Place, what: str, *, expected: str | None = None, got: str | None = None, next_step: str
    ) -> NoReturn:
        """Say what is wrong at a key.

        Raises:
            BadRecipe: always.
        """
        raise refused(self.path, self.text, place, what, expected, got, next_step)


def refused(
    path: Path, text: str, place: Place, what: str, expected: str | None, got: str | None, next_step: str | None
) -> BadRecipe:
    """The error for a key: with the line, and what stands there."""
    line = line_of(text, place)
    where = f"{path}, line {line.number}" if line else str(path)
    found = got if line is None else f"{line.text}" if got is None or got in line.text else f"{got}, in: {line.text}"
    key = f" ({written(place)})" if place else ""
    return BadRecipe(f"{where}{key}: {what}", expected=expected, got=found, next_step=next_step)


def read_recipe(path: Path) -> Recipe:
    """The recipe in a file.

    Raises:
        BadRecipe: it cannot be read, is no TOML, or has keys or values that no recipe has.
    """
    try:
        data = path.read_bytes()
        text = data.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        said = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise BadRecipe(
            f"cannot read the recipe {path}",
            expected="a TOML file",
            got=said,
            next_step="docs/release.md begins with a recipe to copy",
        ) from error
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _no_toml(path, text, error) from error
    try:
        tables = msgspec.convert(document, recipe_type())
    except msgspec.ValidationError as error:
        raise _misfit(path, text, document, error) from error
    return Recipe(path, text, hashlib.sha256(data).hexdigest(), tables)


def _no_toml(path: Path, text: str, error: tomllib.TOMLDecodeError) -> BadRecipe:
    match, lines = re.search(r"line (\d+)", str(error)), text.splitlines()
    number = int(match[1]) if match else len(lines)
    return BadRecipe(
        f"{path}, line {number}: this is no TOML",
        expected="a key, = and a value",
        got=lines[number - 1].strip() if 0 < number <= len(lines) else "the end of the file",
        next_step=f"tomllib says: {str(error).partition(' (at')[0]}",
    )


def _misfit(path: Path, text: str, document: Mapping[str, Any], error: msgspec.ValidationError) -> BadRecipe:
    """What msgspec found wrong, at its line. An unknown key may be a known one that is misspelled, or misplaced."""
    said = str(error)
    spot = said.rpartition(" - at ")[2] if " - at " in said else ""
    place: Place = tuple(name or int(index) for name, index in _PLACE.findall(spot.strip("`")))
    if unknown := re.match(r"Object contains unknown field `(.+?)`", said):
        name = unknown[1]
        place, table = (*place, name), _table(place)
        known = sorted(field.encode_name for field in msgspec.structs.fields(table))
        close = difflib.get_close_matches(name.replace("_", "-"), known, 1, 0.7)
        if close:
            help_ = f"write {close[0]}"
        elif isinstance(document.get(name), dict) or name in _option_keys():
            help_ = f"{name} belongs into [options], [matrix], [[override]] or [[artifact]]"
        else:
            help_ = f"one of: {', '.join(known)}" if len(known) < 12 else "vit-export export --help lists the options"
        return refused(path, text, place, f"unknown key '{name}'", "a key that a recipe has", None, help_)
    _, expected, got = field_of(error)
    what, help_ = "a value that cannot be used", "vit-export schema recipe has the form of every key"
    if _is_list_for_one(expected, got, place):
        what, help_ = "one artifact has one value here", "put the list into [matrix]"
    return refused(path, text, place, what, expected, got, help_)


def _is_list_for_one(expected: str, got: str, place: Place) -> bool:
    return got == "`array`" and "array" not in expected and place[:1] in (("options",), ("artifact",), ("override",))


def _table(place: Place) -> Any:
    """The type of the table at a place."""
    types = structs()
    match place:
        case ():
            return recipe_type()
        case ("models", _, *_):
            return types["options"]
        case ("exclude", *_) | (_, _, "match", *_):
            return types["match"]
        case (str(name), *_):
            return types[name]
    raise AssertionError(place)


def _option_keys() -> frozenset[str]:
    return frozenset(field.encode_name for field in msgspec.structs.fields(structs()["options"]))
