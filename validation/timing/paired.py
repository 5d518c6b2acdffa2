"""Two artifacts timed against each other, so that a noisy host does not decide which is faster.

Rounds: in each they are opened anew, since where a session's memory lies moves its speed by a per cent or two for as
long as it lives; within a round they take turns, block by block, since a busy host slows all. The old artifact is
opened twice: a difference counts only if a bootstrap interval over the rounds excludes both zero and what the two
sessions of the old artifact differ by.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass

import numpy as np

from runtimes.runtime import Images, Session
from validation.metrics import RESAMPLES, Float64, medians_of_resamples, middle_of

ROUNDS = 20
_BLOCKS, _RUNS, _BLOCK_NS = 6, 5, 15e6
_CONFIDENCE = 99.9
LEAST = 0.02
"""A smaller difference is never called one: compiling, caches and memory move a session's speed by as much."""

Opener = Callable[[], AbstractContextManager[Session]]


@dataclass(frozen=True, slots=True)
class Ratio:
    """Time of the new over time of the old, and the interval that holds it with a confidence of 99.9 %.

    `noise`: by how much two sessions of the old differed meanwhile, as a share, with the same confidence.
    """

    median: float
    low: float
    high: float
    old_ms: float
    new_ms: float
    interleaved: bool
    noise: float = 0.0

    @property
    def differs(self) -> bool:
        """The interval leaves out 1 and what two sessions of one file differed by at the same time."""
        beyond = self.low > 1 + self.noise or self.high < 1 / (1 + self.noise)
        return beyond and abs(self.median - 1) >= LEAST

    @property
    def slower(self) -> bool:
        """By more than noise."""
        return self.differs and self.median > 1


def interleaved(old: Opener, new: Opener, feeds: tuple[Images, Images], rounds: int = ROUNDS) -> Ratio:
    """Run the new, the old, and the old again, in turns: the difference of the last two is this host's noise.

    Who is opened first, and whose turn is first, changes from round to round.
    """
    ratios, controls = [], []
    times: dict[str, list[float]] = {"old": [], "new": [], "again": []}
    openers = {"old": (old, feeds[0]), "new": (new, feeds[1]), "again": (old, feeds[0])}
    names = list(openers)
    for number in range(rounds):
        order = [names[(number + i) % 3] for i in range(3)]
        order = order if number % 2 == 0 else order[::-1]
        with ExitStack() as stack:
            sessions = {name: stack.enter_context(openers[name][0]()) for name in order}
            runs = {name: _runs_of(sessions[name], openers[name][1]) for name in order}  # and warms it
            blocks: dict[str, list[float]] = {name: [] for name in names}
            for block in range(_BLOCKS):
                for name in order if block % 2 == 0 else order[::-1]:
                    feed = openers[name][1]
                    # The fastest of a block: what else the host does can only add to it.
                    blocks[name].append(float(min(sessions[name].timed_ns(feed) for _ in range(runs[name]))))
        one, two, other = (np.array(blocks[name]) for name in ("old", "again", "new"))
        ratios.append(float(np.median(other / np.sqrt(one * two))))
        controls.append(float(np.median(two / one)))
        for name in names:
            times[name].append(float(np.median(blocks[name])))
    low, high = _interval(np.array(ratios))
    noise = max(abs(np.log(bound)) for bound in _interval(np.array(controls)))
    old_ms, new_ms = (float(np.median(times[name])) / 1e6 for name in ("old", "new"))
    return Ratio(
        float(_middle(np.array(ratios))), low, high, old_ms, new_ms, interleaved=True, noise=float(np.expm1(noise))
    )


def _runs_of(session: Session, feed: Images) -> int:
    """How many runs make a block of this session."""
    fastest = min(session.timed_ns(feed) for _ in range(_RUNS))
    return int(np.clip(_BLOCK_NS / max(fastest, 1), _RUNS, 10 * _RUNS))


def recorded(old_ns: Sequence[int], new_ns: Sequence[int]) -> Ratio:
    """From samples that were taken at another time: an interval of the ratio of their medians."""
    rng = np.random.default_rng(0)
    old, new = np.array(old_ns, np.float64), np.array(new_ns, np.float64)
    low, high = middle_of(medians_of_resamples(new, rng) / medians_of_resamples(old, rng), _CONFIDENCE)
    old_ms, new_ms = float(np.median(old)) / 1e6, float(np.median(new)) / 1e6
    return Ratio(new_ms / old_ms, low, high, old_ms, new_ms, interleaved=False)


def _interval(ratios: Float64) -> tuple[float, float]:
    """Of the mean of the middle half of the rounds, by the bootstrap."""
    resampled = np.random.default_rng(0).choice(ratios, (RESAMPLES, len(ratios)))
    return middle_of(_middle(resampled), _CONFIDENCE)


def _middle(samples: Float64) -> Float64:
    """(…, n) -> (…): the interquartile mean, which an outlier doesn't move and which wastes less than the median."""
    ordered = np.sort(samples, axis=-1)
    quarter = ordered.shape[-1] // 4
    middle: Float64 = ordered[..., quarter : ordered.shape[-1] - quarter].mean(axis=-1)
    return middle
