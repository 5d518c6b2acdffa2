"""The command line, assembled: a command a file. Heavy modules are imported inside the commands.

So `--help` and completion are instant.
"""

import sys
from typing import Any, NoReturn

import click

from efficientvit.errors import VitExportError
from efficientvit.spec import MODELS
from export import __version__
from export.cli.bundles.bundle import bundle, verify_bundle
from export.cli.bundles.diff import diff
from export.cli.bundles.history import history
from export.cli.bundles.release import release
from export.cli.cache import cache
from export.cli.explain import explain
from export.cli.export import export
from export.cli.host import doctor, models, worker
from export.cli.judge import judge
from export.cli.kit import attach, kit
from export.cli.options import EXIT_CODES
from export.cli.predict import predict
from export.cli.schema import schema
from export.cli.search.bench import bench
from export.cli.search.recover import recover
from export.cli.search.tune import tune
from export.cli.selftest import selftest
from export.cli.verify import verify

_DEFAULT = "export"


class _DefaultCommand(click.Group):
    """`vit-export m2 -t onnx` is `vit-export export m2 -t onnx`: the first word that is no command is a model."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in {"--help", "-h", "--version"}:
            args.insert(0, _DEFAULT)
        return super().parse_args(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[Any]:
        models = [
            click.shell_completion.CompletionItem(name) for name in (*MODELS, "all") if name.startswith(incomplete)
        ]
        return [*models, *super().shell_complete(ctx, incomplete)]


@click.group(cls=_DefaultCommand, epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def cli() -> None:
    """Export EfficientViT M0-M5, and check every artifact against PyTorch before it is timed or shipped.

    \b
    vit-export m2                               ONNX, checked and timed
    vit-export m2 -t coreml                     Core ML package with an image input and labels
    vit-export m2 -t coreml --weights-bits 8 --ios 16   the same with int8 weights
    vit-export m2 -t openvino -p fp16           OpenVINO IR with fp16 weights
    vit-export m2 -t tensorrt                   TensorRT engine, built ahead of time, no GPU needed
    vit-export all -t all -w seeded             everything, with untrained weights
    vit-export m2 -w best.pth --golden photos/  your weights, checked on your photos too
    vit-export verify exports/m2-onnx-fp32      check a folder again, on this host
    vit-export tune m2 --calibrate photos/ --eval val/   the fastest form within half a point of accuracy

    A word that is no command below is a model: `vit-export m2` is `vit-export export m2`.
    """  # noqa: D301 - click wants the character itself


@cli.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script that makes SHELL complete vit-export: eval "$(vit-export completion bash)"."""
    from click.shell_completion import get_completion_class

    script = get_completion_class(shell)
    assert script is not None
    click.echo(script(cli, {}, "vit-export", "_VIT_EXPORT_COMPLETE").source())


for command in (
    export, models, verify, predict, doctor, kit, attach, explain, judge, diff, selftest, bench, tune, recover, release,
    bundle, verify_bundle, history, cache, schema, worker,
):  # fmt: skip
    cli.add_command(command)


def main() -> None:
    """Run the command line; every error of ours becomes its text and its exit code."""
    from export.cli import streams
    from export.workers import interrupt

    streams.set_up()
    interrupt.install()
    try:
        cli.main(prog_name="vit-export", standalone_mode=False)
    except VitExportError as error:
        _end_with(error)
    except click.exceptions.Abort:
        click.echo("interrupted: nothing half-made was left behind", err=True)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except Exception as error:  # noqa: BLE001 - Python's own exit code for a defect is 1, which here means "rejected"
        import traceback

        from runtimes.host.shortage import shortage_of

        if (shortage := shortage_of(error)) is not None:
            _end_with(shortage)

        traceback.print_exc()
        click.echo("error: this is a defect of vit-export; please report it with the lines above", err=True)
        sys.exit(4)


def _end_with(error: VitExportError) -> NoReturn:
    from export.exits import exit_code

    click.echo(f"error: {error}", err=True)
    sys.exit(int(exit_code(error)))


if __name__ == "__main__":
    main()
