"""`vit-export models`, `doctor` and `worker`: the family, this host, and this host's work for a cluster."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import click

from efficientvit.spec import MODELS
from export.cli.options import JSON, PATH, Command, Decorator, file, option, options

_WAIT_S = 60.0

TLS = options(
    *(
        file("Cluster", f"--tls-{name}", f"With tls://: {text}, PEM.")
        for name, text in (
            ("ca", "certificate of the authority that signed those of scheduler, workers and clients"),
            ("cert", "this host's certificate"),
            ("key", "its private key"),
        )
    )
)


def _wait(says: str) -> Decorator:
    return option(
        "Cluster",
        "--cluster-wait",
        f"{says}, in seconds.",
        type=click.FloatRange(0, min_open=True),
        default=_WAIT_S,
        show_default=True,
        metavar="S",
    )


CLUSTER = options(
    option(
        "Cluster",
        "--cluster",
        "Scheduler whose workers do it: tls://HOST:8786 with the options below, tcp://HOST:8786 "
        "in a network that you trust, or local:N for N workers on this host (docs/cluster.md). "
        "[default: processes of this host]",
        metavar="ADDRESS",
    ),
    TLS,
    _wait("How long to wait for the scheduler, and for a worker that can do a job"),
)


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


@click.command(cls=Command)
@click.argument("address", metavar="tcp://HOST:PORT")
@TLS
@option("Cluster", "--name", "What messages call this worker. [default: its address]", metavar="NAME")
@option("Cluster", "--no-timing", "Take no job that is to be timed: latencies of this host mean nothing.", is_flag=True)
@option("Cluster", "--scratch", "Folder for files of jobs and of clients. [default: Dask's]", type=PATH, metavar="DIR")
@_wait("How long to wait for the scheduler")
def worker(address: str, name: str | None, scratch: Path | None, **given: Any) -> None:
    """Work for the scheduler at ADDRESS: make, judge, time and check what this host can.

    What it can is what `vit-export doctor` says: the targets whose converters are installed, and the formats whose own
    runtime runs here (Core ML on a Mac, TensorRT on a GPU). A job that the host cannot do never comes here. It does one
    thing at a time, and waits with others of this host while one of them measures.

    \b
    dask scheduler                                            on one host, prints its address
    vit-export worker tcp://scheduler:8786                    on each host
    vit-export m2 -t onnx,coreml --cluster tcp://scheduler:8786

    Everybody who reaches a scheduler can run programs on its workers: outside of a network of your own use tls:// with
    --tls-ca, --tls-cert and --tls-key (docs/cluster.md).
    """  # noqa: D301 - click wants the character itself
    from efficientvit.errors import BadOption
    from export.cluster.address import parse_cluster
    from export.cluster.host import join

    files = {each: given[f"tls_{each}"] for each in ("ca", "cert", "key")}
    cluster = parse_cluster(address, **files)
    if cluster.address is None:
        raise BadOption(
            "a worker joins a scheduler",
            expected="tcp://HOST:PORT or tls://HOST:PORT",
            got=address,
            next_step="`--cluster local:N` of the other commands starts its own workers",
        )
    join(cluster, name=name, timing=not given["no_timing"], scratch=scratch, wait_s=given["cluster_wait"])
