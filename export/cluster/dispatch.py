"""Tasks to workers and answers back: Dask places and retries them; here is who may get them and what is done then.

Everything that happens is an event in one queue: a task ended, progress. The loop waits for the next one, and never
without a limit. Which workers came or went is asked for every second: Dask 2026.8 cuts off whoever listens to its topic
`all` as soon as anybody replicates data, because that event cannot be serialized.
"""

import contextlib
import queue
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from efficientvit.errors import HostShortage, StageFailed, Unavailable, VitExportError
from export.cluster.blobs import in_parts
from export.cluster.crew import Crew, Needs
from export.cluster.said import Said
from export.cluster.shipment import Contents
from export.cluster.tasks import Answer, Doing, do, receive
from export.workers import interrupt
from export.workers.progress import Progress

if TYPE_CHECKING:
    from distributed import Client, Future

_TICK_S = 1.0
_GATHER_S = 600.0
"""For an answer to arrive, which may be hundreds of megabytes."""
_SILENT_S = 7200.0
"""Without a word from any task, progress included: longer than any step of one takes."""

_PART_BYTES = 32 << 20
_ATTEMPTS = 4


@dataclass(slots=True)
class Work:
    """A task, what it needs, and what it is for people. `optional`: nothing is wrong where no worker can take it."""

    task: Doing
    needs: Needs
    what: str
    optional: bool = False
    attempts: int = 0
    since: float | None = None


@dataclass(slots=True)
class _Running:
    work: Work
    future: "Future[Answer]"
    workers: list[str]


class SchedulerGone(Unavailable):
    """The connection to the scheduler was lost. What was published stays."""


