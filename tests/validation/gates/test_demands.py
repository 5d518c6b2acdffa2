"""Latency, load, memory and size against budgets: rejected beyond the noise, a warning within it."""

from dataclasses import replace

import pytest

from efficientvit.errors import BadOption
from validation.budgets import Budgets
from validation.gates.demands import latency_gate, load_gate, memory_gate, size_gate
from validation.trial import Alone, Spent

PROCESSES = ((30_000_000, 20_000_000), (31_000_000, 21_000_000), (40_000_000, 21_000_000))
STEADY = Spent((1_000_000,) * 60, tuple(Alone(load, 2_000_000, (1_000_000,), memory) for load, memory in PROCESSES))
NOISY = replace(STEADY, latency_ns=tuple(1_000_000 + 40_000 * (index % 7) for index in range(60)))


@pytest.mark.parametrize(
    ("gate", "least", "most"),
    [(latency_gate, 1.0, 1.0), (load_gate, 30.0, 40.0), (memory_gate, 20.0, 21.0)],
)
def test_what_is_over_its_budget_beyond_noise_is_rejected(gate: object, least: float, most: float) -> None:
    assert callable(gate)
    over, within = gate(STEADY, least * 0.999), gate(STEADY, most)
    assert not over.passed
    assert within.passed
    assert within.warning is None
    assert f"of at most {most:g}" in within.detail
    if least < most:
        between = gate(STEADY, (least + most) / 2)
        assert between.passed
        assert "on both sides of the budget" in str(between.warning)


def test_a_latency_is_rejected_by_the_lower_end_of_its_interval() -> None:
    low, high = NOISY.latency_interval_ms()
    assert low < NOISY.latency_ms <= high
    assert not latency_gate(NOISY, low * 0.999).passed
    unclear = latency_gate(NOISY, (low + NOISY.latency_ms) / 2)
    assert unclear.passed
    assert unclear.warning is not None
    assert latency_gate(NOISY, high).warning is None


def test_what_another_session_keeps_to_is_not_rejected() -> None:
    """Of one session the runs are alike: another's median is outside of what they tell."""
    low, high = NOISY.latency_interval_ms()
    quick, slow = (Alone(1, 1, (int(factor * 1e6),) * 9, 1) for factor in (0.8 * low, 1.2 * high))
    several = replace(NOISY, alone=(quick, slow))
    assert several.latency_interval_ms() == pytest.approx((0.8 * low, 1.2 * high), rel=1e-6)
    unclear = latency_gate(several, 0.9 * low)
    assert unclear.passed
    assert "on both sides of the budget" in str(unclear.warning)
    assert not latency_gate(several, 0.79 * low).passed
    assert not latency_gate(replace(NOISY, alone=(slow,)), 0.9 * low).passed


def test_size_has_no_noise() -> None:
    assert size_gate(9_300_000, 9.3).passed
    assert not size_gate(9_300_001, 9.3).passed


@pytest.mark.parametrize("name", ["latency_ms", "load_ms", "memory_mb", "size_mb"])
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_a_budget_that_nothing_meets_is_refused(name: str, value: float) -> None:
    with pytest.raises(BadOption, match="above 0"):
        Budgets(**{name: value})


def test_which_of_them_only_a_run_can_tell() -> None:
    assert Budgets(size_mb=1.0).spends == ()
    assert Budgets(latency_ms=1.0, memory_mb=1.0).spends == ("--latency-budget", "--memory-budget")
