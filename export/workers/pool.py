"""Work side by side, in processes of its own: converters hold Python's lock, and threads gain nothing.

A program that uses this as a library needs the guard `if __name__ == "__main__":`, as with any spawned process.
"""

import contextlib
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing import util
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Literal, TypeVar

from efficientvit.errors import StageFailed, VitExportError
from efficientvit.weights.source import About
from export.progress import Progress
from export.workers import interrupt
from export.workers.exclusive import Beside

_POLL_S = 0.2
_PATIENCE_S = 10.0
"""How long a process has to clear away what it has half made, once it was told to end."""

_LAST = -1000
"""The priority of what a process does behind all that multiprocessing has to clear away."""


U = TypeVar("U")
R = TypeVar("R")
Work = Callable[[U, Progress, Beside], Iterable[R]]
"""What a process does with a unit; it is sent there, and so are its results."""


@dataclass(frozen=True, slots=True)
class _Told:
    """What a worker says to its `Progress`: one of its methods, and with what."""

    what: Literal["step", "weights", "vacuous", "stage", "download"]
    args: tuple[Any, ...]
    named: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Failed:
    """The unit ended by an error: one of ours, or a defect, as its traceback."""

    error: VitExportError | str


@dataclass(frozen=True, slots=True)
class _Result:
    """One of a unit's."""

    value: Any


@dataclass(frozen=True, slots=True)
class _Done:
    """The unit is finished, and the next may come."""


_Message = _Told | _Result | _Failed | _Done


@dataclass(slots=True)
class _Worker:
    """A process, this end of its pipe, and which unit it is at."""

    process: BaseProcess
    pipe: Connection
    unit: int | None = None


def side_by_side(work: "Work[U, R]", units: Sequence[U], progress: Progress, count: int) -> Iterator[R]:
    """`work` of each unit, in `count` processes; the results as they come.

    Whoever leaves this, or is interrupted, ends the processes; each clears away what it has half made.

    Raises:
        VitExportError: of the first unit that raises one.
        StageFailed: a process died.
    """
    context = multiprocessing.get_context("spawn")
    beside = Beside(context.Condition(), context.Value("i", 0, lock=False), context.Value("i", 0, lock=False))
    shown = _Shown(progress)
    workers: list[_Worker] = []
    try:
        for _ in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs, work, beside), daemon=True)
            process.start()
            theirs.close()  # or nobody would notice that the process has died
            workers.append(_Worker(process, ours))
        left = list(enumerate(units))
        for worker in workers:
            _give(worker, left)
        while busy := [worker for worker in workers if worker.unit is not None]:
            interrupt.check()
            ready = wait([worker.pipe for worker in busy], _POLL_S)
            for worker in busy:
                if worker.pipe not in ready:
                    continue
                message = _next(worker)
                if isinstance(message, _Result):
                    yield message.value
                elif isinstance(message, _Told):
                    shown.told(worker.unit, message)
                elif isinstance(message, _Failed):
                    raise message.error if isinstance(message.error, VitExportError) else RuntimeError(message.error)
                else:
                    shown.ended(worker.unit)
                    _give(worker, left)
    finally:
        _end(workers)


def _give(worker: _Worker, left: list[tuple[int, U]]) -> None:
    """The next unit, or the word that there is none."""
    worker.unit, unit = left.pop(0) if left else (None, None)
    with contextlib.suppress(OSError):  # it has died: what it said last is read next
        worker.pipe.send(None if worker.unit is None else (unit,))


def _next(worker: _Worker) -> _Message:
    try:
        message: _Message = worker.pipe.recv()
    except (EOFError, OSError) as error:
        worker.process.join(_PATIENCE_S)
        raise StageFailed(
            "a process that works beside this one died",
            expected="that it ends by itself",
            got=f"exit code {worker.process.exitcode}; the system ends processes so when memory runs out",
            next_step="try again with --jobs 1",
        ) from error
    return message


def _end(workers: Sequence[_Worker]) -> None:
    """Those that still work at once, whatever they are at: the signal's handler of each clears away."""
    for worker in workers:
        if worker.unit is not None:
            worker.process.terminate()
    until = time.monotonic() + _PATIENCE_S
    for worker in workers:
        worker.process.join(max(0.0, until - time.monotonic()))
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()
        worker.pipe.close()


class _Shown:
    """What the units tell, as one: the latest step of each, and what is known of a model once."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._steps: dict[int | None, str] = {}
        self._known: set[str] = set()

    def told(self, unit: int | None, message: _Told) -> None:
        match message.what:
            case "step":
                self._steps[unit] = message.args[0]
                self._progress.step("   ".join(self._steps[each] for each in sorted(self._steps, key=str)))
            case "weights" if self._first(message):
                self._progress.weights(*message.args)
            case "vacuous" if self._first(message):
                self._progress.vacuous(*message.args)
            case "stage":
                self._progress.stage(*message.args, **message.named)
            case "download":
                self._progress.download(*message.args)

    def ended(self, unit: int | None) -> None:
        self._steps.pop(unit, None)

    def _first(self, message: _Told) -> bool:
        text = str(message)
        first = text not in self._known
        self._known.add(text)
        return first


class _Sent:
    """Progress in a worker: sent to the process that shows it. Raises where that has gone."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def step(self, text: str) -> None:
        interrupt.check()
        self._pipe.send(_Told("step", (text,)))

    def weights(self, about: About) -> None:
        self._pipe.send(_Told("weights", (about,)))

    def vacuous(self, model: str, failures: tuple[str, ...]) -> None:
        self._pipe.send(_Told("vacuous", (model, failures)))

    def stage(self, slug: str, name: str, seconds: float, status: str, *, cached: bool) -> None:
        self._pipe.send(_Told("stage", (slug, name, seconds, status), {"cached": cached}))

    def download(self, done: int, total: int | None) -> None:
        self._pipe.send(_Told("download", (done, total)))


def _work(pipe: Connection, work: "Work[Any, Any]", beside: Beside) -> None:
    """A process: one unit after the other, until there is none or whoever gives them has gone."""
    interrupt.install()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group: the parent decides
    progress = _Sent(pipe)
    try:
        while (given := pipe.recv()) is not None:
            try:
                with beside.working():
                    for value in work(given[0], progress, beside):
                        pipe.send(_Result(value))
            except VitExportError as error:
                pipe.send(_Failed(error))
            except (EOFError, OSError):
                raise
            except Exception:  # noqa: BLE001 - a defect, which is the parent's to report
                pipe.send(_Failed(traceback.format_exc()))
            else:
                pipe.send(_Done())
    except (EOFError, BrokenPipeError, ConnectionResetError):
        sys.exit(1)
    sys.stdout.flush()
    sys.stderr.flush()
    # Python would go on to take down all that the converters have loaded, which takes longer than a second.
    util.Finalize(None, os._exit, (0,), exitpriority=_LAST)
