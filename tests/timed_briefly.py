"""Latencies are measured for a tenth of a second, and files run alone once: what is done with them is what is tested.

A test of the measuring itself takes the real plan (`validation.timing`), or `in_all_processes`.
"""

import functools
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from export.device_kit import content
from export.pipeline import handover
from validation.timing.latency import TimingPlan
from validation.timing.spending import spending

_BRIEF = functools.partial(TimingPlan, warm_up_s=0.3, measure_s=0.1)


@contextmanager
def timed_briefly() -> Iterator[None]:
    """Inside the block, by exports of this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(handover, "TimingPlan", _BRIEF)
        patch.setattr(handover, "spending", functools.partial(spending, processes=1))
        yield


@contextmanager
def kits_time_briefly() -> Iterator[None]:
    """Inside the block, on devices, by kits that are written in it. A kit from elsewhere is not its folder's there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(content, "TimingPlan", _BRIEF)
        yield


@contextmanager
def in_all_processes() -> Iterator[None]:
    """Inside the block, a file is run alone as often as for users."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(handover, "spending", spending)
        yield
