"""`vit-export bench`: models x precisions x runtimes x batches x threads, verified first, then timed in one run."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from export.bench.claims import not_compared
from export.bench.entries import Entries, entries
from export.bench.measured import Measured, Row
from export.bench.record import bench_record
from export.bench.request import BenchRequest
from export.bench.work import Watched, macs_of
from export.cache.store import Cache
from export.exits import Exit
from export.report.card import Row as Line
from export.report.card import card
from export.workers.exclusive import Exclusive
from export.workers.progress import Progress, Step
from validation.timing.interleaved import Peer, in_turns
from validation.timing.limit import Limits
from validation.timing.spending import spending
from validation.timing.streams import Throughput, throughput

_PROCESSES = 3
_COLUMNS = ("model", "target", "precision", "batch", "threads", "ms", "IQR", "images/s")


@dataclass(frozen=True, slots=True)
class Bench(Measured):
    """What was measured, as it is shown."""

    def to_json(self) -> dict[str, Any]:
        """What `vit-export bench --json` prints: everything, samples too, in nanoseconds."""
        return bench_record(self)

    def _repr_html_(self) -> str:
        rows = [
            Line((each.model, each.target, each.precision, each.batch, each.threads, f"{each.timing.median_ms:.2f}",
                  f"{each.timing.iqr_ms:.2f}", f"{each.images_per_s:.0f}"))
            for each in sorted(self.rows, key=lambda each: (each.model, each.batch, each.timing.median_ms))
        ]  # fmt: skip
        where = None if self.folder is None else f"{self.folder}/bench.html has all of it"
        title = "benchmark" if not self.untrained else f"benchmark, untrained weights in {', '.join(self.untrained)}"
        return card(title, f"{len(rows)} timed", self.exit_code, (*self.notes, where), _COLUMNS, rows)


def bench(
    request: BenchRequest,
    progress: Progress,
    cache: Cache | None = None,
    at_once: int | None = None,
    command: tuple[str, ...] = (),
    exclusive: Exclusive | None = None,
) -> Bench:
    """Make and verify every combination, `at_once` processes at a time, then time what passed, in turns, alone.

    `exclusive`: in a worker process of a cluster; the others of its host wait while it measures.

    Raises:
        BadInput: an unknown model or target, options that do not go together, weights or photos that cannot be used.
        MissingExtra: `stock`, `pytorch` or `paper` without timm.
    """
    found = entries(request, progress, cache, at_once)
    with contextlib.nullcontext() if exclusive is None else exclusive.alone():
        rows, limits = _measured(found, request, progress)
    notes = (*found.notes, *not_compared(rows))
    return Bench(rows, notes, tuple(found.untrained), Exit(found.code), limits, command)


def _measured(found: Entries, request: BenchRequest, progress: Progress) -> tuple[tuple[Row, ...], Limits]:
    """What passed, timed; and what one core multiplied before and after."""
    core = Watched()
    if found.timed:
        progress.step("what one core multiplies")
        core.measure()
    timings = in_turns([entry for _, entry in found.timed], request.rounds, progress.step)
    if found.timed:
        progress.step("what one core multiplies, once more")
        core.measure()
    streams = _throughputs([entry for _, entry in found.timed], request, progress.step)
    rows = []
    for (judged, entry), timing, several in zip(found.timed, timings, streams, strict=True):
        name = f"{judged.model}-{judged.target}-{judged.precision}"

        def step(text: str, name: str = name) -> None:
            progress.step(f"{name}: {text}")

        spent = spending(entry.verified, entry.runtime, timing, entry.images, step, _PROCESSES)
        macs = macs_of(entry.verified.artifact.model)
        rows.append(Row(judged.model, judged.target, judged.precision, entry.verified, timing, spent, macs, several))
    return tuple(rows), core.limits


def _throughputs(peers: Sequence[Peer], request: BenchRequest, step: Step) -> list[tuple[Throughput, ...]]:
    """For each of the peers, of those that are asked for; in rounds of all of them, each time in a new process."""
    asked = [
        (place, streams)
        for place, peer in enumerate(peers)
        if peer.threads == request.threads[0]
        for streams in request.streams
    ]
    samples: dict[tuple[int, int], list[float]] = {each: [] for each in asked}
    for number in range(_PROCESSES):
        for done, (place, streams) in enumerate(asked):
            step(f"{streams} streams, round {number + 1} of {_PROCESSES}: {done + 1} of {len(asked)}")
            peer = peers[place]
            one = throughput(peer.verified.artifact, peer.images, streams)
            if one is not None:
                samples[place, streams].append(one)
    return [
        tuple(Throughput(streams, tuple(own)) for (of, streams), own in samples.items() if of == place and own)
        for place in range(len(peers))
    ]
