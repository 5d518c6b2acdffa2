"""What a model computes, and its share of what a core can."""

import pytest

from efficientvit.size import square
from efficientvit.spec import MODELS, model_spec
from export.bench import work
from export.bench.work import Watched, macs_of, share
from runtimes.precision import Dtype
from validation.timing.limit import Limit

FLOAT = Limit(Dtype.FP32, 100e9, "a library", (1, 2, 3))


@pytest.mark.parametrize("name", ["m1", "m2", "m3", "m4", "m5"])
def test_it_counts_what_the_authors_published(name: str) -> None:
    assert macs_of(MODELS[name]) / 1e6 == pytest.approx(MODELS[name].paper.mflops, abs=0.6)


def test_a_larger_image_is_more_work() -> None:
    assert macs_of(model_spec("m1", square(448))) > 3.5 * macs_of(MODELS["m1"])


def test_the_share_is_of_all_threads_and_of_the_rows_own_arithmetic() -> None:
    limits = {Dtype.FP32: FLOAT}
    assert share(limits, "fp32", 50e9, 1) == 0.5
    assert share(limits, "fp32", 50e9, 2) == 0.25
    assert share(limits, "int8", 50e9, 1) is None


def test_the_better_of_two_measurements_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    speeds = iter((100e9, 300e9, 200e9))
    monkeypatch.setattr(
        work, "measured_limits", lambda: {Dtype.FP32: Limit(Dtype.FP32, next(speeds), "a library", (1, 2, 3))}
    )
    core = Watched()
    for _ in range(3):
        core.measure()
    assert core.limits[Dtype.FP32].operations_per_s == 300e9
