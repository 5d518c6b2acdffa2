"""Which artifacts a recipe asks for, and what it says of each: `[matrix]` and `[[artifact]]` under what they share."""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec import UNSET

from export.release.lines import Place
from export.release.options import fields, given, key
from export.release.recipe import Recipe
from export.request.options import RunOptions
from export.targets.registry import TARGETS


@dataclass(frozen=True, slots=True)
class Setting:
    """A value, and the key that says it."""

    value: Any
    place: Place

    @property
    def shared(self) -> bool:
        """It is for the artifacts that it applies to, and not for exactly those that it names."""
        return self.place[0] in ("options", "models")


Settings = Mapping[str, Setting]
"""By the option's Python name."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One artifact: its model, what is said of it, and the key that asks for it."""

    model: str
    settings: Settings
    place: Place

    @property
    def facts(self) -> dict[str, Any]:
        """What a match looks at: target and precision even where nothing says them."""
        said = {"target": "onnx", **{name: setting.value for name, setting in self.settings.items()}}
        known = said["target"] in set(TARGETS)
        usual = {"precision": TARGETS[said["target"]].default_precision} if known else {}
        return {**usual, **said, "model": self.model}


def asked(recipe: Recipe, used: set[Place]) -> Iterator[Asked]:
    """Every combination of the matrix that is not excluded, models first, then every further artifact.

    Overrides are applied. `used`: gets the places of the exclusions and overrides that match.

    Raises:
        StageFailed: an installed target that is asked for cannot be used.
    """
    for each in (*_matrix(recipe, used), *_further(recipe)):
        settings = dict(each.settings)
        for number, override in enumerate(recipe.tables.override):
            if _matches(override.match, Asked(each.model, settings, each.place).facts):
                used.add(("override", number))
                own = {name: value for name, value in given(override).items() if name != "match"}
                settings |= _settings(own, ("override", number))
        yield Asked(each.model, settings, each.place)


def folder_of(recipe: Recipe) -> Path:
    """The release's folder: as the recipe says, else `releases/NAME-VERSION`."""
    named = _table(recipe, "options").get("out")
    return Path("releases") / f"{recipe.name}-{recipe.version}" if named is None else recipe.folder / named


def run_options(recipe: Recipe) -> dict[str, Any]:
    """`jobs` and `no_cache`, where the recipe says them."""
    own = _table(recipe, "options")
    return {name: own[name] for name in RunOptions.__annotations__ if name in own}


def shared_keys(recipe: Recipe) -> Iterator[Place]:
    """Every key that has to be of use to some artifact."""
    yield from (("options", key(name)) for name in _options(recipe))
    for model, own in _table(recipe, "models").items():
        yield ("models", model)
        if not isinstance(own, str):
            yield from (("models", model, key(name)) for name in given(own))
    for name in ("exclude", "override"):
        yield from ((name, number) for number in range(len(getattr(recipe.tables, name))))


def _matrix(recipe: Recipe, used: set[Place]) -> Iterator[Asked]:
    tables, matrix = recipe.tables, _table(recipe, "matrix")
    if tables.matrix is UNSET and tables.artifact:
        return
    for model in matrix.pop("model", list(_table(recipe, "models"))):
        for values in itertools.product(*(tuple(enumerate(each)) for each in matrix.values())):
            cell = {
                name: Setting(value, ("matrix", key(name), index))
                for name, (index, value) in zip(matrix, values, strict=True)
            }
            place: Place = ("models", model) if tables.matrix is UNSET else ("matrix",)
            found = Asked(model, {**_base(recipe, model), **cell}, place)
            excluding = [number for number, each in enumerate(tables.exclude) if _matches(each, found.facts)]
            used |= {("exclude", number) for number in excluding}
            if not excluding:
                yield found


def _further(recipe: Recipe) -> Iterator[Asked]:
    for number, each in enumerate(recipe.tables.artifact):
        own, place = given(each), ("artifact", number)
        model = own.pop("model")
        yield Asked(model, {**_base(recipe, model), **_settings(own, place)}, place)


def _base(recipe: Recipe, model: str) -> dict[str, Setting]:
    """What `[options]` and the model say."""
    shared = _settings(_options(recipe), ("options",))
    own = _table(recipe, "models").get(model)
    if own is None:
        return shared
    if isinstance(own, str):
        return {**shared, "weights": Setting(own, ("models", model))}
    return {**shared, **_settings(given(own), ("models", model))}


def _options(recipe: Recipe) -> dict[str, Any]:
    """Those of an artifact: the folder and the processes are the release's."""
    return {name: value for name, value in _table(recipe, "options").items() if name in fields() and name != "out"}


def _table(recipe: Recipe, name: str) -> dict[str, Any]:
    table = getattr(recipe.tables, name)
    return {} if table is UNSET else given(table)


def _settings(values: Mapping[str, Any], place: Place) -> dict[str, Setting]:
    return {name: Setting(value, (*place, key(name))) for name, value in values.items()}


def _matches(match: Any, facts: Mapping[str, Any]) -> bool:
    return all(
        facts.get(name) in (value if isinstance(value, list) else [value]) for name, value in given(match).items()
    )
