"""Latency of verified artifacts: warm-up until stable, raw samples kept, the figures derived from them.

`benchmark` takes a `VerifiedArtifact` and nothing else: a latency cannot exist without a passed check.
"""

import time
from dataclasses import dataclass

import numpy as np

from efficientvit.errors import VitExportError
from runtimes.host.machine import peak_rss_bytes
from runtimes.runtime import Attestation, Evidence, Images, Mode, Runtime, Session
from validation.verdict import VerifiedArtifact

_WINDOW = 10
_STABLE_WITHIN = 0.05
_NOISY_ABOVE = 0.10


@dataclass(frozen=True, slots=True)
class TimingPlan:
    """How to time. Warm-up ends when two windows of ten runs agree within 5 %, or after `warm_up_s`."""

    threads: int = 1
    batch: int = 1
    warm_up_s: float = 3.0
    measure_s: float = 2.0
    least_samples: int = 30


@dataclass(frozen=True, slots=True)
class Timing:
    """Raw samples in nanoseconds per batch; every statistic is derived from them. `fed`: the shape of the input."""

    samples_ns: tuple[int, ...]
    plan: TimingPlan
    attestation: Attestation
    warm_up_runs: int
    warm_up_stable: bool
    peak_memory_bytes: int
    fed: tuple[int, ...] = ()

    def percentile_ms(self, percent: float) -> float:
        """Milliseconds per batch."""
        return float(np.percentile(self.samples_ns, percent)) / 1e6

    @property
    def median_ms(self) -> float:
        """Milliseconds per batch."""
        return self.percentile_ms(50)

    @property
    def iqr_ms(self) -> float:
        """Interquartile range, milliseconds."""
        return self.percentile_ms(75) - self.percentile_ms(25)

    @property
    def noisy(self) -> bool:
        """The figures can't be trusted to better than a tenth: wide quartiles, or never stable."""
        return self.iqr_ms > _NOISY_ABOVE * self.median_ms or not self.warm_up_stable


def benchmark(verified: VerifiedArtifact, runtime: Runtime, plan: TimingPlan, images: Images) -> Timing:
    """Time `verified` in `runtime` under the settings that ship, on real inputs of the golden set.

    Raises:
        ArtifactChanged: the file is not the one that was verified.
        VitExportError: the runtime is an evaluator, whose speed says nothing, or not the one that verified the
            artifact, or the batch doesn't fit.
    """
    require_timeable(verified, runtime, plan)
    feed = np.ascontiguousarray(np.take(images, range(plan.batch), axis=0, mode="wrap"))
    with runtime.open(verified.artifact, Mode.SHIPPED, plan.threads) as session:
        require_same(verified.attestation, session.attestation)
        warm_up, stable = _warm_up(session, feed, plan)
        samples: list[int] = []
        end = time.perf_counter_ns() + int(plan.measure_s * 1e9)
        while len(samples) < plan.least_samples or time.perf_counter_ns() < end:
            samples.append(session.timed_ns(feed))
        return Timing(tuple(samples), plan, session.attestation, warm_up, stable, peak_rss_bytes(), feed.shape)


def require_timeable(verified: VerifiedArtifact, runtime: Runtime, plan: TimingPlan) -> None:
    """The file is the one that was verified, and what is to be timed is what ran it then.

    Raises:
        ArtifactChanged: it is not.
        VitExportError: the evidence is not native, or the batch doesn't fit.
    """
    artifact = verified.artifact
    artifact.require_unchanged()
    if runtime.evidence is not Evidence.NATIVE or verified.report.evidence is not Evidence.NATIVE:
        raise VitExportError(
            f"{runtime.name} evaluates the artifact's program and is never timed",
            expected="native evidence",
            got=f"{verified.report.evidence} evidence",
            next_step="time it on a host that runs it natively",
        )
    if artifact.batch is not None and artifact.batch != plan.batch:
        raise VitExportError(
            "the timing plan's batch is not the artifact's", expected=str(artifact.batch), got=str(plan.batch)
        )


def require_same(verified: Attestation, timed: Attestation) -> None:
    """A verdict covers the runtime and the arithmetic that it was made with, so a latency reported with it must too."""
    expected, got = (f"{a.runtime} {a.version} computing in {a.precision}" for a in (verified, timed))
    if expected != got:
        raise VitExportError(
            "what would be timed is not what was verified",
            expected=expected,
            got=got,
            next_step="judge the artifact in the runtime that is to be timed",
        )


def _warm_up(session: Session, feed: Images, plan: TimingPlan) -> tuple[int, bool]:
    end = time.perf_counter_ns() + int(plan.warm_up_s * 1e9)
    previous, runs = float("inf"), 0
    while True:
        median = float(np.median([session.timed_ns(feed) for _ in range(_WINDOW)]))
        runs += _WINDOW
        if abs(median - previous) <= _STABLE_WITHIN * median:
            return runs, True
        if time.perf_counter_ns() > end:
            return runs, False
        previous = median
