"""`vit-export predict`: photos through an exported artifact."""

from pathlib import Path

import click

from export.cli.options import EXIT_CODES, JSON, PATH, Command


@click.command(cls=Command, epilog=EXIT_CODES)
@click.argument("artifact", metavar="ARTIFACT", type=PATH)
@click.argument("photos", metavar="PHOTO...", nargs=-1, required=True, type=PATH)
@JSON
def predict(artifact: Path, photos: tuple[Path, ...], as_json: bool) -> None:
    """The five most probable classes of PHOTO, as ARTIFACT (an exported folder, or the file in it) sees them."""
    from export import api
    from export.cli import console, tables

    found = api.predict(artifact, photos)
    with console.console() as screen:
        tables.show_runtime(screen, found)
    if as_json:
        console.print_json(found.to_json())
        return
    for prediction in found.photos:
        click.echo(prediction.photo)
        for label, share in prediction.top:
            click.echo(f"  {share:6.1%}  {label}")
