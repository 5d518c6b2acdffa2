"""What the workers of `test_pool.py` do: a module of its own, which they import."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from efficientvit.errors import BadOption
from efficientvit.weights.source import About
from export.workers import interrupt
from export.workers.exclusive import Exclusive
from export.workers.pool import in_processes
from export.workers.progress import Progress
from tests.silent import Silent


def tell(unit: int, progress: Progress, exclusive: Exclusive) -> Iterator[tuple[int, int]]:
    """Two results, and the same of the weights by every unit."""
    progress.weights(About("m0", "seeded:0", "0", trained=False, notes=()))
    progress.step(f"unit {unit}")
    progress.stage("m0", "trace", 1.0, "verified", cached=unit == 1)
    yield unit, os.getpid()
    with exclusive.alone():
        yield -unit, os.getpid()


def fail(unit: str, progress: Progress, _: Exclusive) -> Iterator[int]:
    match unit:
        case "ours":
            raise BadOption("no", expected="a", got="b", next_step="c")
        case "a defect":
            raise ZeroDivisionError
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "ended":
            sys.exit(7)
        case "no memory":
            raise MemoryError
        case "no such file":
            Path("nowhere").read_bytes()
    yield 1


def half_made(folder: Path, unit: int, progress: Progress, _: Exclusive) -> Iterator[int]:
    """Works until it is told to end, and removes what it has half made then."""
    made = folder / f"half-{unit}"
    try:
        made.write_text(str(os.getpid()))
        while True:
            progress.step("still at it")
            time.sleep(0.01)
    finally:
        made.unlink(missing_ok=True)
    yield 1


def main(folder: Path) -> None:
    """As the command line does: workers that are at it for ever."""
    interrupt.install()

    class Shown(Silent):
        def step(self, text: str) -> None:
            found = [written for path in folder.iterdir() if (written := path.read_text())]
            if len(found) == 2 and not said:
                said.append(text)
                sys.stdout.write(f"{' '.join(found)}\n")
                sys.stdout.flush()

    said: list[Any] = []
    try:
        list(in_processes(partial(half_made, folder), (1, 2), Shown(), 2))
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
