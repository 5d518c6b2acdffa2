"""Who is told what a long command does now: `terminal.Live.step`, or nobody."""

from collections.abc import Callable

Step = Callable[[str], None]
