"""`vit-export ARGUMENTS`: in this process, which has imported the heavy libraries already, or in one of its own."""

import os
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pytest

ROOT = Path(__file__).parents[1]
SEARCHED = f"{ROOT}{os.pathsep}{ROOT / 'tests' / 'small'}"
"""PYTHONPATH of processes that have M0 as the test has it."""


@dataclass(frozen=True)
class Ran:
    """One run of the command."""

    code: int
    out: str
    err: str


def in_this_process(arguments: Sequence[str], cwd: Path, **environment: str) -> Ran:
    """The same entry point and arguments as a process of its own would have, about three seconds faster."""
    from export.cli.main import main

    signals = (signal.SIGINT, signal.SIGTERM)
    handlers = [signal.getsignal(number) for number in signals]
    code: str | int | None = 0
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        with pytest.MonkeyPatch.context() as patch, _warnings_as_in_a_process(), _written_to(out, err):
            patch.chdir(cwd)
            patch.setattr(sys, "argv", ["vit-export", *arguments])
            for name, value in environment.items():
                patch.setenv(name, value)
            try:
                main()
            except SystemExit as stop:
                code = stop.code or 0
            finally:
                for number, handler in zip(signals, handlers, strict=True):
                    signal.signal(number, handler)
        assert isinstance(code, int), code
        return Ran(code, _text(out), _text(err))


def in_a_process(arguments: Sequence[str], cwd: Path, **environment: str) -> Ran:
    """`python -m export ARGUMENTS`."""
    command = [sys.executable, "-m", "export", *arguments]
    variables = {**os.environ, "PYTHONPATH": SEARCHED, **environment}
    done = subprocess.run(command, cwd=cwd, env=variables, capture_output=True, text=True, check=False)
    return Ran(done.returncode, done.stdout, done.stderr)


@contextmanager
def _warnings_as_in_a_process() -> Iterator[None]:
    """Not errors, as they are for a test: what other people's tools say of each other is none of a user's business."""
    with warnings.catch_warnings():
        warnings.resetwarnings()
        for category in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
            warnings.simplefilter("ignore", category)
        yield


@contextmanager
def _written_to(out: IO[bytes], err: IO[bytes]) -> Iterator[None]:
    """Standard output and error go to files: by their descriptors, which C++ and child processes write to as well."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    try:
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        with (
            open(1, "w", encoding="utf-8", closefd=False) as stdout,
            open(2, "w", encoding="utf-8", closefd=False, buffering=1) as stderr,
            redirect_stdout(stdout),
            redirect_stderr(stderr),
        ):
            yield
    finally:
        for number, original in zip((1, 2), kept, strict=True):
            os.dup2(original, number)
            os.close(original)


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode()
