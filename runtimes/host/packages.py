"""Optional packages: whether one is installed, without importing it."""

import os
import sys
from importlib.util import find_spec

from efficientvit.errors import MissingExtra, Unavailable
from runtimes.host.wheels import without_a_wheel


def missing(package: str, extra: str | None, purpose: str) -> Unavailable | None:
    """The error to raise when `package` is not installed, else None; `extra` None: every install has it."""
    if find_spec(package) is not None:
        return None
    if (unfit := without_a_wheel(extra)) is not None:
        hosts, this = unfit
        return Unavailable(
            f"{purpose} needs the package '{package}', of which there is no wheel for this host",
            expected=hosts,
            got=this,
            next_step=f"use a host that has one: {hosts}",
        )
    if extra is not None:
        return MissingExtra(package, extra, purpose)
    return Unavailable(
        f"{purpose} needs the package '{package}', which is not installed", next_step="pip install vit-export"
    )


def in_one_sentence(error: Unavailable | None) -> str | None:
    """The reason and the remedy, as `Runtime.unavailable` gives them."""
    return None if error is None else f"{error.what}: {error.next_step}"


def same_packages() -> dict[str, str]:
    """The environment of a process of this Python that is to find what this one finds."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
