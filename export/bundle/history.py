"""`vit-export history DIR...`: artifacts over time, and what got worse by more than noise."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from export.bundle.releases import Release, in_order, read_release
from export.folder.findings import nearest_of
from export.folder.manifest import Manifest
from export.folder.nearest import Nearest
from validation.accuracy.unpaired import unpaired_noise
from validation.metrics import medians_of_resamples, middle_of
from validation.timing.paired import LEAST, Ratio, recorded

Figure = Literal["size", "error", "accuracy", "latency"]

_CONFIDENCE = 99.9


@dataclass(frozen=True, slots=True)
class Latency:
    """Median of a batch, ms, with the interval that its samples allow for; `where`: the host, and what was timed."""

    median_ms: float
    low_ms: float
    high_ms: float
    noisy: bool
    where: str
    samples_ns: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Point:
    """One artifact in one release. `top1`: share of the images, and how many; None for what was not measured."""

    release: str
    status: str
    sha256: str
    bytes: int
    error: Nearest | None
    top1: tuple[float, int] | None
    latency: Latency | None
    errors: Mapping[tuple[str, str], float]


@dataclass(frozen=True, slots=True)
class Alarm:
    """A figure of an artifact that got worse from one release to the next."""

    artifact: str
    figure: Figure
    old: str
    new: str
    says: str


@dataclass(frozen=True, slots=True)
class History:
    """Artifacts by name, each with its points, the oldest first; what got worse; what could not be compared."""

    releases: tuple[str, ...]
    artifacts: Mapping[str, tuple[Point, ...]]
    alarms: tuple[Alarm, ...]
    notes: tuple[str, ...]

    def alarms_of(self, artifact: str) -> tuple[Alarm, ...]:
        """What got worse of one."""
        return tuple(each for each in self.alarms if each.artifact == artifact)

    def to_json(self) -> dict[str, Any]:
        """What `vit-export history --json` prints; without the samples."""
        return {
            "releases": list(self.releases),
            "artifacts": {name: [_point(each) for each in points] for name, points in self.artifacts.items()},
            "alarms": [asdict(each) for each in self.alarms],
            "notes": list(self.notes),
        }


def history(folders: Sequence[Path]) -> History:
    """What the releases in `folders` say of their artifacts.

    Raises:
        BadInput: one is no release.
    """
    releases = in_order([read_release(folder) for folder in folders])
    labels = _labels(releases)
    points: dict[str, list[Point]] = {}
    for label, release in zip(labels, releases, strict=True):
        for name, manifest in release.artifacts.items():
            points.setdefault(name, []).append(_of(label, manifest))
    alarms: list[Alarm] = []
    notes: list[str] = []
    for name, own in points.items():
        for old, new in pairwise(own):
            alarms += _alarms(name, old, new, _noise(own, new), notes)
    return History(
        tuple(labels), {name: tuple(own) for name, own in points.items()}, tuple(alarms), tuple(dict.fromkeys(notes))
    )


def _labels(releases: Sequence[Release]) -> list[str]:
    """Short, and each of one release alone."""
    for labels in (
        [each.label for each in releases],
        [f"{each.name} {each.version or ''}".strip() for each in releases],
        [str(each.folder) for each in releases],
    ):
        if len(set(labels)) == len(labels):
            return labels
    return [f"{number}: {each.folder}" for number, each in enumerate(releases, 1)]


def _of(release: str, manifest: Manifest) -> Point:
    last = manifest.stages[-1]
    assert last.artifact is not None, "an artifact that shipped was made"
    return Point(
        release=release,
        status=manifest.status,
        sha256=last.artifact.sha256,
        bytes=last.artifact.bytes,
        error=nearest_of(manifest),
        top1=None if manifest.accuracy is None else (manifest.accuracy.artifact.top1, manifest.accuracy.images),
        latency=_latency(manifest),
        errors={
            (name, f"{kind.kind} {kind.output}"): float(kind.worst) / float(kind.budget)
            for name, gate in last.verdict.gates.items()
            if gate is not None
            for kind in gate.kinds
            if float(kind.budget) > 0
        },
    )


def _latency(manifest: Manifest) -> Latency | None:
    timing = manifest.timing
    if not timing.samples:
        return None
    samples = np.array(timing.samples, np.float64)
    low, high = middle_of(medians_of_resamples(samples, np.random.default_rng(0)), _CONFIDENCE)
    host, effective = manifest.host, timing.effective
    threads = "" if isinstance(effective, msgspec.UnsetType) else f", {effective.threads} thread"
    return Latency(
        median_ms=float(np.median(samples)) / 1e6,
        low_ms=low / 1e6,
        high_ms=high / 1e6,
        noisy=timing.noisy is True,
        where=f"{host.cpu}, {host.cores} cores{threads}, batch {timing.batch}, {manifest.model.feed}",
        samples_ns=tuple(timing.samples),
    )


def _noise(points: Sequence[Point], new: Point) -> float:
    """By how much the medians of one and the same file differed on this host, as a share: what a run is worth there."""
    found = [each for each in points if each.latency and new.latency and each.latency.where == new.latency.where]
    same: dict[str, list[float]] = {}
    for each in found:
        assert each.latency is not None
        same.setdefault(each.sha256, []).append(each.latency.median_ms)
    return max((max(medians) / min(medians) - 1 for medians in same.values()), default=0.0)


def _alarms(name: str, old: Point, new: Point, noise: float, notes: list[str]) -> Iterator[Alarm]:
    for figure, says in (
        ("size", _larger(old, new)),
        ("error", _further(old, new)),
        ("accuracy", _less_accurate(old, new)),
        ("latency", _slower(name, old, new, noise, notes)),
    ):
        if says is not None:
            yield Alarm(name, figure, old.release, new.release, says)  # type: ignore[arg-type]


def _larger(old: Point, new: Point) -> str | None:
    growth = new.bytes / old.bytes - 1
    return f"{old.bytes / 1e6:.2f} to {new.bytes / 1e6:.2f} MB, {growth:+.1%}" if growth >= LEAST else None


def _further(old: Point, new: Point) -> str | None:
    """Nearer to its budget on nearly every kind of image: on a few of them errors move by chance."""
    same = [key for key in old.errors if key in new.errors and old.errors[key] > 0]
    if old.sha256 == new.sha256 or len(same) < 3 or old.error is None or new.error is None:
        return None
    ratios = np.array([new.errors[key] / old.errors[key] for key in same])
    low, _ = middle_of(medians_of_resamples(ratios, np.random.default_rng(0)), _CONFIDENCE)
    if not low >= 1 + LEAST:
        return None
    return f"{old.error} to {new.error}, larger by {low - 1:.0%} or more on the median of {len(same)} comparisons"


def _less_accurate(old: Point, new: Point) -> str | None:
    """By more than the numbers of images allow for, which are not paired here."""
    if old.top1 is None or new.top1 is None:
        return None
    noise = unpaired_noise(old.top1, new.top1)
    fall = old.top1[0] - new.top1[0]
    return f"{old.top1[0]:.2%} to {new.top1[0]:.2%}, noise {noise:.2%}" if fall > noise else None


def _slower(name: str, old: Point, new: Point, noise: float, notes: list[str]) -> str | None:
    one, other = old.latency, new.latency
    if one is None or other is None:
        return None
    between = f"{name}, {old.release} and {new.release}: latency was not compared"
    if one.where != other.where:
        notes.append(f"{between}: timed on {one.where}, and on {other.where}")
        return None
    if one.noisy or other.noisy:
        notes.append(f"{between}: the samples of one were noisy")
        return None
    ratio: Ratio = replace(recorded(one.samples_ns, other.samples_ns), noise=noise)
    if not ratio.slower:
        return None
    interval = f"{ratio.low - 1:+.1%} to {ratio.high - 1:+.1%}"
    return f"{one.median_ms:.3f} to {other.median_ms:.3f} ms, {ratio.median - 1:+.1%} ({interval}; noise {noise:.1%})"


def _point(point: Point) -> dict[str, Any]:
    latency, error = point.latency, point.error
    return {
        "release": point.release,
        "status": point.status,
        "sha256": point.sha256,
        "bytes": point.bytes,
        "error": None if error is None else {"gate": error.gate, "worst": error.worst, "budget": error.budget},
        "top1": None if point.top1 is None else {"share": point.top1[0], "images": point.top1[1]},
        "latency": None
        if latency is None
        else {
            "median_ms": latency.median_ms,
            "interval_ms": [latency.low_ms, latency.high_ms],
            "noisy": latency.noisy,
            "where": latency.where,
        },
    }
