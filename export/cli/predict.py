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
    from export.cli import console, tables
    from export.commands.predict import Predictor

    predictor = Predictor.of(artifact)
    predictions = list(predictor.predict(photos))
    with console.console() as screen:
        tables.show_runtime(screen, predictor)
    if as_json:
        found = [
            {
                "photo": str(prediction.photo),
                "top": [{"label": label, "probability": share} for label, share in prediction.top],
            }
            for prediction in predictions
        ]
        runtime = {
            "runtime": predictor.runtime.name,
            "evidence": predictor.runtime.evidence,
            "trained": predictor.exported.manifest.weights.trained,
        }
        console.print_json({**runtime, "predictions": found})
        return
    for prediction in predictions:
        click.echo(prediction.photo)
        for label, share in prediction.top:
            click.echo(f"  {share:6.1%}  {label}")
