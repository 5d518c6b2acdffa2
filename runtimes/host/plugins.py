"""What installed packages add through entry points: the groups, and how one is loaded or refused by name."""

from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from efficientvit.errors import StageFailed

FORMATS = "vit_export.formats"
TARGETS = "vit_export.targets"


def installed(group: str) -> list[EntryPoint]:
    """Every entry point of the group, by name and distribution. Nothing is imported."""
    return sorted(entry_points(group=group), key=lambda point: (point.name, distribution_of(point)))


def distribution_of(point: EntryPoint) -> str:
    """The name of the installed distribution that brought it."""
    return "unknown" if point.dist is None else point.dist.name


def load(point: EntryPoint, what: str, expected: str, wrong_with: Callable[[Any], str | None]) -> Any:
    """Import the entry point's object. `wrong_with`: what it is instead of `expected`; None where it can be used.

    Raises:
        StageFailed: `what`, because the object cannot be imported or something is wrong with it.
    """
    try:
        found = point.load()
    except Exception as error:
        raise _unusable(point, what, expected, f"{type(error).__name__}: {error}") from error
    if (got := wrong_with(found)) is not None:
        raise _unusable(point, what, expected, got)
    return found


def _unusable(point: EntryPoint, what: str, expected: str, got: str) -> StageFailed:
    return StageFailed(
        what,
        expected=f"{expected} at '{point.value}'",
        got=got,
        next_step=f"pip install --upgrade {distribution_of(point)}, or uninstall it",
    )
