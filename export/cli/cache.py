"""`vit-export cache`: what is kept of earlier exports, and room made."""

import json

import click

from export.cli.options import JSON, Command, option


@click.group(invoke_without_command=True, short_help="What is kept of earlier exports; make room.")
@JSON
@click.pass_context
def cache(ctx: click.Context, as_json: bool) -> None:
    """What is kept of earlier exports, by kind.

    \b
    export      finished folders: handed out again, verdict included, where nothing at all has changed
    stage       files that stages made; judged again each time
    evaluation  PyTorch's answers on the golden images, for the same weights on the same CPU

    Each is kept by all that it depends on: weights, options, images, the code of vit-export, the versions of the
    tools, the CPU. A file that is no longer what was kept is never used. `--no-cache` of an export does without.
    Each export makes room beyond 30 days and 4 GB.
    """  # noqa: D301 - click wants the character itself
    from export.cache.store import default_cache

    if ctx.invoked_subcommand is not None:
        return
    store = default_cache()
    found: dict[str, dict[str, int]] = {}
    for entry in store.entries():
        kind = found.setdefault(entry.kind, {"entries": 0, "bytes": 0})
        kind["entries"] += 1
        kind["bytes"] += entry.size_bytes
    if as_json:
        click.echo(json.dumps({"folder": str(store.root), "kinds": found}, indent=2))
        return
    click.echo(str(store.root))
    for name, kind in sorted(found.items()):
        click.echo(f"  {name:<10} {kind['entries']:>6}  {kind['bytes'] / 1e6:>9.1f} MB")
    if not found:
        click.echo("  nothing is kept")


@cache.command(cls=Command)
@option(
    "Other",
    "--older-than oldest_days",
    lambda: f"Remove what was not used for so many days. [default: {_limits()[0]:g}]",
    type=click.FloatRange(0),
    metavar="DAYS",
)
@option(
    "Other",
    "--max-size largest_gb",
    lambda: f"Keep so many gigabytes, the most recently used. [default: {_limits()[1]:g}]",
    type=click.FloatRange(0),
    metavar="GB",
)
@option("Other", "--all everything", "Remove everything.", is_flag=True)
def prune(everything: bool, **limits: float | None) -> None:
    """Remove what was not used for so long, and beyond the size what was not used for the longest time."""
    from export.cache.store import default_cache

    store = default_cache()
    given = {name: value for name, value in limits.items() if value is not None}
    gone, freed = store.clear() if everything else store.prune(**given)
    click.echo(f"{gone} entries removed, {freed / 1e6:.1f} MB")


def _limits() -> tuple[float, float]:
    from export.cache.store import LARGEST_GB, OLDEST_DAYS

    return OLDEST_DAYS, LARGEST_GB
