"""Options as data: the fields of a dataclass carry their command-line flags."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

_FLAG = "flag"


@dataclass(frozen=True, slots=True)
class Flag:
    """One command-line flag. The library takes its value by the field's name.

    `type`: of each value, where it has no `choices`. `nargs`: values at a time. `parse`: the field's value from what
    was typed, of a `repeatable` flag from the tuple of all; a ValueError is a usage error. `for_labeled_images`:
    `--eval` reads it too, so it may be given without the target.
    """

    name: str
    help: str
    metavar: str | None = None
    type: type = str
    choices: tuple[str, ...] = ()
    nargs: int = 1
    repeatable: bool = False
    parse: Callable[[Any], Any] | None = None
    for_labeled_images: bool = False


def option(default: Any, name: str, help: str, **more: Any) -> Any:  # noqa: A002 - as click and argparse have it
    """A field of a `TargetOptions` with its flag; `more` as `Flag` has it."""
    return field(default=default, metadata={_FLAG: Flag(name, help, **more)})


def flags_of(options: Any) -> Mapping[str, Flag]:
    """Every flag of a dataclass, by its field."""
    return {each.name: each.metadata[_FLAG] for each in fields(options) if _FLAG in each.metadata}
