"""`vit-export models` and `vit-export doctor`: the family, and this host."""

import dataclasses
import json

import click

from efficientvit.spec import MODELS
from export.cli.options import JSON, Command


@click.command(cls=Command)
@JSON
def models(as_json: bool) -> None:
    """The family: parameters, FLOPs and the paper's figures."""
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(spec) for spec in MODELS.values()], indent=2))
        return
    click.echo("model  parameters  MFLOPs  top-1 %  V100 img/s  CPU img/s  ONNX img/s")
    for spec in MODELS.values():
        paper = spec.paper
        click.echo(
            f"{spec.name:<5}  {spec.parameters:>10,}  {paper.mflops:>6}  {paper.top1:>7.1f}  "
            f"{paper.v100_images_per_s:>10,}  {paper.cpu_images_per_s:>9.1f}  {paper.onnx_images_per_s:>10.1f}"
        )
    click.echo("\nAt 224 x 224 on ImageNet-1k, as the authors published them (CVPR 2023); none of it measured here.")


@click.command(cls=Command)
@JSON
def doctor(as_json: bool) -> None:
    """What can be made, judged and timed on this host, and how to get the rest."""
    from export.cli import console, tables
    from export.commands.doctor import examine
    from export.targets.int8_options import saturation

    host, abilities = examine()
    if as_json:
        console.print_json({"host": host, "int8": saturation(host), "targets": abilities})
        return
    with console.console() as screen:
        tables.show_host(screen, host, abilities)
