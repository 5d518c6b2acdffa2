"""Figures from raw samples, with a clock that is written down."""

from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from efficientvit.errors import VitExportError
from efficientvit.size import square
from efficientvit.spec import model_spec
from runtimes import session
from runtimes.artifact import Artifact, Format
from runtimes.precision import Dtype
from runtimes.runtime import Array, Attestation, Evidence, Mode
from tests.runtimes.fake import FakeRuntime, constant
from validation.gates.result import GateResult
from validation.timing import latency
from validation.timing.latency import Timing, TimingPlan, benchmark
from validation.verdict import Report, VerifiedArtifact

ATTESTATION = Attestation("fake", "0", Dtype.FP32, 1, "none")
ANSWER = constant(np.zeros(10, np.float32))
IMAGES = np.arange(2, dtype=np.float32).reshape(2, 1, 1, 1) * np.ones((1, 3, 64, 64), np.float32)


@pytest.fixture
def verified(tmp_path: Path) -> VerifiedArtifact:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"a model")
    artifact = Artifact.on_disk(path, Format.ONNX, model_spec("m0", square(64), 10), made_by="trace", batch=None)
    passed = (GateResult("constants", 0, 0, ""),)
    return VerifiedArtifact(artifact, Report(artifact.sha256, Evidence.NATIVE, ATTESTATION, passed, (1,), None))


def _timing(samples_ms: Iterable[float], *, stable: bool = True) -> Timing:
    samples = tuple(int(1e6 * sample) for sample in samples_ms)
    return Timing(samples, TimingPlan(), ATTESTATION, 20, stable, 1)


def test_statistics_are_derived_from_the_samples() -> None:
    measured = _timing(range(101))
    assert measured.median_ms == 50
    assert measured.iqr_ms == 50
    assert (measured.percentile_ms(90), measured.percentile_ms(99)) == (90, 99)


def test_wide_quartiles_or_an_endless_warm_up_are_noisy() -> None:
    assert not _timing([10, 10, 10.4, 10.4]).noisy
    assert _timing([10, 10, 12, 12]).noisy
    assert _timing([10, 10, 10, 10], stable=False).noisy
    # One outlier is no noise: it is in the samples, and in p99.
    assert not _timing([10] * 50 + [900]).noisy


class _Clock:
    """Time passes only inside the runtime, by what is written down."""

    def __init__(self, durations_ms: Iterable[float]) -> None:
        self._durations = iter(durations_ms)
        self._last = 1.0
        self.now = 0

    def perf_counter_ns(self) -> int:
        return self.now

    def run(self, images: Array) -> Array:
        self._last = next(self._durations, self._last)
        self.now += int(1e6 * self._last)
        return ANSWER(images)


def _benchmark(verified: VerifiedArtifact, clock: _Clock, monkeypatch: pytest.MonkeyPatch, plan: TimingPlan) -> Timing:
    for reader in (latency, session):  # what lasts, and what a run takes
        monkeypatch.setattr(reader, "time", SimpleNamespace(perf_counter_ns=clock.perf_counter_ns))
    return benchmark(verified, FakeRuntime(clock.run), plan, IMAGES)


def test_warm_up_lasts_until_two_windows_agree(verified: VerifiedArtifact, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = _Clock([*[50] * 10, *[30] * 10, *[20] * 10, *[20.5] * 10, *[21] * 50])
    measured = _benchmark(verified, clock, monkeypatch, TimingPlan(warm_up_s=60, measure_s=0, least_samples=30))
    assert measured.warm_up_stable
    assert measured.warm_up_runs == 40
    assert measured.samples_ns == (21_000_000,) * 30


def test_warm_up_that_never_settles_ends_and_is_told(
    verified: VerifiedArtifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = _Clock(1.2 ** (i // 10) for i in range(1000))
    measured = _benchmark(verified, clock, monkeypatch, TimingPlan(warm_up_s=1, measure_s=0, least_samples=5))
    assert not measured.warm_up_stable
    assert measured.noisy


def test_at_least_so_long_and_so_many(verified: VerifiedArtifact, monkeypatch: pytest.MonkeyPatch) -> None:
    short = TimingPlan(warm_up_s=0, measure_s=0.1, least_samples=30)
    assert len(_benchmark(verified, _Clock([2] * 999), monkeypatch, short).samples_ns) == 50
    assert len(_benchmark(verified, _Clock([50] * 999), monkeypatch, short).samples_ns) == 30


def test_the_settings_that_ship_on_images_that_differ(verified: VerifiedArtifact) -> None:
    seen: list[list[float]] = []

    def script(images: Array) -> Array:
        seen.append([float(image[0, 0, 0]) for image in images])
        return ANSWER(images)

    runtime = FakeRuntime(script)
    plan = TimingPlan(threads=2, batch=3, warm_up_s=0, measure_s=0, least_samples=1)
    measured = benchmark(verified, runtime, plan, IMAGES)
    assert runtime.opened == [Mode.SHIPPED]
    assert measured.attestation.threads == 2
    assert seen[0] == [0, 1, 0]


def test_another_runtime_or_arithmetic_than_the_verified_one_is_not_timed(verified: VerifiedArtifact) -> None:
    for runtime in (FakeRuntime(ANSWER, name="other"), FakeRuntime(ANSWER, precision=Dtype.BF16)):
        with pytest.raises(VitExportError, match="not what was verified"):
            benchmark(verified, runtime, TimingPlan(), IMAGES)
