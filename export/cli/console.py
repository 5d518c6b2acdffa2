"""What the command line writes to standard error while it works: a line a stage, and on a terminal what goes on now."""

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, TextIO

import click
from rich.console import Console
from rich.text import Text

from export.cli import streams
from export.workers import interrupt

if TYPE_CHECKING:
    from efficientvit.weights.source import About

BANNER = "UNTRAINED WEIGHTS: for trying the pipeline, not for release"
_WIDTH_IN_A_LOG = 140
STYLE = {"verified": "green", "built": "cyan", "rejected": "bold white on red", "not run": "yellow"}


@contextmanager
def console() -> Iterator[Console]:
    """Standard error, through a descriptor of its own: converters' output is sent elsewhere meanwhile.

    No markup: a file's name and `vit-export[openvino]` have square brackets that are to be seen.
    """
    with ExitStack() as closing:
        stream = closing.enter_context(_own_descriptor()) if _has_descriptor() else sys.stderr
        yield Console(file=stream, highlight=False, markup=False, width=None if stream.isatty() else _WIDTH_IN_A_LOG)


def _own_descriptor() -> TextIO:
    return os.fdopen(os.dup(sys.stderr.fileno()), "w", encoding=sys.stderr.encoding, errors=streams.never_failing())


def _has_descriptor() -> bool:
    try:
        sys.stderr.fileno()
    except (OSError, ValueError):
        return False
    return True


def print_json(document: Any) -> None:
    """A document with records in it, on standard output."""
    from export.records import plain

    click.echo(json.dumps(plain(document), indent=2, allow_nan=False))


class Live:
    """Progress on a terminal (a status line that changes), in a log (a line a stage), or, if quiet, nowhere."""

    def __init__(self, screen: Console) -> None:
        self._console = screen
        self._status = screen.status("") if screen.is_terminal else None
        self._started = time.monotonic()

    def step(self, text: str) -> None:
        """Show what goes on now; stop here if somebody asked to, and a library swallowed it."""
        interrupt.check()
        if self._status is not None:
            line = Text(f"{time.monotonic() - self._started:5.1f} s  ", "dim", no_wrap=True, overflow="ellipsis")
            self._status.update(line.append(text, "not dim"))
            self._status.start()

    def note(self, text: str) -> None:
        """A line that stays."""
        self._line(text)

    def __enter__(self) -> "Live":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Take the status line away."""
        if self._status is not None:
            self._status.stop()

    def weights(self, about: "About") -> None:
        """Say where the weights come from and, where it matters, what they are no good for."""
        self._line(f"weights: {about.source}  sha256 {about.sha256[:12]}")
        for note in about.notes:
            self._line(f"         {note}")
        if about.said:
            self._line(f"         what they say of their input: {'; '.join(about.said)}")
        if not about.trained:
            self._console.print(Text(f" {BANNER} ", style="bold black on yellow"))

    def vacuous(self, model: str, failures: tuple[str, ...]) -> None:
        """Say it where a pass would prove nothing."""
        if failures:
            text = f" {model}: PARITY ON THESE WEIGHTS WOULD BE VACUOUS: {'; '.join(failures)} "
            self._console.print(Text(text, style="bold white on red"))

    def download(self, done: int, total: int | None) -> None:
        """Bytes so far."""
        whole = f" of {total / 1e6:.1f}" if total else ""
        self.step(f"downloading weights: {done / 1e6:.1f}{whole} MB")

    def stage(self, slug: str, name: str, seconds: float, status: str, *, cached: bool) -> None:
        """A stage is done."""
        word = status.replace("_", " ")
        how = "cached" if cached else f"{seconds:5.1f} s"
        self._console.print(Text(f"{slug}: {name:<9} {how:>7}  ").append(word, STYLE[word]))

    def _line(self, text: str) -> None:
        self._console.print(text)
