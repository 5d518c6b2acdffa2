"""`vit-export recover`: weights that lose less in int8."""

import sys
from typing import Any

import click

from export.cli.options import (
    IMAGE_SIZE,
    JSON,
    MODEL,
    NORMALIZATION,
    PATH,
    READING,
    WEIGHTS,
    Command,
    option,
    out,
    skip_bad,
)


@click.command(cls=Command)
@click.argument("model", metavar="MODEL", type=MODEL)
@IMAGE_SIZE
@WEIGHTS
@READING
@NORMALIZATION
@option(
    "Recovery",
    "--calibrate",
    "Folder of photos to learn from, without labels; those of the export after it.",
    type=PATH,
    required=True,
    metavar="DIR",
)
@skip_bad("--calibrate")
@option(
    "Recovery",
    "--minutes",
    "Time to learn for.",
    type=click.FloatRange(0, min_open=True),
    default=5.0,
    show_default=True,
    metavar="MIN",
)
@option(
    "Recovery",
    "--steps",
    "Steps to learn for at most: equal steps give equal weights on one machine. [default: as many as fit]",
    type=click.IntRange(1),
    metavar="N",
)
@option("Recovery", "--seed", "Seed of the photos' order and changes.", type=int, default=0, show_default=True)
@out("The checkpoint to write.", "recovered.safetensors", "FILE")
@JSON
def recover(model: str, as_json: bool, **options: Any) -> None:
    """Fine-tune MODEL (m0 to m5) for int8, where an export in int8 loses too much.

    For some minutes the model with int8's roundings in it learns to answer as the float model does, on the photos of
    --calibrate and without labels. The best weights on photos that were held out are written as a checkpoint of their
    own, which says what it was made of: an export of it is held to those weights, and says that they are not the
    checkpoint's. Nothing is written where nothing was gained.

    \b
    vit-export recover m0 -w best.pth --calibrate photos/ -o recovered.safetensors
    vit-export m0 -w recovered.safetensors -t onnx -p int8 --calibrate photos/ --eval val/
    """  # noqa: D301 - click wants the character itself
    from export import api
    from export.cli import console

    with console.console() as screen:
        with console.Live(screen) as live:
            found = api.recover(model, **options, progress=live)
        screen.print(
            f"error of the roundings on photos held out: {found.after**0.5:.4f} after {found.best} of {found.steps} "
            f"steps, {found.before**0.5:.4f} before (estimated: judge what is made of it)"
        )
        screen.print(f"not the weights of {found.source}: an export of it says so", style="yellow", soft_wrap=True)
        screen.print(str(found.out), style="dim", soft_wrap=True)
    if as_json:
        console.print_json(found.to_json())
    sys.exit(int(found.exit_code))
