"""Two artifacts timed against each other, so that a noisy host does not decide which is faster.

Rounds: in each both are opened anew, since where a session's memory lies moves its speed by a per cent or two for as
long as it lives; within a round they take turns, block by block, since a busy host slows both. A difference is one
only if a bootstrap interval over the rounds leaves no room for none.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np

from runtimes.base import Images, Session
from validation.metrics import Float64

ROUNDS = 12
_BLOCKS, _RUNS = 6, 5
_CONFIDENCE = 99.9
_RESAMPLES = 4000
LEAST = 0.02
"""A smaller difference is never called one: compiling, caches and memory move a session's speed by as much."""

Opener = Callable[[], AbstractContextManager[Session]]


@dataclass(frozen=True, slots=True)
class Ratio:
    """Time of the new over time of the old, and the interval that holds it with a confidence of 99.9 %."""

    median: float
    low: float
    high: float
    old_ms: float
    new_ms: float
    interleaved: bool

    @property
    def differs(self) -> bool:
        """The interval leaves 1 out, and the difference is not below what sessions of one file differ by."""
        return not self.low <= 1 <= self.high and abs(self.median - 1) >= LEAST

    @property
    def slower(self) -> bool:
        """By more than noise."""
        return self.differs and self.median > 1


def interleaved(old: Opener, new: Opener, feeds: tuple[Images, Images], rounds: int = ROUNDS) -> Ratio:
    """Run both in turns; the order within a round and of the rounds alternates."""
    ratios: list[float] = []
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds):
        with old() as first, new() as second:
            pair = ((first, feeds[0], 0), (second, feeds[1], 1))
            order = pair if number % 2 == 0 else pair[::-1]
            for session, feed, _ in order:  # both warm before either is timed
                for _ in range(_RUNS):
                    session.timed_ns(feed)
            blocks: tuple[list[float], list[float]] = ([], [])
            for block in range(_BLOCKS):
                for session, feed, which in order if block % 2 == 0 else order[::-1]:
                    blocks[which].append(float(np.median([session.timed_ns(feed) for _ in range(_RUNS)])))
            ratios.append(float(np.median(np.array(blocks[1]) / np.array(blocks[0]))))
            for which in (0, 1):
                times[which].append(float(np.median(blocks[which])))
    low, high = _interval(np.array(ratios))
    old_ms, new_ms = (float(np.median(each)) / 1e6 for each in times)
    return Ratio(float(np.median(ratios)), low, high, old_ms, new_ms, interleaved=True)


def recorded(old_ns: Sequence[int], new_ns: Sequence[int]) -> Ratio:
    """From samples that were taken at another time: an interval of the ratio of their medians."""
    rng = np.random.default_rng(0)
    old, new = np.array(old_ns, np.float64), np.array(new_ns, np.float64)

    def medians(
        samples: Float64,
    ) -> Float64:
        return np.asarray(np.median(rng.choice(samples, (_RESAMPLES, len(samples))), axis=1))

    ratios = medians(new) / medians(old)
    tail = (100 - _CONFIDENCE) / 2
    low, high = np.percentile(ratios, [tail, 100 - tail])
    old_ms, new_ms = float(np.median(old)) / 1e6, float(np.median(new)) / 1e6
    return Ratio(new_ms / old_ms, float(low), float(high), old_ms, new_ms, interleaved=False)


def _interval(ratios: Float64) -> tuple[float, float]:
    """Of the median over the rounds, by the bootstrap."""
    rng = np.random.default_rng(0)
    medians = np.median(rng.choice(ratios, (_RESAMPLES, len(ratios))), axis=1)
    tail = (100 - _CONFIDENCE) / 2
    low, high = np.percentile(medians, [tail, 100 - tail])
    return float(low), float(high)
