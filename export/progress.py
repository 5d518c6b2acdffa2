"""Who is told what goes on in an export: the command line's live lines, another process, or nobody.

What is told is small and can be sent to another process.
"""

from typing import Protocol

from efficientvit.weights.source import About


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
