"""Ctrl-C and SIGTERM as exceptions that are not lost.

Python raises where the signal finds it. If that is in a callback or a destructor of some library, the exception
is swallowed there, and the run would continue. So the signal is remembered.
"""

import signal
import sys
from types import FrameType
from typing import NoReturn

_received: list[int] = []


class Interrupted(KeyboardInterrupt):
    """Ctrl-C.

    A class of its own because CPython takes note when a plain `KeyboardInterrupt` leaves source run by `exec` (as it
    may, wherever a dataclass or a traced graph is made) and then, under `python -m`, dies of SIGINT at exit whatever
    exit code was asked for.
    """


def install() -> None:
    """Handle both signals in this process; SIGTERM leaves no half-made folder behind either."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _handle)


def check() -> None:
    """Raise again for a signal that was swallowed."""
    if _received:
        _stop(_received[0])


def _handle(number: int, _: FrameType | None) -> NoReturn:
    _received.append(number)
    _stop(number)


def _stop(number: int) -> NoReturn:
    if number == signal.SIGINT:
        raise Interrupted
    sys.exit(128 + number)
