"""Units of an export side by side, each in its own process: converters hold Python's lock, and threads gain nothing.

A program that uses this as a library needs the guard `if __name__ == "__main__":`, as with any spawned process.
"""

import contextlib
import multiprocessing
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Literal

from efficientvit.errors import StageFailed, VitExportError
from export import interrupt
from export.beside import Beside
from export.cache import Cache
from export.finished import Finished
from export.listener import About, Progress
from export.request import Job, Request

_POLL_S = 0.2
_PATIENCE_S = 10.0
"""How long a process has to clear away what it has half made, once it was told to end."""


@dataclass(frozen=True, slots=True)
class Unit:
    """Jobs of one model that share a trace, and under which keys to keep what comes of them.

    `second`: another unit of the same model was given out before.
    """

    jobs: tuple[Job, ...]
    keys: tuple[str | None, ...]
    second: bool


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
class _Done:
    """The unit is finished, and the next may come."""


_Message = _Told | Finished | _Failed | _Done


@dataclass(slots=True)
class _Worker:
    """A process, this end of its pipe, and which unit it is at."""

    process: BaseProcess
    pipe: Connection
    unit: int | None = None


def side_by_side(
    request: Request,
    units: Sequence[Unit],
    progress: Progress,
    command: tuple[str, ...],
    cache: Cache | None,
    count: int,
) -> Iterator[Finished]:
    """Each artifact as soon as it is finished, in `count` processes.

    Whoever leaves this, or is interrupted, ends the processes; each clears away what it has half made.

    Raises:
        BadInput, DownloadFailed: as `export.pipeline.run` does, of the first unit that does.
        StageFailed: a process died.
    """
    context = multiprocessing.get_context("spawn")
    beside = Beside(context.Condition(), context.Value("i", 0, lock=False), context.Value("i", 0, lock=False))
    shown = _Shown(progress)
    workers: list[_Worker] = []
    try:
        for _ in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs, request, command, cache, beside), daemon=True)
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
                if isinstance(message, Finished):
                    yield message
                elif isinstance(message, _Told):
                    shown.told(worker.unit, message)
                elif isinstance(message, _Failed):
                    raise message.error if isinstance(message.error, VitExportError) else RuntimeError(message.error)
                else:
                    shown.ended(worker.unit)
                    _give(worker, left)
    finally:
        _end(workers)


def _give(worker: _Worker, left: list[tuple[int, Unit]]) -> None:
    """The next unit, or the word that there is none."""
    worker.unit, unit = left.pop(0) if left else (None, None)
    with contextlib.suppress(OSError):  # it has died: what it said last is read next
        worker.pipe.send(unit)


def _next(worker: _Worker) -> _Message:
    try:
        message: _Message = worker.pipe.recv()
    except (EOFError, OSError) as error:
        worker.process.join(_PATIENCE_S)
        raise StageFailed(
            "a process of this export died",
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


def _work(pipe: Connection, request: Request, command: tuple[str, ...], cache: Cache | None, beside: Beside) -> None:
    """A process: one unit after the other, until there is none or whoever gives them has gone."""
    interrupt.install()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group: the parent decides
    progress = _Sent(pipe)
    try:
        while (unit := pipe.recv()) is not None:
            try:
                with beside.working():
                    _export(unit, request, command, cache, replace(beside, second=unit.second), progress, pipe)
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


def _export(
    unit: Unit,
    request: Request,
    command: tuple[str, ...],
    cache: Cache | None,
    beside: Beside,
    progress: _Sent,
    pipe: Connection,
) -> None:
    from export import finished, pipeline

    keys = {id(job): key for job, key in zip(unit.jobs, unit.keys, strict=True) if key is not None}
    keeping = finished.keeping(cache, request, keys)
    outcomes = pipeline.run(
        request, progress, command, jobs=unit.jobs, cache=cache, beside=beside, before_publishing=keeping
    )
    for outcome in outcomes:
        pipe.send(finished.of(outcome))
