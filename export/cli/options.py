"""What several commands have in common: grouped options, exit codes in the help, names with tab completion."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from efficientvit.errors import BadOption
from efficientvit.size import ImageSize
from efficientvit.spec import MODELS
from export.request.options import about

if TYPE_CHECKING:
    from export.commands.step_summary import Summary

EXIT_CODES = """\b
Exit codes
  0    everything asked for has the evidence that is required
  1    an artifact was rejected: it must not ship
  2    usage, or input that cannot be used
  3    something could not be verified on this host, or the weights are an untrained fallback
  4    a stage or a tool failed
  130  interrupted"""


class _Path(click.Path):
    """`click.Path` takes an empty text, which a variable that is not set leaves, for the current folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path; an empty one is a usage error."""
        if value == "":
            self.fail("an empty path: is a variable not set? The current folder is '.'", param, ctx)
        return super().convert(value, param, ctx)


PATH = _Path(path_type=Path)
OTHER = "Other"

Decorator = Callable[[Any], Any]


class Option(click.Option):
    """An option of a group. `says`: its help, or what makes the help when it is shown; by default the table's."""

    def __init__(
        self, names: Sequence[str], *, group: str, says: str | Callable[[], str] | None = None, **more: Any
    ) -> None:
        super().__init__(names, help=says if isinstance(says, str) else "", **more)
        self.group = group
        self._says = says or (lambda: about(str(self.name)))

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Flags and text."""
        if not isinstance(self._says, str):
            self.help = self._says()
        return super().get_help_record(ctx)

    def type_cast_value(self, ctx: click.Context, value: Any) -> Any:
        """Of a repeatable one also several values with commas between them; a text that is empty is a usage error."""
        if self.multiple and value:
            value = tuple(part for each in value for part in (each.split(",") if isinstance(each, str) else [each]))
        found = super().type_cast_value(ctx, value)
        if found == "":  # of any other type it has failed already
            raise click.BadParameter("an empty value: is a variable not set?", ctx=ctx, param=self)
        return found


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


def option(group: str, names: str, says: str | Callable[[], str] | None = None, **more: Any) -> Decorator:
    """`click.option` in a group. `names`: flags, and the parameter's name if it is another, with spaces between.

    `says`: the help; by default that of the option in `export/request/options.py`.
    """
    return click.option(*names.split(), cls=Option, group=group, says=says, **more)


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


class Size(click.ParamType[ImageSize]):
    """`N` for a square, or `HxW`."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> ImageSize:
        """The size; what is none is a usage error."""
        try:
            return value if isinstance(value, ImageSize) else ImageSize.parse(value)
        except BadOption as error:
            self.fail(f"{error.got!r} is no size: {error.expected}", param, ctx)


MODEL = Name("model", lambda: (*MODELS, "all"))

JSON = option("Output", "--json as_json", "Print the result as JSON on standard output.", is_flag=True)


def weights(says: str | None = None, **more: Any) -> Decorator:
    """`--weights`."""
    return option("Weights and reference", "-w --weights", says, metavar="SOURCE", **more)


def out(says: str, default: str, metavar: str = "DIR") -> Decorator:
    """`--out`."""
    return option("Output", "-o --out", says, type=PATH, default=Path(default), show_default=True, metavar=metavar)


def file(group: str, names: str, says: str | None = None, metavar: str = "FILE", **more: Any) -> Decorator:
    """An option that names a file."""
    return option(group, names, says, type=PATH, metavar=metavar, **more)


def labels(default: str) -> Decorator:
    """`--labels`."""
    says = f"With --eval: the classes' names, one a line. [default: {default}]"
    return option("Weights and reference", "--labels", says, metavar="FILE")


WEIGHTS = weights(default="auto")
READING = options(*(option("Weights and reference", name, is_flag=True) for name in ("--ema", "--override")))
IMAGE_SIZE = option("Target", "--image-size", type=Size(), metavar="SIZE")
GOLDEN = option("Weights and reference", "--golden", type=PATH, metavar="DIR")
NORMALIZATION = options(
    *(option("Weights and reference", name, type=float, nargs=3, metavar="R G B") for name in ("--mean", "--std"))
)
LABELED = options(
    option("Gates", "--eval", type=PATH, metavar="DIR"),
    option("Gates", "--accuracy-budget", type=float, metavar="POINTS"),
)
QUALITY_BUDGET = option("Gates", "--quality-budget", type=float, metavar="X")
SPENDING = options(
    *(
        option("Gates", f"--{name}-budget", type=float, metavar=unit)
        for name, unit in (("latency", "MS"), ("load", "MS"), ("memory", "MB"), ("size", "MB"))
    )
)
CALIBRATE = option("Precision", "--calibrate", metavar="DIR")
JOBS = option("Output", "-j --jobs", type=click.IntRange(1), metavar="N")
NO_CACHE = option("Output", "--no-cache", is_flag=True)

SUMMARY = file("Output", "--summary", "Add the result to this file as Markdown, for example $GITHUB_STEP_SUMMARY.")


def summary_to(path: Path | None, title: str) -> "Summary":
    """Where the result of this command goes, its errors too; nowhere without a path."""
    from export.commands.step_summary import reported

    return click.get_current_context().with_resource(reported(path, title))


def skip_bad(of: str | None = None) -> Decorator:
    """`--skip-bad-photos`."""
    text = None if of is None else f"Leave out files of {of} that are no images. [default: refuse them]"
    return option("Weights and reference", "--skip-bad-photos", text, is_flag=True)


def require(*evidence: str) -> Decorator:
    """`--require`."""
    says = None if "built" in evidence else lambda: about("require").replace(", or built (it was made)", "")
    return option("Gates", "--require", says, type=click.Choice(evidence), default="reference")
