"""The targets' own options as click options, made from the data in `TargetOptions`; and the precisions they have."""

from collections.abc import Iterator
from typing import Any

import click

from export.cli.options import Option


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


def options_of_targets() -> Iterator[click.Option]:
    """One option for each flag; an installed target with a flag that is taken already gets none."""
    from export.request.target_options import choices, flags, sharing

    for target, flag in flags():
        owners = sharing(flag) or [target]
        titles, chosen = " and ".join(each.title for each in owners), choices(flag)
        yield Option(
            [flag.name],
            group=f"{titles} (-t {', -t '.join(each.name for each in owners)})",
            type=click.Choice(chosen) if chosen else flag.type,
            is_flag=flag.type is bool,
            default=None,
            nargs=flag.nargs,
            multiple=flag.repeatable,
            metavar=flag.metavar,
            says=flag.help,
        )
