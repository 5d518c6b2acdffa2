"""Units of an export side by side, each in its own process: converters hold Python's lock, and threads gain nothing."""

import multiprocessing
import queue
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from typing import Any

import psutil

from efficientvit.errors import StageFailed
from export import finished, interrupt
from export.beside import Beside
from export.cache import Cache
from export.finished import Finished
from export.listener import About, Progress
from export.request import Job, Request

_POLL_S = 0.1
_Message = tuple[str, int, tuple[Any, ...], dict[str, Any]]


def side_by_side(
    request: Request,
    units: Sequence[Sequence[Job]],
    progress: Progress,
    command: tuple[str, ...],
    cache: Cache | None,
    keys: Mapping[int, str],
    workers: int,
) -> Iterator[Finished]:
    """Each artifact as soon as it is finished. `keys`: by a job's `id`, under which to keep it.

    Whoever leaves this, or is interrupted, ends the processes; each clears away what it has half made.

    Raises:
        BadInput, DownloadFailed: as `export.pipeline.run` does, of the first unit that does.
        StageFailed: a process died.
    """
    context = multiprocessing.get_context("spawn")
    told: multiprocessing.Queue[_Message] = context.Queue()
    beside = Beside(context.Condition(), context.Value("i", 0, lock=False), context.Value("i", 0, lock=False))
    pool = ProcessPoolExecutor(workers, context, _begin, (told, beside))
    shown = _Shown(progress)
    try:
        futures: list[Future[None]] = []
        models: set[str] = set()
        for number, unit in enumerate(units):
            own = [keys.get(id(job)) for job in unit]
            futures.append(pool.submit(_work, number, request, unit, own, command, cache, unit[0].model in models))
            models.add(unit[0].model)
        yield from _until_done(futures, told, shown)
        pool.shutdown()
    except BrokenProcessPool as error:
        raise StageFailed(
            "a process of this export died",
            expected="enough memory for the processes side by side",
            got="it was ended from outside, which is what the system does when memory runs out",
            next_step="try again with --jobs 1",
        ) from error
    finally:
        _end(pool)


def _until_done(futures: Sequence["Future[None]"], told: Any, shown: "_Shown") -> Iterator[Finished]:
    left = set(futures)
    while True:
        done = {future for future in left if future.done()}  # before what is told last is fetched
        left -= done
        yield from _heard(told, shown, wait=bool(left))
        for future in done:
            future.result()
        if not left:
            yield from _heard(told, shown, wait=False)
            return


def _heard(told: Any, shown: "_Shown", *, wait: bool) -> Iterator[Finished]:
    try:
        while True:
            what, number, args, named = told.get(timeout=_POLL_S if wait else 0.0)
            if what == "finished":
                shown.ended(number, args[0])
                yield args[0]
            else:
                shown.told(what, number, *args, **named)
    except queue.Empty:
        interrupt.check()


def _end(pool: ProcessPoolExecutor) -> None:
    """At once, whatever they are at. The signal's handler of each clears away."""
    for child in psutil.Process().children():
        if "resource_tracker" not in " ".join(child.cmdline() if child.is_running() else ()):
            child.terminate()
    pool.shutdown(cancel_futures=True)


class _Shown:
    """What the units tell, as one: the latest step of each, and what is known of a model once."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._steps: dict[int, str] = {}
        self._known: set[tuple[str, ...]] = set()

    def told(self, what: str, number: int, *args: Any, **named: Any) -> None:
        if what == "step":
            self._steps[number] = args[0]
            self._step()
            return
        if what in ("weights", "vacuous"):
            if (once := (what, str(args))) in self._known:
                return
            self._known.add(once)
        getattr(self._progress, what)(*args, **named)

    def ended(self, number: int, _: Finished) -> None:
        self._steps.pop(number, None)

    def _step(self) -> None:
        self._progress.step("   ".join(self._steps[number] for number in sorted(self._steps)))


class _Sent:
    """Progress in a worker: sent to the process that shows it."""

    def __init__(self, number: int) -> None:
        self._number = number

    def step(self, text: str) -> None:
        interrupt.check()
        self._send("step", text)

    def weights(self, about: About) -> None:
        self._send("weights", about)

    def vacuous(self, failures: tuple[str, ...]) -> None:
        self._send("vacuous", failures)

    def stage(self, slug: str, name: str, seconds: float, status: str, *, cached: bool) -> None:
        self._send("stage", slug, name, seconds, status, cached=cached)

    def download(self, done: int, total: int | None) -> None:
        self._send("download", done, total)

    def finished(self, done: Finished) -> None:
        self._send("finished", done)

    def _send(self, what: str, *args: Any, **named: Any) -> None:
        assert _told is not None
        _told.put((what, self._number, args, named))


_told: Any = None
_beside: Beside | None = None


def _begin(told: Any, beside: Beside) -> None:
    """In a new worker."""
    global _told, _beside
    _told, _beside = told, beside
    interrupt.install()


def _work(
    number: int,
    request: Request,
    jobs: Sequence[Job],
    keys: Sequence[str | None],
    command: tuple[str, ...],
    cache: Cache | None,
    second: bool,
) -> None:
    """One unit, in a worker."""
    from export import pipeline

    assert _beside is not None
    beside, progress = replace(_beside, second=second), _Sent(number)
    with beside.working():
        for outcome in pipeline.run(request, progress, command, jobs=jobs, cache=cache, beside=beside):
            done = finished.of(outcome.job, outcome.slug, outcome.folder)
            key = next(key for job, key in zip(jobs, keys, strict=True) if job is outcome.job)
            if cache is not None and key is not None:
                finished.keep(cache, key, done)
            progress.finished(done)
