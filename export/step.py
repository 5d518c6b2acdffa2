"""Who is told what a long command does now: `progress.Live.step`, or nobody."""

from collections.abc import Callable

Step = Callable[[str], None]
