"""The targets' own options as click options, made from the data in `TargetOptions`; and the precisions they have.

Targets of one family share a flag, such as `--ios` of Core ML and Core AI: its value is for every target that is asked
for and takes it.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
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
    """One option for each flag; an installed target with a flag that is taken already gets none."""
    from export.targets.registry import BUILT_IN, usable

    known = {name for param in own for name in param.opts}
    for target in usable():
        flags = {flag.name for flag in target.options.flags().values()}
        if target.name in BUILT_IN or not flags & known:
            yield from _options_of(target, known)
            known |= flags


def _sharing(flag: str) -> "list[Target]":
    """The built-in targets with this flag."""
    from export.targets.registry import BUILT_IN

    return [each for each in BUILT_IN.values() if flag in {own.name for own in each.options.flags().values()}]


def _options_of(target: "Target", known: Collection[str]) -> Iterator[click.Option]:
    """Their parameters are called `TARGET__FIELD`, by the first target that has the flag."""
    for name, flag in target.options.flags().items():
        if flag.name in known:
            continue
        sharing = _sharing(flag.name) or [target]
        own = (each for other in sharing for each in other.options.flags().values() if each.name == flag.name)
        choices = tuple(dict.fromkeys(choice for each in own for choice in each.choices))
        titles = " and ".join(each.title for each in sharing)
        yield Option(
            [flag.name, f"{target.name}{_APART}{name}"],
            group=f"{titles} (-t {', -t '.join(each.name for each in sharing)})",
            type=click.Choice(choices) if choices else flag.type,
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
    from export.targets.registry import BUILT_IN, TARGETS

    for name in set(TARGETS) & set(options["targets"]) - set(BUILT_IN):
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
        first, _, field = parameter.partition(_APART)
        if (value := options.pop(parameter)) is not None:
            flag = TARGETS[first].options.flags()[field].name
            for target in _takers(flag, str(value), options["targets"]) or (first,):
                (own,) = (name for name, each in TARGETS[target].options.flags().items() if each.name == flag)
                given.setdefault(target, {})[own] = value
    return {target: TARGETS[target].options(**values) for target, values in given.items()}


def _takers(flag: str, value: str, asked: Sequence[str]) -> list[str]:
    """The built-in targets that share a flag, were asked for, and have the value among their choices.

    Where none of those asked for has it, all of them: each says what it takes.
    """
    sharing = [each for each in _sharing(flag) if each.name in asked or "all" in asked]
    own = {each.name: next(f for f in each.options.flags().values() if f.name == flag) for each in sharing}
    return [name for name, each in own.items() if not each.choices or value in each.choices] or list(own)
