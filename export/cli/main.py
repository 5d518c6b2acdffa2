"""The command line. Heavy modules are imported inside the commands, so that `--help` and completion are instant."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from efficientvit.spec import MODELS
from export import __version__
from export.cli.bench import bench
from export.cli.cache import cache
from export.cli.gate import diff, explain, judge, selftest
from export.cli.kit import attach, kit
from export.cli.options import for_export, for_verify
from export.cli.target_options import options_of, taken

if TYPE_CHECKING:
    from collections.abc import Sequence

    from export.pipeline.finished import Finished
    from export.request.request import Request

_DEFAULT = "export"
_EVIDENCE = ("native", "reference", "built")
_EPILOG = """\b
Exit codes
  0    everything asked for has the evidence that is required
  1    an artifact was rejected: it must not ship
  2    usage, or input that cannot be used
  3    something could not be verified on this host, or the weights are an untrained fallback
  4    a stage or a tool failed
  130  interrupted"""


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


class _Name(click.ParamType[str]):
    """One of a list, with tab completion; what is not in it is refused later, with the rest of the request."""

    def __init__(self, name: str, choices: "Sequence[str]") -> None:
        self.name = name
        self._choices = choices

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
        return [click.shell_completion.CompletionItem(c) for c in self._choices if c.startswith(incomplete)]


class _ExportCommand(click.Command):
    """Its own options, and those of every target, which are looked up when they are needed."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        from export.targets.registry import TARGETS

        own = super().get_params(ctx)
        return [*own[:-1], *(option for target in TARGETS.values() for option in options_of(target)), own[-1]]


_MODEL = _Name("model", (*MODELS, "all"))
_TARGET = _Name("target", ("onnx", "openvino", "coreml", "tensorrt", "all"))


