"""What converters do again and again, and need not do here. What they make is the same, to the byte."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coremltools.converters.mil.mil import Program


@contextmanager
def collector_at_rest() -> Iterator[None]:
    """Inside the block, garbage collection does not look through all that is loaded already: PyTorch is a lot."""
    if gc.get_freeze_count() > 0:  # somebody around us has seen to it, and lets go of it
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@contextmanager
def validated_once() -> Iterator[None]:
    """Inside the block, coremltools does not check its program anew after each of some ninety passes, but at the end.

    A pass that breaks it is not named then. What the check does not see either, the gates find in the file.
    """
    from coremltools.converters.mil.mil import Program

    validate = Program.validate
    seen: list[Program] = []

    def later(program: "Program", *_: Any, **__: Any) -> None:
        seen[:] = [program]

    Program.validate = later
    try:
        yield
    finally:
        Program.validate = validate
    for program in seen:
        program.validate()
