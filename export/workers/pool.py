"""Jobs in worker processes: converters hold Python's lock, so threads would gain nothing.

A program that uses this as a library needs the guard `if __name__ == "__main__":`, as for any spawned process.
Why neither the standard library's executor nor loky: docs/adr/0013-cache-and-processes.md.
"""

import multiprocessing
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker, util
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, TypeVar, cast

from efficientvit.errors import HostShortage, StageFailed, VitExportError
from export.workers import interrupt
from export.workers.exclusive import Exclusive
from export.workers.progress import Progress
from runtimes.host.machine import free_memory_bytes, this_host
from runtimes.host.shortage import shortage_of

_MEMORY_BYTES = 3 << 30
"""What one process may need, at the largest model."""

_POLL_S = 0.2
_PATIENCE_S = 10.0  # for removing what is half made
_LAST = -1000  # the priority of what a process does after all that multiprocessing cleans up

U = TypeVar("U")
R = TypeVar("R")
Work = Callable[[U, Progress, Exclusive], Iterable[R]]
"""What a worker does with a unit. Function, units and results are pickled."""


def default_at_once() -> int:
    """As many processes as there are CPUs that may be used, and memory for."""
    return max(1, min(this_host().usable_cpus, free_memory_bytes() // _MEMORY_BYTES))


@dataclass(slots=True)
class _Worker:
    """A process, our end of its pipe, whether it has a unit, and the step that it is at."""

    process: BaseProcess
    pipe: Connection
    busy: bool = True
    step: str = ""

    def give(self, left: Iterator[Any]) -> None:
        """The next unit; if there is none, the pipe is closed, which ends the worker."""
        self.step = ""
        for unit in left:
            with suppress(OSError):  # it has died: `message` says so
                self.pipe.send(unit)
            return
        self.busy = False
        self.pipe.close()

    def message(self) -> tuple[str, Any]:
        try:
            kind, content = self.pipe.recv()
        except (EOFError, OSError) as error:
            self.process.join(_PATIENCE_S)
            if self.process.exitcode == -signal.SIGKILL:
                raise HostShortage(
                    "the system ended a worker process",
                    expected="it ends by itself",
                    got="SIGKILL, which is how a host that runs out of memory ends processes",
                    next_step="close other programs, raise a container's memory, or run it with --jobs 1",
                ) from error
            raise StageFailed(
                "a worker process died",
                expected="it ends by itself",
                got=f"exit code {self.process.exitcode}; out of memory?",
                next_step="try again with --jobs 1",
            ) from error
        return kind, content


def in_processes(work: "Work[U, R]", units: Sequence[U], progress: Progress, count: int) -> Iterator[R]:
    """`work` on each unit, in `count` processes; yields results as they come.

    Progress is shown as that of one process: the steps of all in a line, and what two report alike once. When the
    caller stops, fails or is interrupted, workers are told to end, and remove what they have half made.

    Raises:
        VitExportError: the first that a unit raises.
        StageFailed: a worker process died.
    """
    left, shown = iter(units), set[str]()
    workers: list[_Worker] = []
    with tempfile.TemporaryDirectory(prefix="vit-export-") as folder:
        try:
            workers.extend(_start(work, Path(folder)) for _ in range(count))
            for worker in workers:
                worker.give(left)
            while busy := [worker for worker in workers if worker.busy]:
                interrupt.check()
                ready = wait([worker.pipe for worker in busy], _POLL_S)
                for worker in (worker for worker in busy if worker.pipe in ready):
                    match worker.message():
                        case "result", value:
                            yield value
                        case "failed", error:
                            raise error if isinstance(error, VitExportError) else RuntimeError(error)
                        case "done", _:
                            worker.give(left)
                        case "step", ((text,), _):
                            worker.step = text
                            progress.step("   ".join(each.step for each in busy if each.step))
                        case name, (given, named) if (told := f"{name} {given} {named}") not in shown:
                            shown.add(told)
                            getattr(progress, name)(*given, **named)
        finally:
            _end(workers)


def _start(work: "Work[Any, Any]", folder: Path) -> _Worker:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, work, folder), daemon=True)
    resource_tracker.ensure_running()  # it would unblock SIGINT below
    # Ctrl-C reaches the whole process group. Workers inherit that it is blocked, and are ended by this process.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    process.start()
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    theirs.close()  # otherwise the death of the process would go unnoticed
    return _Worker(process, ours)


def _end(workers: Sequence[_Worker]) -> None:
    """Terminate those that still work: their signal handlers clean up."""
    until = time.monotonic() + _PATIENCE_S
    for worker in workers:
        worker.pipe.close()
        if worker.busy:
            worker.process.terminate()
    for worker in workers:
        worker.process.join(max(0.0, until - time.monotonic()))
        worker.process.kill()
        worker.process.join()


class _Sent:
    """`Progress` in a worker: each call is sent to the parent, by name. Raises where the parent has gone."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def __getattr__(self, name: str) -> Callable[..., None]:
        interrupt.check()
        return lambda *given, **named: self._pipe.send((name, (given, named)))


def _serve(pipe: Connection, work: "Work[Any, Any]", folder: Path) -> None:
    """A worker: one unit after the other, until the parent closes the pipe or has gone."""
    interrupt.install()
    progress, exclusive = cast(Progress, _Sent(pipe)), Exclusive(folder)
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            unit = pipe.recv()
            try:
                with exclusive.working():
                    for value in work(unit, progress, exclusive):
                        pipe.send(("result", value))
                pipe.send(("done", None))
            except VitExportError as error:
                pipe.send(("failed", error))
            except Exception as error:  # noqa: BLE001 - a defect, which the parent reports, or the host's shortage
                pipe.send(("failed", shortage_of(error) or traceback.format_exc()))
    sys.stdout.flush()
    sys.stderr.flush()
    # Python would take down everything that the converters have loaded, which takes more than a second.
    util.Finalize(None, os._exit, (0,), exitpriority=_LAST)
