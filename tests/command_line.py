"""`vit-export ARGUMENTS`: in this process, which has imported the heavy libraries already, or in one of its own."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


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
    with _Streams() as streams, pytest.MonkeyPatch.context() as patch:
        patch.chdir(cwd)
        patch.setattr(sys, "argv", ["vit-export", *arguments])
        for name, value in environment.items():
            patch.setenv(name, value)
        code = 0
        try:
            with streams.captured():
                main()
        except SystemExit as stop:
            assert stop.code is None or isinstance(stop.code, int), stop.code
            code = stop.code or 0
        finally:
            for number, handler in zip(signals, handlers, strict=True):
                signal.signal(number, handler)
        return Ran(code, *streams.read())


def in_a_process(arguments: Sequence[str], cwd: Path, **environment: str) -> Ran:
    """`python -m export ARGUMENTS`."""
    command = [sys.executable, "-m", "export", *arguments]
    variables = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    done = subprocess.run(command, cwd=cwd, env=variables, capture_output=True, text=True, check=False, timeout=240)
    return Ran(done.returncode, done.stdout, done.stderr)


class _Streams:
    """Standard output and error as files: their descriptors as well, which libraries in C++ and processes write to."""

    def __init__(self) -> None:
        self._files = tempfile.TemporaryFile(), tempfile.TemporaryFile()

    def __enter__(self) -> "_Streams":
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files:
            file.close()

    @contextmanager
    def captured(self) -> Iterator[None]:
        sys.stdout.flush()
        sys.stderr.flush()
        kept = os.dup(1), os.dup(2)
        try:
            for number, file in zip((1, 2), self._files, strict=True):
                os.dup2(file.fileno(), number)
            with (
                open(1, "w", encoding="utf-8", closefd=False) as out,
                open(2, "w", encoding="utf-8", closefd=False, buffering=1) as err,
                redirect_stdout(out),
                redirect_stderr(err),
            ):
                yield
        finally:
            for number, original in zip((1, 2), kept, strict=True):
                os.dup2(original, number)
                os.close(original)

    def read(self) -> tuple[str, str]:
        def text(number: int) -> str:
            self._files[number].seek(0)
            return self._files[number].read().decode()

        return text(0), text(1)
