"""A section of the manifest for a target that has nothing to record but its options."""

from collections.abc import Callable
from functools import cache
from typing import Annotated, Any, get_type_hints

import msgspec

from export.records import Record, says
from export.targets.options import TargetOptions
from export.targets.target import HandedOver, Section


def _made(options: type[TargetOptions]) -> Section:
    types, flags = get_type_hints(options), options.flags()
    fields: list[tuple[str, Any]] = [
        (name, Annotated[types[name], says(f"{flag.name}: {flag.help}")]) for name, flag in flags.items()
    ]
    record = msgspec.defstruct(f"{options.__name__}Record", fields, bases=(Record,), frozen=True, kw_only=True)

    def fill(handed: HandedOver) -> Any:
        return record(**{name: getattr(handed.job.options, name) for name in flags})

    return Section(record, fill)


options_section: Callable[[Any], Section] = cache(_made)
"""Of a class of options: each that has a flag, by its field, described by the flag's help."""
