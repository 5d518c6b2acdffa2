"""`vit-export bench`: models x precisions x runtimes x batches x threads, verified first, then timed in one run."""

import contextlib
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from export.bench.baselines import STOCK
from export.bench.entries import Entries, entries
from export.bench.request import BenchRequest
from export.bench.work import Watched, macs_of, share
from export.cache.store import Cache
from export.exits import Exit
from export.report.card import Row as Line
from export.report.card import card
from export.workers.exclusive import Exclusive
from export.workers.progress import Progress, Step
from runtimes.host.machine import Host, this_host, versions
from runtimes.precision import Dtype
from validation.gates.result import GateResult
from validation.timing.interleaved import Peer, in_turns
from validation.timing.latency import Timing
from validation.timing.limit import Limit, Limits
from validation.timing.spending import spending
from validation.timing.streams import Throughput, throughput
from validation.trial import Spent
from validation.verdict import VerifiedArtifact

_PROCESSES = 3
_TOOLS = ("torch", "onnx", "onnxruntime", "onnxsim", "openvino", "timm")
_COLUMNS = ("model", "target", "precision", "batch", "threads", "ms", "IQR", "images/s")


@dataclass(frozen=True, slots=True)
class Row:
    """One verified artifact at one number of threads, how long a batch takes, and what an app pays besides.

    `macs`: multiply-accumulates for one image. `throughputs`: with several streams, at the first number of threads
    alone: each stream has one thread.
    """

    model: str
    target: str
    precision: str
    verified: VerifiedArtifact
    timing: Timing
    spent: Spent
    macs: int
    throughputs: tuple[Throughput, ...] = ()

    @property
    def batch(self) -> int:
        """Images at once."""
        return self.timing.plan.batch

    @property
    def threads(self) -> int:
        """Of the runtime."""
        return self.timing.plan.threads

    @property
    def gate(self) -> GateResult:
        """The one that judges what ships: quality where precision was spent on purpose, else precision."""
        found = {gate.gate: gate for gate in self.verified.report.gates}
        return found["quality"] if "quality" in found else found["precision"]

    @property
    def images_per_s(self) -> float:
        """At the median."""
        return self.batch / self.timing.median_ms * 1e3

    @property
    def operations_per_s(self) -> float:
        """Multiplications and additions of its products and convolutions, at the median."""
        return 2 * self.macs * self.images_per_s


@dataclass(frozen=True, slots=True)
class Bench:
    """The rows that were timed, and what was not and why. `untrained`: the models whose weights are random.

    `limits`: what one core multiplied just before and after, by arithmetic. `command`: for the record. `host`, `tools`:
    that it was measured on and with. `folder`: where the page and the record are, once they are written.
    """

    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    untrained: tuple[str, ...] = ()
    exit_code: Exit = Exit.OK
    limits: Mapping[Dtype, Limit] = field(default_factory=dict)
    command: tuple[str, ...] = ()
    host: Host = field(default_factory=this_host)
    tools: tuple[tuple[str, str], ...] = field(default_factory=functools.partial(versions, *_TOOLS))
    folder: Path | None = None

    def to_json(self) -> dict[str, Any]:
        """What `vit-export bench --json` prints: everything, samples too, in nanoseconds."""
        from export.bench.record import bench_record  # which reads this class

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

    def baseline(self, row: Row) -> Row | None:
        """What a row is compared with: the stock model where there is one, else its own target's float32."""
        same = [
            other
            for other in self.rows
            if (other.model, other.batch, other.threads) == (row.model, row.batch, row.threads)
        ]
        stock = next((other for other in same if other.precision == STOCK), None)
        return stock or next((o for o in same if o.target == row.target and o.precision == "fp32"), None)

    def speedup(self, row: Row) -> float | None:
        """How many times as fast as its baseline."""
        against = self.baseline(row)
        return None if against is None else against.timing.median_ms / row.timing.median_ms

    def limit_share(self, row: Row) -> float | None:
        """Of what its threads can multiply in its arithmetic; None where that was not measured."""
        return share(self.limits, row.verified.attestation.precision, row.operations_per_s, row.threads)


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
    return Bench(rows, tuple(found.notes), tuple(found.untrained), Exit(found.code), limits, command)


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
