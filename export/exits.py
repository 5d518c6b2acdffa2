"""The exit codes: 0 only where everything asked for has the evidence that is required."""

from collections.abc import Iterable
from enum import IntEnum

from efficientvit.errors import BadInput, Refused, Unavailable, VitExportError


class Exit(IntEnum):
    """The process's exit codes."""

    OK = 0
    REJECTED = 1
    BAD_INPUT = 2
    NOT_VERIFIED = 3
    FAILED = 4
    INTERRUPTED = 130


_SEVEREST_FIRST = (Exit.INTERRUPTED, Exit.FAILED, Exit.REJECTED, Exit.BAD_INPUT, Exit.NOT_VERIFIED, Exit.OK)


def worst(codes: Iterable[Exit]) -> Exit:
    """The one code for several outcomes."""
    return min(codes, key=_SEVEREST_FIRST.index, default=Exit.OK)


def exit_code(error: VitExportError) -> Exit:
    """The code for an error that stopped everything."""
    if isinstance(error, BadInput):
        return Exit.BAD_INPUT
    if isinstance(error, Unavailable):
        return Exit.NOT_VERIFIED
    return Exit.REJECTED if isinstance(error, Refused) else Exit.FAILED
