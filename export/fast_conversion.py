"""What converters do again and again, and need not do here. What they make is the same, to the byte.

Of M2's Core ML conversion the two are half the time (docs/benchmarks.md).
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collector_at_rest() -> Iterator[None]:
    """Inside the block, garbage collection does not look through all that is loaded already: PyTorch is a lot."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@contextmanager
def unvalidated_passes() -> Iterator[None]:
    """Inside the block, coremltools does not check its program anew after each of some ninety passes.

    What they break, the gates find in the file: its constants, its operators and its answers are all judged.
    """
    from coremltools.converters.mil.mil import Program

    validate = Program.validate
    Program.validate = lambda *_, **__: None
    try:
        yield
    finally:
        Program.validate = validate
