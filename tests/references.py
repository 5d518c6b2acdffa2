"""References with something else in them than was measured."""

from dataclasses import replace
from typing import Any

from runtimes.precision import Precision
from validation.reference.reference import Reference


def with_logits(reference: Reference, *, precision: Precision | None = None, **changes: Any) -> Reference:
    """The same but for these fields of what the logits have to be, and the precision of both."""
    own = reference.precision if precision is None else precision
    logits = replace(reference.classifier, precision=own, **changes)
    return replace(reference, precision=own, outputs={"logits": logits})
