"""The targets' own options as click options, made from the data in `TargetOptions`."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from export.targets.options import Flag, TargetOptions
    from export.targets.target import Target

_APART = "__"


def options_of(target: "Target") -> Iterator[click.Option]:
    """One for each flag; its parameter is called `TARGET__FIELD`."""
    for name, flag in target.options.flags().items():
        yield click.Option(
            [flag.name, f"{target.name}{_APART}{name}"],
            type=click.Choice(flag.choices) if flag.choices else flag.type,
            is_flag=flag.type is bool,
            default=None,
            nargs=flag.nargs,
            multiple=flag.repeatable,
            metavar=flag.metavar,
            help=flag.help,
            callback=partial(_parsed, flag),
        )


def _parsed(flag: "Flag", _: click.Context, param: click.Parameter, value: Any) -> Any:
    if value is None or value == ():
        return None
    try:
        return value if flag.parse is None else flag.parse(value)
    except ValueError as error:
        raise click.BadParameter(str(error), param=param) from error


def taken(options: dict[str, Any]) -> Mapping[str, "TargetOptions"]:
    """Each target's options, of those of which some were given; their parameters are removed from `options`.

    Raises:
        BadOption: a value out of range, or two that exclude each other.
    """
    from export.targets.registry import TARGETS

    given: dict[str, dict[str, Any]] = {}
    for parameter in [name for name in options if _APART in name]:
        target, _, field = parameter.partition(_APART)
        if (value := options.pop(parameter)) is not None:
            given.setdefault(target, {})[field] = value
    return {target: TARGETS[target].options(**values) for target, values in given.items()}
