"""What the manifest records of a target that has nothing to record but its options."""

from collections.abc import Callable
from functools import cache
from typing import Annotated, Any, get_type_hints

import msgspec

from export.records import Record, says
from export.targets.options import flags_of


def _made(options: Any) -> Any:
    types = get_type_hints(options)
    fields: list[tuple[str, Any]] = [
        (name, Annotated[types[name], says(f"{flag.name}: {flag.help}")]) for name, flag in flags_of(options).items()
    ]
    return msgspec.defstruct(f"{options.__name__}Record", fields, bases=(Record,), frozen=True, kw_only=True)


record_of: Callable[[Any], Any] = cache(_made)
"""A type of record for a class of options: each that has a flag, by its field, described by the flag's help."""
