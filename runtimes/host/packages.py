"""Optional packages: whether one is installed, without importing it."""

from importlib.util import find_spec

from efficientvit.errors import MissingExtra, Unavailable


def missing(package: str, extra: str | None, purpose: str) -> Unavailable | None:
    """The error to raise when `package` is not installed, else None; `extra` None: every install has it."""
    if find_spec(package) is not None:
        return None
    if extra is not None:
        return MissingExtra(package, extra, purpose)
    return Unavailable(
        f"{purpose} needs the package '{package}', which is not installed", next_step="pip install vit-export"
    )


def in_one_sentence(error: Unavailable | None) -> str | None:
    """The reason and the remedy, as `Runtime.unavailable` gives them."""
    return None if error is None else f"{error.what}: {error.next_step}"
