"""What a benchmark measured: a row for each artifact, and what they are compared with."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from efficientvit.size import ImageSize
from export.bench.baselines import STOCK
from export.bench.work import share
from export.exits import Exit
from runtimes.host.machine import Host, this_host, versions
from runtimes.precision import Dtype
from validation.gates.result import GateResult
from validation.timing.latency import Timing
from validation.timing.limit import Limit
from validation.timing.streams import Throughput
from validation.trial import Spent
from validation.verdict import VerifiedArtifact

_TOOLS = ("torch", "onnx", "onnxruntime", "onnxsim", "openvino", "timm")


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
    def image_size(self) -> ImageSize:
        """Of the images that it takes."""
        return self.verified.artifact.model.image_size

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
class Measured:
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
