"""The targets' own options as click options, made from the data in `TargetOptions`; and the precisions they have."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from export.cli.options import Option

if TYPE_CHECKING:
    from export.targets.options import Flag, TargetOptions
    from export.targets.target import Target

_APART = "__"


class Precision(click.ParamType[str]):
    """What any target can be made in."""

    name = "precision"

    def _choice(self) -> click.Choice[str]:
        from export.targets.registry import usable

        return click.Choice(tuple(dict.fromkeys(name for target in usable() for name in target.precisions)))

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str | None:
        """All of them."""
        return self._choice().get_metavar(param, ctx)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """One of them."""
        return self._choice().convert(value, param, ctx)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
        """Those that begin so."""
        return self._choice().shell_complete(ctx, param, incomplete)


def options_of_targets(own: Sequence[click.Parameter]) -> Iterator[click.Option]:
    """One option for each flag of each target; a target with a flag that is taken already gets none."""
    from export.targets.registry import usable

    known = {name for param in own for name in param.opts}
    for target in usable():
        flags = {flag.name for flag in target.options.flags().values()}
        if not flags & known:
            known |= flags
            yield from _options_of(target)


def _options_of(target: "Target") -> Iterator[click.Option]:
    """Their parameters are called `TARGET__FIELD`."""
    for name, flag in target.options.flags().items():
        yield Option(
            [flag.name, f"{target.name}{_APART}{name}"],
            group=f"{target.title} (-t {target.name})",
            type=click.Choice(flag.choices) if flag.choices else flag.type,
            is_flag=flag.type is bool,
            default=None,
            nargs=flag.nargs,
            multiple=flag.repeatable,
            metavar=flag.metavar,
            says=flag.help,
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
        StageFailed: a target that is asked for has a flag that the command or another target has already.
    """
    from efficientvit.errors import StageFailed
    from export.targets.registry import TARGETS

    for name in set(TARGETS) & set(options["targets"]):
        flags = TARGETS[name].options.flags()
        if flags and f"{name}{_APART}{next(iter(flags))}" not in options:
            raise StageFailed(
                f"the target '{name}' cannot be used: a flag of its options is taken",
                expected="flags that neither this command nor another target has",
                got=", ".join(flag.name for flag in flags.values()),
                next_step=f"rename the flags in the package that adds '{name}', or uninstall it",
            )
    given: dict[str, dict[str, Any]] = {}
    for parameter in [name for name in options if _APART in name]:
        target, _, field = parameter.partition(_APART)
        if (value := options.pop(parameter)) is not None:
            given.setdefault(target, {})[field] = value
    return {target: TARGETS[target].options(**values) for target, values in given.items()}
