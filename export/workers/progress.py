"""Who is told what goes on: the command line's live lines, another process, a caller's function, or nobody.

What is told is small and can be sent to another process.
"""

from collections.abc import Callable
from typing import Protocol, TypeAlias

from efficientvit.weights.source import About

Step: TypeAlias = Callable[[str], None]
"""What tells one line of what a long command does now: `Progress.step`, or nobody's."""


class Progress(Protocol):
    """Told as it happens."""

    def step(self, text: str) -> None:
        """Something long starts."""

    def note(self, text: str) -> None:
        """Something to know that is no error: a worker that is left out."""

    def weights(self, about: About) -> None:
        """The weights are there."""

    def vacuous(self, model: str, failures: tuple[str, ...]) -> None:
        """The self-check found that parity on these weights proves too little; without failures, that it doesn't."""

    def stage(self, slug: str, name: str, seconds: float, status: str, *, cached: bool) -> None:
        """A stage was made and judged; `cached`: made before, and judged again."""

    def download(self, done: int, total: int | None) -> None:
        """Bytes of a checkpoint."""


Callback: TypeAlias = Callable[[str], None] | Progress | None
"""What a caller gives: a function that takes a line of text, all of `Progress`, or nothing."""


class Lines:
    """All of it as lines of text for one function."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self.step = tell

    def note(self, text: str) -> None:
        """As it is."""
        self.step(text)

    def weights(self, about: About) -> None:
        """Where they come from, and whether they are trained."""
        self.step(f"weights: {about.source}{'' if about.trained else ', UNTRAINED'}  sha256 {about.sha256[:12]}")

    def vacuous(self, model: str, failures: tuple[str, ...]) -> None:
        """Nothing where there are no failures."""
        if failures:
            self.step(f"{model}: parity on these weights would be vacuous: {'; '.join(failures)}")

    def stage(self, slug: str, name: str, seconds: float, status: str, *, cached: bool) -> None:
        """As in a log."""
        self.step(f"{slug}: {name}, {'cached' if cached else f'{seconds:.1f} s'}: {status.replace('_', ' ')}")

    def download(self, done: int, total: int | None) -> None:
        """In megabytes."""
        whole = f" of {total / 1e6:.1f}" if total else ""
        self.step(f"downloading weights: {done / 1e6:.1f}{whole} MB")


def as_progress(given: Callback) -> Progress:
    """A caller's, whichever form it has."""
    if given is None:
        return Lines(lambda _: None)
    return Lines(given) if callable(given) else given
