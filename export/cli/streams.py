"""What is printed never fails: a stream shows a character that its encoding lacks by its number."""

import codecs
import sys

_AS_NUMBERS = "vit-export-printable"


def _printable(error: UnicodeError) -> tuple[str | bytes, int]:
    """Bytes of a file name that are not text in the system's encoding go out as they came in."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    part = error.object[error.start : error.end]
    raw = all("\udc80" <= each <= "\udcff" for each in part)
    return part.encode("ascii", "surrogateescape" if raw else "backslashreplace"), error.end


def never_failing() -> str:
    """The name of the error handler, for streams that are opened by name."""
    codecs.register_error(_AS_NUMBERS, _printable)
    return _AS_NUMBERS


def set_up() -> None:
    """Standard output and error of this process."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=never_failing())
