"""coremltools validates its program once, not after each of its passes. The package is the same, to the byte."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coremltools.converters.mil.mil import Program


@contextmanager
def validated_once() -> Iterator[None]:
    """Inside the block, coremltools validates its program at the end, and not after each of about ninety passes.

    A pass that breaks the program is not named then. What validation does not see, the gates find in the file.
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
