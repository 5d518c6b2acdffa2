"""Latencies of the candidates that this host runs natively: judged again here, then timed in turns."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from export.folder.exported import open_exported
from export.pipeline.finished import Finished
from export.workers import output_capture
from export.workers.progress import Step
from runtimes.registry import native_runtime
from runtimes.runtime import Evidence
from validation.judge import judge
from validation.timing.feed import timing_feed
from validation.timing.interleaved import Peer, in_turns
from validation.timing.latency import Timing
from validation.verdict import VerifiedArtifact, status_of, unless_vacuous


@dataclass(frozen=True, slots=True)
class Timed:
    """Of the finished exports, by their place: the latencies, and why the others have none."""

    timings: Mapping[int, Timing]
    reasons: Mapping[int, str]


def timed(exports: Sequence[Finished], threads: int, rounds: int, step: Step) -> Timed:
    """Every export that its own runtime runs here. A record is no reason to time a file: each is judged once more.

    Raises:
        ArtifactChanged: a file changed since.
    """
    peers: dict[int, Peer] = {}
    reasons: dict[int, str] = {}
    for place, each in enumerate(exports):
        step(f"{each.slug}: judged once more, before it is timed")
        entrant = _entrant(each, threads)
        if isinstance(entrant, Peer):
            peers[place] = entrant
        else:
            reasons[place] = entrant
    timings = in_turns(list(peers.values()), rounds, step)
    return Timed(dict(zip(peers, timings, strict=True)), reasons)


def _entrant(each: Finished, threads: int) -> Peer | str:
    """What is timed, or why it is not."""
    exported = open_exported(each.folder)
    artifact = exported.artifact
    runtime = native_runtime(artifact.format)
    if (absent := runtime.unavailable()) is not None:
        return absent
    if runtime.evidence is not Evidence.NATIVE:
        return f"{runtime.name} is no runtime of a device: a kit times it there"
    check = exported.manifest.self_check
    with output_capture.into(each.folder.parent / "log.txt"):
        verdict = judge(artifact, exported.reference, runtime, exported.budgets)
    verdict = unless_vacuous(verdict, check.failures, check.unseen)
    if not isinstance(verdict, VerifiedArtifact):
        return f"{status_of(verdict).replace('_', ' ')} when it was judged again: {getattr(verdict, 'reason', '')}"
    batch = artifact.batch or 1
    images = np.take(timing_feed(artifact, exported.reference.golden), range(batch), axis=0, mode="wrap")
    return Peer(verdict, runtime, np.ascontiguousarray(images), threads)