@dataclass(slots=True)
class Dispatch:
    """Of one client. `wait_s`: for a worker that can take what waits."""

    client: "Client"
    contents: Contents
    progress: Progress
    wait_s: float
    crew: Crew = field(default_factory=Crew)
    topic: str = field(default_factory=lambda: f"vit-export-{uuid.uuid4().hex}")
    _waiting: list[Work] = field(default_factory=list)
    _running: dict[str, _Running] = field(default_factory=dict)
    _failed: list[tuple[Work, Answer]] = field(default_factory=list)
    _events: "queue.SimpleQueue[tuple[str, Any]]" = field(default_factory=queue.SimpleQueue)
    _said: Said = field(init=False)
    _asked: float = 0.0

    def __post_init__(self) -> None:
        self._said = Said(self.progress)
        self.client.subscribe_topic(self.topic, lambda event: self._events.put(("said", event[1])))

    def add(self, work: Work) -> None:
        """Let it be done as soon as somebody can."""
        self._waiting.append(work)

    def refresh(self) -> None:
        """Who is there now; what none of its workers can do any more waits for others.

        Raises:
            SchedulerGone: the scheduler is.
        """
        try:
            workers = self.client.scheduler_info(n_workers=-1)["workers"]
        except (OSError, RuntimeError, TimeoutError) as error:
            raise self._gone() from error
        self._asked = time.monotonic()
        for sentence in self.crew.update(workers):
            self.progress.note(sentence)
        for key, running in list(self._running.items()):
            if not set(running.workers) & set(workers):
                del self._running[key]
                running.future.cancel(force=True)
                self._again(running.work)

    def require_workers(self) -> None:
        """Wait until every task that waits has a worker that can take it.

        Raises:
            Unavailable: one has none within `wait_s`, or all that could take it are refused.
            SchedulerGone: the scheduler is.
        """
        until = time.monotonic() + self.wait_s
        while True:
            self.refresh()
            left = [work for work in self._waiting if not work.optional and not self.crew.able(work.needs)]
            if not left:
                return
            if (remaining := until - time.monotonic()) <= 0:
                raise self.crew.nobody(left[0].what, left[0].needs, self.wait_s)
            with contextlib.suppress(queue.Empty):
                self._events.get(timeout=min(remaining, _TICK_S))

    def answers(self) -> Iterator[tuple[Work, Answer]]:
        """Each task with its answer as it comes; tasks may be added meanwhile.

        An answer has the error of a task that failed, and of one for which there is no worker left.

        Raises:
            StageFailed: none of the tasks says anything any more.
            SchedulerGone: the scheduler is.
        """
        heard = time.monotonic()
        while self._waiting or self._running:
            interrupt.check()
            if time.monotonic() - self._asked > _TICK_S:
                self.refresh()
            self._place()
            yield from self._failures()
            if not (self._waiting or self._running):
                return
            try:
                kind, what = self._events.get(timeout=_TICK_S)
            except queue.Empty:
                self._require_scheduler()
                if self._running and time.monotonic() - heard > _SILENT_S:
                    names = ", ".join(each.work.what for each in self._running.values())
                    raise StageFailed(
                        f"no word from the cluster about {names}", expected=f"progress within {_SILENT_S:.0f} s"
                    ) from None
                continue
            heard = time.monotonic()
            if kind == "done" and what in self._running:
                running = self._running.pop(what)
                if (answer := self._taken(running)) is not None:
                    yield running.work, answer
                yield from self._failures()
            elif kind == "said":
                self._said.show(what)

    def distrust(self, work: Work, worker: str, why: str) -> None:
        """The answer is not to be used: the worker gets no more work, and another one does this."""
        self.progress.note(self.crew.leave_out(worker, why))
        self._again(work)

    def close(self) -> None:
        """Give up what still runs: workers stop at their next step."""
        for running in self._running.values():
            with contextlib.suppress(Exception):  # the scheduler may be gone
                running.future.cancel(force=True)
        self._running.clear()
        self._waiting.clear()

    def _place(self) -> None:
        """Hand out as many tasks of one kind as there are workers for it: a worker that joins later gets some too."""
        for work in list(self._waiting):
            able = self.crew.able(work.needs)
            if not able:
                self._without_worker(work)
                continue
            work.since = None
            if sum(each.work.needs == work.needs for each in self._running.values()) >= len(able):
                continue
            self._waiting.remove(work)
            key = f"vit-export-{uuid.uuid4().hex}"
            resources = dict.fromkeys(work.needs.all_of, 1)
            future = self.client.submit(
                do, work.task, sorted(self.crew.offers), key=key, workers=able, resources=resources, pure=False
            )
            self._running[key] = _Running(work, future, able)
            future.add_done_callback(lambda future: self._events.put(("done", future.key)))

    def _without_worker(self, work: Work) -> None:
        """Nobody can take it now."""
        now = time.monotonic()
        work.since = now if work.since is None else work.since
        if now - work.since < self.wait_s and not work.optional:
            return
        if work.optional:
            self._waiting.remove(work)
            self.progress.note(f"{work.what}: no worker of the cluster can do it")
        elif not self._running:  # what others make meanwhile is not lost
            self._waiting.remove(work)
            self._fail(work, self.crew.nobody(work.what, work.needs, self.wait_s))

    def _fail(self, work: Work, error: VitExportError) -> None:
        self._failed.append((work, Answer("", error=error)))

    def _failures(self) -> list[tuple[Work, Answer]]:
        found, self._failed = self._failed, []
        return found

    def _taken(self, running: _Running) -> Answer | None:
        """The answer; None where the task has to be done again."""
        work, future = running.work, running.future
        if future.status == "cancelled":
            raise self._gone()
        answer = self._answer(work, future)
        if answer is None:
            return None
        self._said.ended(answer.worker)
        if answer.missing:
            self._send(answer.worker, answer.missing)
            work.attempts -= 1
            self._again(work)
        elif answer.unfit is not None:
            self.progress.note(self.crew.leave_out(answer.worker, _in_one_line(answer.unfit)))
            work.attempts -= 1  # every worker may be left out once
            self._again(work)
        else:
            return answer
        return None

    def _answer(self, work: Work, future: "Future[Answer]") -> Answer | None:
        from distributed import KilledWorker
        from distributed.comm.core import CommClosedError

        try:
            answer: Answer = future.result(timeout=_GATHER_S)
        except (TimeoutError, CommClosedError):  # whoever held it is gone, or the scheduler: `refresh` will say so
            self._again(work)
            return None
        except KilledWorker as error:
            shortage = HostShortage(
                f"workers died one after the other at {work.what}",
                expected="they end by themselves",
                got=str(error).splitlines()[0][:200],
                next_step="see the workers' logs; a host that runs out of memory kills processes",
            )
            self._fail(work, shortage)
            return None
        except Exception:
            self._require_scheduler()
            raise
        finally:
            future.release()
        return answer

    def _again(self, work: Work) -> None:
        work.attempts += 1
        if work.attempts >= _ATTEMPTS and work.optional:
            self.progress.note(f"{work.what} was given up after {_ATTEMPTS} tries")
            return
        if work.attempts >= _ATTEMPTS:
            error = StageFailed(
                f"{work.what} was given up",
                expected=f"an answer that can be used from one of {_ATTEMPTS} workers",
                got="; ".join(f"{self.crew.called(worker)}: {why}" for worker, why in self.crew.refused.items()),
                next_step="look after those workers, or take another cluster",
            )
            self._fail(work, error)
        else:
            self._waiting.append(work)

    def _send(self, worker: str, digests: frozenset[str]) -> None:
        """What the worker lacks, some at a time."""
        sizes = {digest: self.contents.size_bytes(digest) for digest in sorted(digests)}
        self.progress.step(f"sending {sum(sizes.values()) / 1e6:.1f} MB to {self.crew.called(worker)}")
        try:
            for part in in_parts(sizes, _PART_BYTES):
                contents = {digest: self.contents.read(digest) for digest in part}
                self.client.run(receive, contents, workers=[worker])
        except (OSError, ValueError, TimeoutError) as error:
            self._require_scheduler()
            self.progress.note(self.crew.leave_out(worker, f"files could not be sent to it: {error}"))

    def _require_scheduler(self) -> None:
        if self.client.status != "running":
            raise self._gone()

    def _gone(self) -> SchedulerGone:
        return SchedulerGone(
            "the connection to the scheduler was lost",
            expected="a scheduler that runs until everything is made",
            got=f"no connection to {self.client.scheduler.address if self.client.scheduler else 'it'}",
            next_step="start it and its workers again, and run the same command: what was published stays",
        )


def _in_one_line(error: VitExportError) -> str:
    return f"{error.what}{f' ({error.got})' if error.got else ''}"