@click.group(cls=_DefaultCommand, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
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

    A word that is no command below is a model: `vit-export m2` is `vit-export export m2`.
    """  # noqa: D301 - click wants the character itself


@cli.command(
    name=_DEFAULT, cls=_ExportCommand, epilog=_EPILOG, short_help="Export models, check every stage, time what passed."
)
@click.argument("models", nargs=-1, required=True, metavar="MODEL...", type=_MODEL)
@click.option(
    "-t",
    "--target",
    "targets",
    multiple=True,
    type=_TARGET,
    metavar="NAME",
    help="onnx, openvino, coreml, tensorrt or all; repeatable. [default: onnx]",
)
@click.option(
    "-p", "--precision", type=click.Choice(["fp32", "fp16", "bf16", "int8"]), help="[default: each target's own]"
)
@click.option(
    "-w",
    "--weights",
    default="auto",
    show_default=True,
    metavar="SOURCE",
    help="auto, pretrained, seeded (untrained, no network; seeded:N for another draw), or a .pth or .safetensors file.",
)
@click.option(
    "--image-size", type=int, metavar="N", help="Side in pixels, a multiple of 16. [default: the weights' own]"
)
@click.option("--batch", default="1", show_default=True, metavar="N|dynamic", help="Batch size of the artifact.")
@click.option("--opset", type=int, metavar="N", help="ONNX opset. [default: 18, which most runtimes read]")
@click.option(
    "--golden", type=click.Path(path_type=Path), metavar="DIR", help="Photos to check on, beside the synthetic images."
)
@click.option("--skip-bad-photos", is_flag=True, help="Use the rest of --golden and --eval where a file is no image.")
@click.option("--resize", type=int, metavar="N", help="Short side before the crop. [default: 256/224 of the size]")
@click.option(
    "--interpolation",
    type=click.Choice(["bicubic", "bilinear", "nearest", "lanczos", "box", "hamming"]),
    help="Of the resize. [default: bicubic]",
)
@click.option("--mean", type=float, nargs=3, metavar="R G B", help="Of the normalization. [default: ImageNet's]")
@click.option("--std", type=float, nargs=3, metavar="R G B", help="Of the normalization. [default: ImageNet's]")
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    default=Path("exports"),
    show_default=True,
    metavar="DIR",
    help="One folder per artifact is made in it.",
)
@click.option(
    "--require",
    type=click.Choice(_EVIDENCE),
    default="reference",
    show_default=True,
    help="The evidence that exit 0 needs: the real runtime ran the file, an evaluator did, or none.",
)
@click.option(
    "--quality-budget",
    type=float,
    metavar="X",
    help="Error that compressed weights may cost, RMS. [default: a third of an answer's that ignores the image]",
)
@for_export
@click.option("--calibrate", metavar="DIR", help="-p int8: photos to calibrate on; `golden` for a trial.")
@click.option("--no-kit", is_flag=True, help="Core ML, TensorRT: leave out the kit that checks it on the device.")
@click.option("--no-time", is_flag=True, help="Check, but don't time.")
@click.option(
    "-j",
    "--jobs",
    "at_once",
    type=click.IntRange(1),
    metavar="N",
    help="Processes at a time. [default: as there are CPUs and memory for]",
)
@click.option("--no-cache", is_flag=True, help="Make and check all anew, and keep nothing: see `vit-export cache`.")
@click.option("--json", "as_json", is_flag=True, help="Print the manifests as JSON on standard output.")
@click.option("--release", is_flag=True, help="Insist on trained weights, photos and native evidence.")
def export_command(models: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Export MODEL... (m0 to m5, or all), check every stage, time what passed."""
    cached, at_once = not options.pop("no_cache"), options.pop("at_once")
    sys.exit(_export(_request(models, options), as_json=as_json, cached=cached, at_once=at_once))


def _request(models: tuple[str, ...], options: dict[str, Any]) -> "Request":
    from export.request.evaluation import evaluation
    from export.request.request import Request, parse_batch
    from export.targets.int8_options import Int8Options
    from export.targets.onnx.opsets import DEFAULT_OPSET
    from runtimes.runtime import Evidence
    from validation.budgets import Budgets

    fields = ("resize", "interpolation", "mean", "std")
    budgets = Budgets(options["quality_budget"], options["accuracy_budget"])
    return Request(
        models=models,
        targets=options["targets"] or ("onnx",),
        precision=options["precision"],
        weights=options["weights"],
        image_size=options["image_size"],
        batch=parse_batch(options["batch"]),
        opset=DEFAULT_OPSET if options["opset"] is None else options["opset"],
        golden=options["golden"],
        skip_bad_photos=options["skip_bad_photos"],
        preprocessing={name: options[name] for name in fields if options[name] is not None},
        out=options["out"],
        require=Evidence(options["require"]),
        time=not options["no_time"],
        release=options["release"],
        options=taken(options),
        calibrate=options["calibrate"],
        budgets=budgets,
        kit=not options["no_kit"],
        evaluation=evaluation(options["eval_folder"], budgets),
        int8=Int8Options(reduce_range=options["reduce_range"], all_int8=options["all_int8"]),
    )


def _export(request: "Request", *, as_json: bool, cached: bool, at_once: int | None) -> int:
    from efficientvit.errors import StageFailed
    from export.cache.store import default_cache
    from export.cli import console, summary
    from export.exits import Exit, worst
    from export.pipeline import schedule

    jobs = request.jobs()  # refuse what cannot be done before anything heavy is imported
    done: list[Finished] = []
    with console.console() as screen:
        live = console.Live(screen)
        cache = default_cache() if cached else None
        try:
            done.extend(schedule.export(request, live, tuple(sys.argv[1:]), cache=cache, at_once=at_once))
        finally:  # also after an error: what was finished before it is there, and is shown
            live.stop()
            done.sort(key=lambda each: jobs.index(each.job))
            summary.show_finished(screen, done)
    if len(done) != len(jobs):
        raise StageFailed("not every artifact was accounted for", expected=f"{len(jobs)}", got=f"{len(done)}")
    code = worst(Exit(each.code) for each in done)
    if as_json:
        _print_manifests(done, int(code))
    return int(code)


def _print_manifests(done: "Sequence[Finished]", code: int) -> None:
    import json

    manifests = [{"folder": str(each.folder), "checked_before": each.before, **each.manifest} for each in done]
    click.echo(json.dumps({"exit_code": code, "artifacts": manifests}, indent=2))


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON on standard output.")
def models(as_json: bool) -> None:
    """The family: parameters, FLOPs and the paper's figures."""
    import dataclasses
    import json

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


@cli.command(epilog=_EPILOG)
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--require",
    type=click.Choice(_EVIDENCE),
    default="reference",
    show_default=True,
    help="The evidence that exit 0 needs.",
)
@click.option(
    "-w",
    "--weights",
    metavar="SOURCE",
    help="What DIR was exported from: compute the reference again, and trust nothing that DIR says of it.",
)
@click.option(
    "--quality-budget",
    type=float,
    metavar="X",
    help="With -w: what compressed weights may cost. [default: as for an export]",
)
@for_verify
@click.option("--junit", type=click.Path(path_type=Path), metavar="FILE", help="The verdict as JUnit XML, for CI.")
@click.option("--json", "as_json", is_flag=True, help="The verdict as JSON on standard output.")
def verify(
    folder: Path,
    require: str,
    weights: str | None,
    quality_budget: float | None,
    junit: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Check an exported folder again, on this host, against the reference that lies in it.

    With -w against one that is computed from the weights here and now: then a manifest that was forged to agree with
    the artifact does not help either.
    """
    import json

    from efficientvit.errors import VitExportError
    from export.cli import console, tables
    from export.commands import junit as xml
    from export.commands.verify import verify as judge_again
    from export.folder.records import gates_record
    from export.request.evaluation import accuracy_record, evaluation
    from runtimes.runtime import Evidence
    from validation.budgets import Budgets

    budgets = Budgets(quality_budget, options["accuracy_budget"])
    asked = evaluation(
        options["eval_folder"],
        budgets,
        labels=options["labels"],
        skip_bad_photos=options["skip_bad_photos"],
    )
    if junit is not None:
        xml.prepare(junit)
    try:
        with console.console() as screen, console.Live(screen) as live:
            verification = judge_again(
                folder,
                weights,
                budgets,
                live.step,
                asked=asked,
                labels=options["labels"],
                skip_bad=options["skip_bad_photos"],
            )
    except VitExportError as error:
        if junit is not None:
            xml.write(junit, xml.of_error(folder, error))
        raise
    code = verification.code(Evidence(require))
    if junit is not None:
        xml.write(junit, xml.of_verification(verification, code))
    with console.console() as screen:
        tables.show_verification(screen, verification, code)
    if as_json:
        report = verification.verdict.report
        found = {
            "folder": str(folder),
            "status": verification.status,
            "recorded": verification.recorded,
            "reason": getattr(verification.verdict, "reason", None),
            "evidence": report.evidence if report else None,
            "trained": verification.trained,
            "exit_code": int(code),
            "gates": gates_record(report.gates) if report else None,
            "accuracy": accuracy_record(report.accuracy) if report else None,
            "not_repeated": list(verification.not_repeated),
        }
        click.echo(json.dumps(found, indent=2, allow_nan=False))
    sys.exit(int(code))


@cli.command(epilog=_EPILOG)
@click.argument("artifact", metavar="ARTIFACT", type=click.Path(path_type=Path))
@click.argument("photos", metavar="PHOTO...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="As JSON on standard output.")
def predict(artifact: Path, photos: tuple[Path, ...], as_json: bool) -> None:
    """The five most probable classes of PHOTO, as ARTIFACT (an exported folder, or the file in it) sees them."""
    import json

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
            "trained": predictor.exported.manifest["weights"]["trained"],
        }
        click.echo(json.dumps({**runtime, "predictions": found}, indent=2))
        return
    for prediction in predictions:
        click.echo(prediction.photo)
        for label, share in prediction.top:
            click.echo(f"  {share:6.1%}  {label}")


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON on standard output.")
def doctor(as_json: bool) -> None:
    """What can be made, judged and timed on this host, and how to get the rest."""
    import dataclasses
    import json

    from export.cli import console, tables
    from export.commands.doctor import examine
    from export.targets.int8_options import saturation

    host, abilities = examine()
    if as_json:
        found = {
            "host": dataclasses.asdict(host),
            "int8": saturation(host),
            "targets": [dataclasses.asdict(ability) for ability in abilities],
        }
        click.echo(json.dumps(found, indent=2))
        return
    with console.console() as screen:
        tables.show_host(screen, host, abilities)


@cli.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script that makes SHELL complete vit-export: eval "$(vit-export completion bash)"."""
    from click.shell_completion import get_completion_class

    script = get_completion_class(shell)
    assert script is not None
    click.echo(script(cli, {}, "vit-export", "_VIT_EXPORT_COMPLETE").source())


cli.add_command(kit)
cli.add_command(attach)
cli.add_command(explain)
cli.add_command(judge)
cli.add_command(diff)
cli.add_command(selftest)
cli.add_command(bench)
cli.add_command(cache)


def main() -> None:
    """Run the command line; every error of ours becomes its text and its exit code."""
    from efficientvit.errors import VitExportError
    from export.workers import interrupt

    interrupt.install()
    try:
        cli.main(prog_name="vit-export", standalone_mode=False)
    except VitExportError as error:
        from export.exits import exit_code

        click.echo(f"error: {error}", err=True)
        sys.exit(int(exit_code(error)))
    except click.exceptions.Abort:
        click.echo("interrupted: nothing half-made was left behind", err=True)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except Exception:  # noqa: BLE001 - Python's own exit code for a defect is 1, which here means "rejected"
        import traceback

        traceback.print_exc()
        click.echo("error: this is a defect of vit-export; please report it with the lines above", err=True)
        sys.exit(4)


if __name__ == "__main__":
    main()
