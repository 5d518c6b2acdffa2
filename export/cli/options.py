"""What several commands have in common: grouped options, exit codes in the help, names with tab completion."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from efficientvit.spec import MODELS

EXIT_CODES = """\b
Exit codes
  0    everything asked for has the evidence that is required
  1    an artifact was rejected: it must not ship
  2    usage, or input that cannot be used
  3    something could not be verified on this host, or the weights are an untrained fallback
  4    a stage or a tool failed
  130  interrupted"""

PATH = click.Path(path_type=Path)
OTHER = "Other"

Decorator = Callable[[Any], Any]


class Option(click.Option):
    """An option of a group. `says`: its help, or what makes the help when it is shown."""

    def __init__(self, names: Sequence[str], *, group: str, says: str | Callable[[], str], **more: Any) -> None:
        super().__init__(names, help=says if isinstance(says, str) else "", **more)
        self.group = group
        self._says = says

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Flags and text."""
        if not isinstance(self._says, str):
            self.help = self._says()
        return super().get_help_record(ctx)


class Command(click.Command):
    """A command whose help lists its options by group, in the order in which they are declared."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """One section a group."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            if isinstance(param, click.Option) and (record := param.get_help_record(ctx)) is not None:
                sections.setdefault(getattr(param, "group", OTHER), []).append(record)
        for name in sorted(sections, key=lambda name: name == OTHER):
            with formatter.section(name):
                formatter.write_dl(sections[name])


def option(*names: str, help: str | Callable[[], str], group: str = OTHER, **more: Any) -> Decorator:  # noqa: A002
    """`click.option` in a group."""
    return click.option(*names, cls=Option, group=group, says=help, **more)


def options(*each: Decorator) -> Decorator:
    """Several options, in this order."""

    def add(command: Any) -> Any:
        for one in reversed(each):
            command = one(command)
        return command

    return add


class Name(click.ParamType[str]):
    """One of a list, with tab completion; what is not in it is refused later, with the rest of the request."""

    def __init__(self, name: str, choices: Callable[[], Sequence[str]]) -> None:
        self.name = name
        self._choices = choices

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
        """Those that begin so."""
        return [click.shell_completion.CompletionItem(c) for c in self._choices() if c.startswith(incomplete)]


MODEL = Name("model", lambda: (*MODELS, "all"))

JSON = option("--json", "as_json", group="Output", is_flag=True, help="Print the result as JSON on standard output.")


def weights(says: str, **more: Any) -> Decorator:
    """`--weights`."""
    return option("-w", "--weights", group="Weights and reference", metavar="SOURCE", help=says, **more)


WEIGHTS = weights(
    "Checkpoint: auto (published weights, else seeded), pretrained, seeded or seeded:N (drawn from seed N, untrained, "
    "no network), or a .pth or .safetensors file.",
    default="auto",
    show_default=True,
)
IMAGE_SIZE = option(
    "--image-size",
    group="Target",
    type=int,
    metavar="N",
    help="Side of the input in pixels, a multiple of 16. [default: the weights' own]",
)
GOLDEN = option(
    "--golden",
    group="Weights and reference",
    type=PATH,
    metavar="DIR",
    help="Folder of photos to check on, in addition to the synthetic images. [default: none]",
)
NORMALIZATION = options(
    *(
        option(
            f"--{name}",
            group="Weights and reference",
            type=float,
            nargs=3,
            metavar="R G B",
            help=f"Per-channel normalization {text}, of pixels from 0 to 1. [default: ImageNet's]",
        )
        for name, text in (("mean", "mean"), ("std", "standard deviation"))
    )
)
LABELED = options(
    option(
        "--eval",
        "eval_folder",
        group="Gates",
        type=PATH,
        metavar="DIR",
        help="Folder of labeled images, one sub-folder for each class, named by index or label. Top-1 accuracy that is "
        "lost against the reference becomes a gate. [default: none]",
    ),
    option(
        "--accuracy-budget",
        group="Gates",
        type=float,
        metavar="POINTS",
        help="With --eval: top-1 accuracy that may be lost, in percentage points. [default: 0.5]",
    ),
)
QUALITY_BUDGET = option(
    "--quality-budget",
    group="Gates",
    type=float,
    metavar="X",
    help="RMS of the relative error that compressed weights or int8 may cost, for example 0.1. "
    "[default: a third of the error of an answer that ignores the image]",
)
CALIBRATE = option(
    "--calibrate",
    group="Precision",
    metavar="DIR",
    help="Required for int8: folder of about 100 photos to calibrate on, or `golden` for a trial on the golden images.",
)
JOBS = option(
    "-j",
    "--jobs",
    "at_once",
    group="Output",
    type=click.IntRange(1),
    metavar="N",
    help="Worker processes at a time. [default: as CPUs and memory allow]",
)
NO_CACHE = option(
    "--no-cache",
    group="Output",
    is_flag=True,
    help="Make and check everything anew, and keep nothing: see `vit-export cache`.",
)


def skip_bad(of: str) -> Decorator:
    """`--skip-bad-photos`."""
    text = f"Leave out files of {of} that are no images. [default: refuse them]"
    return option("--skip-bad-photos", group="Weights and reference", is_flag=True, help=text)


def require(*evidence: str) -> Decorator:
    """`--require`."""
    return option(
        "--require",
        group="Gates",
        type=click.Choice(evidence),
        default="reference",
        show_default=True,
        help="Evidence that exit code 0 needs: native (the real runtime ran the file), reference (an evaluator ran it)"
        f"{', or built (it was made)' if 'built' in evidence else ''}.",
    )
