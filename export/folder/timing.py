"""Latency of the shipped artifact, and what an app pays besides, as `manifest.json` has them."""

from collections.abc import Sequence
from typing import Annotated, Any, Self

import msgspec
import numpy as np

from export.folder.records import AttestationRecord
from export.records import Count, IfMeasured, Record, says
from validation.timing.latency import Timing
from validation.trial import Alone, ModuleTime, Spent


class ProcessRecord(Record, frozen=True, kw_only=True):
    """The shipped artifact, loaded and run in a process of its own."""

    load_ns: Annotated[Count, says("Loading, nanoseconds.")]
    first_ns: Annotated[Count, says("The first run, nanoseconds a batch.")]
    steady_ns: Annotated[Count, says("Median of the runs after that, nanoseconds a batch.")]
    memory_bytes: Annotated[int, says("Peak resident memory over an empty runtime's, bytes.")]

    @classmethod
    def of(cls, alone: Alone) -> Self:
        """One process."""
        return cls.from_attributes(alone, steady_ns=round(float(np.median(alone.steady_ns))))


class ModuleRecord(Record, frozen=True, kw_only=True):
    """One module of the model in a profiled run."""

    name: Annotated[str, says("The module, as the model's parameters name it; preprocessing for what is before it.")]
    ns: Annotated[Count, says("Nanoseconds a batch, median; a profiler makes them somewhat longer.")]
    operators: Annotated[Count, says("Operators that the runtime executed for it.")]
    share: Annotated[float, says("Of the time of all.")]


def modules_of(modules: Sequence[ModuleTime]) -> list[ModuleRecord]:
    """With the share of each."""
    whole = sum(each.ns for each in modules) or 1
    return [ModuleRecord.from_attributes(each, share=round(each.ns / whole, 4)) for each in modules]


class TimingRecord(Record, frozen=True, kw_only=True):
    """Latency of the shipped artifact. `measured` false: there is the reason, and nothing else."""

    measured: Annotated[bool, says("Timed.")]
    reason: Annotated[str | None, says("Why there is no latency; null where it was measured.")]
    batch: Annotated[IfMeasured[Count], says("Images per run.")] = msgspec.UNSET
    fed: Annotated[IfMeasured[list[Count]], says("Shape of the input that it was timed on.")] = msgspec.UNSET
    median_ms: Annotated[IfMeasured[float], says("Median, milliseconds per batch.")] = msgspec.UNSET
    p90_ms: Annotated[IfMeasured[float], says("90th percentile, milliseconds per batch.")] = msgspec.UNSET
    p99_ms: Annotated[IfMeasured[float], says("99th percentile, milliseconds per batch.")] = msgspec.UNSET
    iqr_ms: Annotated[IfMeasured[float], says("Interquartile range, milliseconds per batch.")] = msgspec.UNSET
    noisy: Annotated[IfMeasured[bool], says("Quartiles wider than a tenth of the median, or the warm-up never became "
                                       "stable.")] = msgspec.UNSET  # fmt: skip
    warm_up_runs: Annotated[IfMeasured[int], says("Runs before measuring.")] = msgspec.UNSET
    warm_up_stable: Annotated[IfMeasured[bool], says("Two windows of ten agreed within 5 %.")] = msgspec.UNSET
    peak_memory_bytes: Annotated[IfMeasured[int], says("Peak resident memory of the exporting process, bytes.")] = (
        msgspec.UNSET
    )
    load_ms: Annotated[IfMeasured[float], says("Time to load the file, milliseconds, in a process of its own with the "
                                          "runtime imported; median over processes.")] = msgspec.UNSET  # fmt: skip
    first_ms: Annotated[IfMeasured[float], says("The first run after that, milliseconds a batch.")] = msgspec.UNSET
    memory_bytes: Annotated[IfMeasured[int], says("The most that such a process had resident over what it had with the "
                                             "runtime and no file, bytes; median.")] = msgspec.UNSET  # fmt: skip
    processes: Annotated[IfMeasured[list[ProcessRecord]], says("What each of these processes measured.")] = (
        msgspec.UNSET
    )
    modules: Annotated[IfMeasured[list[ModuleRecord]], says("Where the time goes, in the order of execution.")] = (
        msgspec.UNSET
    )
    effective: Annotated[IfMeasured[AttestationRecord], says("How it ran while it was timed.")] = msgspec.UNSET
    samples_ns: Annotated[IfMeasured[list[Count]], says("Every sample, nanoseconds per batch.")] = msgspec.UNSET

    @classmethod
    def of(cls, timing: Timing | None, spent: Spent | None, reason: str | None) -> Self:
        """What was measured; `reason`: why nothing was."""
        if timing is None:
            return cls(measured=False, reason=reason or "the export did not get that far")
        alone: dict[str, Any] = dict.fromkeys(
            ("load_ms", "first_ms", "memory_bytes", "processes", "modules"), msgspec.UNSET
        )
        if spent is not None and spent.memory_mb is not None:
            alone = {
                "load_ms": spent.load_ms,
                "first_ms": spent.first_ms,
                "memory_bytes": round(spent.memory_mb * 1e6),
                "modules": modules_of(spent.modules),
                "processes": [ProcessRecord.of(each) for each in spent.alone],
            }
        return cls.from_attributes(
            timing,
            measured=True,
            reason=None,
            batch=timing.plan.batch,
            fed=list(timing.fed),
            p90_ms=timing.percentile_ms(90),
            p99_ms=timing.percentile_ms(99),
            effective=AttestationRecord.from_attributes(timing.attestation),
            samples_ns=list(timing.samples_ns),
            **alone,
        )

    @property
    def samples(self) -> list[int]:
        """Nanoseconds per batch; none where it was not measured."""
        return [] if isinstance(self.samples_ns, msgspec.UnsetType) else self.samples_ns
