"""`vit-export selftest`: the gates, tried on planted faults."""

import sys
from typing import Any

import click

from export.cli.host import CLUSTER
from export.cli.options import IMAGE_SIZE, JSON, READING, WEIGHTS, Command, option


@click.command(cls=Command)
@click.argument("model", metavar="[MODEL]", default="m0")
@IMAGE_SIZE
@WEIGHTS
@READING
@option("Faults", "--seed", "Seed of their places and sizes.", type=int, default=0, show_default=True)
@option("Faults", "--full", "Plant them in Core ML packages with compressed weights too.", is_flag=True)
@JSON
@CLUSTER
def selftest(model: str, as_json: bool, **options: Any) -> None:
    """Plant faults in artifacts of MODEL (m0 to m5; default m0), and see which gate catches them.

    More than a hundred, of the kinds that exports really have: a stale attention bias, a flipped kernel, a softmax over
    the wrong axis, a bit of a weight, labels that changed places, a photo that was resized bilinearly. Each is planted
    alone, in an artifact that was made from your weights and passed before. What is printed is what a pass of those
    gates is worth on these weights.

    \b
    vit-export selftest m2 -w best.pth
    vit-export selftest m0 -w seeded --image-size 128     the quickest look
    vit-export selftest m2 -w best.pth --seed 1           other places, other sizes

    \b
    Exit codes
      0    every fault was caught, and nothing healthy was rejected
      1    a fault that shows in the logits was missed, or the proof took a spoiled program for the model, or a healthy
           artifact was rejected
      2    weights that cannot be used
      3    these weights show too little: parity on them would be vacuous
    """  # noqa: D301 - click wants the character itself
    from export import api
    from export.cli import console, tables

    with console.console() as screen:
        with console.Live(screen) as live:
            found = api.selftest(model, **options, progress=live)
        tables.show_selftest(screen, found)
    if as_json:
        console.print_json(found.to_json())
    sys.exit(int(found.exit_code))
