"""The options of an export as a recipe has them: of the same table as the command line's, installed targets' too.

A key is the command line's option without the dashes before it: `image-size`, `no-time`, `weights-bits`.
"""

import functools
from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import UNSET, Meta, UnsetType

from efficientvit.spec import MODELS
from export.request.options import Channels, Names, OnDisk, OwnOptions, RunOptions, SizeText
from export.request.target_options import choices, flags, keyword
from export.targets.options import Flag

_IN_TOML: Mapping[Any, Any] = {
    OnDisk: str,
    Names: str,
    SizeText: int | str,
    Channels: Annotated[list[float], Meta(min_length=3, max_length=3)],
}
"""What a recipe has in the place of Python's types. A list of targets belongs into `[matrix]`."""

_NOT_PATHS = {
    "weights": ("auto", "pretrained", "seeded"),
    "calibrate": ("golden",),
    "labels": ("imagenet", "none"),
}
"""Words that name no file."""


@functools.cache
def fields() -> Mapping[str, Any]:
    """Every option of one artifact, and the type that it has in a recipe."""
    own = {name: _own(hint) for name, hint in get_type_hints(OwnOptions, include_extras=True).items()}
    return {**own, **{keyword(flag): _of_flag(flag) for _, flag in flags()}}


@functools.cache
def paths() -> frozenset[str]:
    """The options that name a file or a folder."""
    own = {name for name, hint in get_type_hints(OwnOptions).items() if hint == OnDisk}
    return frozenset({*own, "labels", *(keyword(flag) for _, flag in flags() if flag.type.__name__ == "Path")})


def on_disk(name: str, value: str) -> bool:
    """Whether the value of one of `paths()` is a file or a folder, and no word, seed, hub or published name."""
    words = _NOT_PATHS.get(name, ())
    if value in words or any(value.startswith(f"{word}:") for word in words):
        return False
    return name != "weights" or not value.startswith(("hf-hub:", "local-dir:", "efficientvit_m"))


def _own(hint: Any) -> Any:
    base, *more = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    return Annotated[(_IN_TOML.get(base, base), *more)]


def _of_flag(flag: Flag) -> Any:
    meta = Meta(description=flag.help)
    if allowed := choices(flag):
        whole = all(each.isdigit() for each in allowed)
        return Annotated[Literal[tuple(int(each) if whole else each for each in allowed)], meta]
    kind: Any = flag.type if flag.type in (bool, int, float) else str
    if flag.nargs > 1:
        kind = Annotated[list[kind], Meta(min_length=flag.nargs, max_length=flag.nargs)]
    elif flag.repeatable:
        kind = int | str | list[int | str]
    return Annotated[kind, meta]


Model = Annotated[Literal[tuple(MODELS)], Meta(description="Member of the family.")]  # type: ignore[valid-type]


def _struct(name: str, types: Mapping[str, Any], required: Mapping[str, Any] | None = None, says: str = "") -> Any:
    made: list[Any] = [*(required or {}).items(), *((each, kind | UnsetType, UNSET) for each, kind in types.items())]
    return msgspec.defstruct(
        name, made, rename="kebab", forbid_unknown_fields=True, frozen=True, kw_only=True, namespace={"__doc__": says}
    )


@functools.cache
def structs() -> Mapping[str, Any]:
    """The types of a recipe's tables, by name."""
    artifact = fields()
    several = {name: _several(kind) for name, kind in {"model": Model, **artifact}.items()}
    one_or_several = {
        name: kind | list[kind]  # type: ignore[valid-type]
        for name, kind in {"model": Model, **artifact}.items()
        if not _is_list(kind)
    }
    match = _struct("Match", one_or_several, says="Artifacts with these options; of a list, with one of them.")
    own = _struct("ModelOptions", artifact, says="Options of every artifact of a model that they apply to.")
    entry = str | own
    return {
        "options": _struct(
            "Options",
            {**artifact, **get_type_hints(RunOptions, include_extras=True)},
            says="Options of every artifact that they apply to.",
        ),
        "models": _struct("Models", dict.fromkeys(MODELS, entry), says="A model's checkpoint, or its options."),
        "matrix": _struct("Matrix", several, says="One artifact for each combination of the values."),
        "match": match,
        "override": _struct(
            "Override", artifact, {"match": match}, says="Options of the artifacts that match, in place of others."
        ),
        "artifact": _struct("Artifact", artifact, {"model": Model}, says="One more artifact, beyond the matrix."),
    }


def _is_list(kind: Any) -> bool:
    base = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    return any(get_origin(each) is list for each in (base, *get_args(base)))


def _several(kind: Any) -> Any:
    return Annotated[list[kind], Meta(min_length=1)]


def given(struct: Any) -> dict[str, Any]:
    """The fields that were set, by their Python names."""
    return {name: value for name in struct.__struct_fields__ if (value := getattr(struct, name)) is not UNSET}


def key(name: str) -> str:
    """A field as a recipe has it."""
    return name.replace("_", "-")
