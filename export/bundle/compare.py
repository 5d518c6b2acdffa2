"""`vit-export diff OLD NEW` of two bundles: their artifacts by name, as their manifests have them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.bundle.releases import read_release
from export.commands.fail_on import FailOn
from export.commands.recorded import Finding, recorded_differences
from export.folder.manifest import Manifest
from export.folder.records import PortRecord
from export.records import plain
from validation.timing.paired import recorded

ARTIFACTS = "artifacts"
"""The kind of finding that an artifact is new or gone."""


@dataclass(frozen=True, slots=True)
class BundleDiff:
    """What differs, by artifact, and what could not be compared; `same`: whose files are the same, byte for byte."""

    old: Path
    new: Path
    findings: Mapping[str, tuple[Finding, ...]]
    same: tuple[str, ...]
    notes: tuple[str, ...]

    def failures(self, limits: FailOn) -> dict[str, tuple[Finding, ...]]:
        """The findings that `--fail-on` forbids, by artifact."""
        failed = {name: tuple(each for each in own if each.fails(limits)) for name, own in self.findings.items()}
        return {name: own for name, own in failed.items() if own}

    def to_json(self, limits: FailOn, code: int) -> dict[str, Any]:
        """What `vit-export diff --json` prints of two bundles."""
        return {
            "old": str(self.old),
            "new": str(self.new),
            "artifacts": {
                name: [{**plain(each), "fails": each.fails(limits)} for each in own]
                for name, own in self.findings.items()
            },
            "same": list(self.same),
            "notes": list(self.notes),
            "exit_code": code,
        }


def diff_bundles(old: Path, new: Path) -> BundleDiff:
    """Compare what two bundles record. Nothing is run, and nothing is verified.

    Raises:
        BadInput: one cannot be read.
    """
    before, after = read_release(old).artifacts, read_release(new).artifacts
    findings: dict[str, tuple[Finding, ...]] = {}
    same, notes = [], []
    for name in sorted({*before, *after}):
        if name not in after:
            findings[name] = (Finding(ARTIFACTS, before[name].status, "gone", worse=True),)
        elif name not in before:
            findings[name] = (Finding(ARTIFACTS, "none", after[name].status, worse=False),)
        else:
            own: list[str] = []
            findings[name] = tuple(_between(before[name], after[name], own))
            notes += [f"{name}: {note}" for note in own]
            if _sha256(before[name]) == _sha256(after[name]):
                same.append(name)
    return BundleDiff(old, new, findings, tuple(same), tuple(notes))


def _sha256(manifest: Manifest) -> str | None:
    made = manifest.stages[-1].artifact
    return None if made is None else made.sha256


def _between(before: Manifest, after: Manifest, notes: list[str]) -> Iterator[Finding]:
    yield from recorded_differences(before, after)
    if (a := _interface(before)) != (b := _interface(after)):
        yield Finding("interface", a, b, worse=True)
    one, other = (f"{each.status}, {each.stages[-1].verdict.evidence} evidence" for each in (before, after))
    if one != other:
        strongest = [each.stages[-1].verdict.evidence for each in (before, after)]
        weaker = None not in strongest and not strongest[1].at_least(strongest[0])  # type: ignore[union-attr, arg-type]
        yield Finding("parity", one, other, worse=weaker or after.status not in ("verified", before.status))
    first, last = before.stages[-1], after.stages[-1]
    sizes = [each.artifact.bytes for each in (first, last) if each.artifact]
    if len(set(sizes)) == 2:
        a, b = (f"{each / 1e6:.2f} MB" for each in sizes)
        yield Finding("size", a, b, worse=sizes[1] > sizes[0], growth=sizes[1] / sizes[0] - 1)
    if (m := first.operators) and (n := last.operators) and m != n:
        yield Finding("operators", str(m), str(n), worse=n > m, growth=n / m - 1)
    yield from _latency(before, after, notes)


def _interface(manifest: Manifest) -> str:
    def said(port: PortRecord) -> str:
        return f"{port.name} {port.dtype} {' x '.join(map(str, port.shape))}".rstrip()

    return "; ".join(map(said, (*manifest.model.inputs, *manifest.model.outputs)))


def _latency(before: Manifest, after: Manifest, notes: list[str]) -> Iterator[Finding]:
    """By the samples that the exports recorded, on the same host and of the same work."""
    timings = before.timing, after.timing
    if not all(timing.samples for timing in timings):
        if any(timing.samples for timing in timings):
            notes.append("latency was not compared: only one of the two was timed")
        return
    work = [(each.host, each.model.batch, each.model.feed) for each in (before, after)]
    if work[0] != work[1]:
        notes.append("latency was not compared: other hosts, batches or inputs")
        return
    if any(timing.noisy is True for timing in timings):
        notes.append("latency was not compared: the samples of one were noisy")
        return
    ratio = recorded(timings[0].samples, timings[1].samples)
    if ratio.differs:
        interval = f"{ratio.low - 1:+.1%} to {ratio.high - 1:+.1%}, as recorded"
        old_ms, new_ms = f"{ratio.old_ms:.3f} ms", f"{ratio.new_ms:.3f} ms"
        yield Finding("latency", old_ms, new_ms, worse=ratio.slower, growth=ratio.median - 1, detail=interval)
