"""`vit-export cache`: what is kept of earlier exports, and room made."""

import json

import click

from export.cache.store import LARGEST_GB, OLDEST_DAYS


@click.group(invoke_without_command=True, short_help="What is kept of earlier exports; make room.")
@click.option("--json", "as_json", is_flag=True, help="As JSON on standard output.")
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


@cache.command()
@click.option(
    "--older-than",
    type=click.FloatRange(0),
    default=OLDEST_DAYS,
    show_default=True,
    metavar="DAYS",
    help="Remove what was not used for so long.",
)
@click.option(
    "--max-size",
    type=click.FloatRange(0),
    default=LARGEST_GB,
    show_default=True,
    metavar="GB",
    help="Keep no more than that, the most recently used.",
)
@click.option("--all", "everything", is_flag=True, help="Remove all.")
def prune(older_than: float, max_size: float, everything: bool) -> None:
    """Remove what was not used for so long, and beyond the size what was not used for the longest time."""
    from export.cache.store import default_cache

    store = default_cache()
    gone, freed = store.clear() if everything else store.prune(oldest_days=older_than, largest_gb=max_size)
    click.echo(f"{gone} entries removed, {freed / 1e6:.1f} MB")
