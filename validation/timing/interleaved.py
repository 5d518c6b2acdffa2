"""Latencies of several verified artifacts from one run, in turns, so that a busy host slows all of them alike.

Rounds, as in `validation.timing.paired`: in each, every artifact is opened anew, since where a session's memory lies
moves its speed for as long as it lives, and who is first changes. Not all are open at once: what one leaves in
the caches would be another's cost, and no app runs them so.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from runtimes.host.machine import peak_rss_bytes
from runtimes.runtime import Images, Mode, Runtime
from validation.timing.latency import Timing, TimingPlan, require_same, require_timeable
from validation.verdict import VerifiedArtifact

ROUNDS = 7
_BLOCK_NS = 60e6
_LEAST, _MOST = 5, 60
_WARM_UP = 3


@dataclass(frozen=True, slots=True, eq=False)
class Peer:
    """One artifact, the runtime that verified it, and the images that it is fed, a batch."""

    verified: VerifiedArtifact
    runtime: Runtime
    images: Images
    threads: int = 1


def in_turns(
    peers: Sequence[Peer], rounds: int = ROUNDS, step: Callable[[str], None] = lambda _: None
) -> tuple[Timing, ...]:
    """Each peer's samples, from all rounds.

    Raises:
        ArtifactChanged: a file is not the one that was verified.
        VitExportError: one has no native verdict, or runs in another arithmetic than it was verified in.
    """
    plans = [TimingPlan(each.threads, len(each.images)) for each in peers]
    for each, plan in zip(peers, plans, strict=True):
        require_timeable(each.verified, each.runtime, plan)
    samples: list[list[int]] = [[] for _ in peers]
    warm_ups = [0 for _ in peers]
    for number in range(rounds):
        order = [(number + place) % len(peers) for place in range(len(peers))]
        for done, index in enumerate(order if number % 2 == 0 else order[::-1]):
            step(f"timing in turns, round {number + 1} of {rounds}: {done + 1} of {len(order)}")
            own, before = _block(peers[index])
            samples[index] += own
            warm_ups[index] += before
    return tuple(
        Timing(tuple(own), plan, each.verified.attestation, before, True, peak_rss_bytes())
        for own, plan, each, before in zip(samples, plans, peers, warm_ups, strict=True)
    )


def _block(each: Peer) -> tuple[list[int], int]:
    """One session's samples, and how many runs went before them: the first allocates, and of long ones it is enough."""
    feed = each.images
    with each.runtime.open(each.verified.artifact, Mode.SHIPPED, each.threads) as session:
        require_same(each.verified.attestation, session.attestation)
        warm_up: list[int] = []
        while len(warm_up) < _WARM_UP and sum(warm_up) < _BLOCK_NS:
            warm_up.append(session.timed_ns(feed))
        runs = int(np.clip(_BLOCK_NS / max(min(warm_up), 1), _LEAST, _MOST))
        return [session.timed_ns(feed) for _ in range(runs)], len(warm_up)
