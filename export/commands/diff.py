"""`vit-export diff OLD NEW`: what changed between two releases of a model, as far as more than noise shows it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import numpy as np

from export.commands.differences import Diff
from export.commands.fail_on import PARITY, FailOn
from export.commands.recorded import Finding, recorded_differences
from export.folder.exported import Exported, open_exported, require_interface
from export.folder.manifest import PASSED
from export.workers.progress import Step
from runtimes.artifact import Artifact
from runtimes.interface import OUTPUT
from runtimes.registry import count_operators, read_ports, runtime_for
from runtimes.runtime import Evidence, Images, Mode, Runtime, Session
from validation.golden_run import run_golden
from validation.inputs.golden_set import GoldenSet, Kind
from validation.judge import judge
from validation.metrics import Float64, relative_error, top1_agreement
from validation.network import network_of
from validation.reference.floors import ordinary
from validation.reference.reference import Expected, Reference
from validation.timing.feed import timing_feed
from validation.timing.paired import Ratio, interleaved, recorded
from validation.verdict import Verdict, VerifiedArtifact, status_of


def diff(old: Path, new: Path, *, limits: FailOn = PARITY, time: bool = True, step: Step = lambda _: None) -> Diff:
    """Compare two exported folders: verdicts found anew, answers on the same images, size, operations, tools, latency.

    `limits`: what makes the comparison fail.

    Raises:
        BadFolder: one is no folder of an export.
        NothingToShip, ArtifactChanged: one holds nothing that may ship, or was changed.
    """
    pair = _Pair(open_exported(old), open_exported(new))
    for each in (pair.old, pair.new):
        require_interface(each)
    notes: list[str] = []
    findings = [*pair.made_of()]
    step("judging both")
    findings += pair.parity()
    step("the same images through both")
    findings += pair.agreement(notes)
    findings += pair.numbers()
    ratio = None
    if time:
        step("timing both in turns")
        ratio = pair.latency(notes)
        if ratio is not None and ratio.differs:
            interval = f"{ratio.low - 1:+.1%} to {ratio.high - 1:+.1%}"
            old_ms, new_ms = f"{ratio.old_ms:.3f} ms", f"{ratio.new_ms:.3f} ms"
            findings.append(Finding("latency", old_ms, new_ms, ratio.slower, ratio.median - 1, interval))
    return Diff(old, new, tuple(findings), ratio, tuple(notes), limits)


class _Pair:
    def __init__(self, old: Exported, new: Exported) -> None:
        self.old, self.new = old, new
        self._runtimes = (runtime_for(old.artifact.format), runtime_for(new.artifact.format))
        self._verdicts: tuple[Verdict, Verdict] | None = None

    def made_of(self) -> Iterator[Finding]:
        """Weights, tools and what an app feeds and gets."""
        yield from recorded_differences(self.old.manifest, self.new.manifest)
        old, new = (tuple(map(str, (*ports[0], *ports[1]))) for ports in map(read_ports, self._artifacts()))
        if old != new:
            yield Finding("interface", "; ".join(old), "; ".join(new), worse=True)

    def _artifacts(self) -> tuple[Artifact, Artifact]:
        return self.old.artifact, self.new.artifact

    def parity(self) -> Iterator[Finding]:
        """Both judged again, here and now, each against its own reference."""
        verdicts = tuple(
            judge(each.artifact, each.reference, runtime, each.budgets)
            for each, runtime in zip((self.old, self.new), self._runtimes, strict=True)
        )
        self._verdicts = (verdicts[0], verdicts[1])
        before, after = (
            f"{status_of(verdict)}, vacuous" if each.manifest.self_check.vacuous else status_of(verdict)
            for verdict, each in zip(self._verdicts, (self.old, self.new), strict=True)
        )
        good = after in PASSED  # an engine's network passed; what was not judged did not
        if before != after or not good:
            reason = getattr(verdicts[1], "reason", "")
            yield Finding("parity", before, after, worse=not good or before == "verified", detail=reason)

    def agreement(self, notes: list[str]) -> Iterator[Finding]:
        """The two on the same images: further apart than both budgets together, or other winners beyond a margin."""
        old, new = self.old.reference, self.new.reference
        if old.golden.preprocessing != new.golden.preprocessing:
            notes.append("answers were not compared: the two prepare images differently")
            return
        if _shapes(old) != _shapes(new):
            what = "classes" if old.gives_logits and new.gives_logits else "outputs"
            notes.append(f"answers were not compared: the two have other {what}")
            return
        if any(runtime.unavailable() is not None for runtime in self._runtimes):
            notes.append("answers were not compared: one of them cannot be run here")
            return
        # On the new one's images, the amplified ones left out: they are each model's own.
        asked = [row for row, kind in enumerate(new.golden.kinds) if kind in new.kinds]
        values: list[dict[str, Float64]] = []
        fed = []
        for each, runtime in zip((self.old, self.new), self._runtimes, strict=True):
            seen = each.reference if old.golden.sha256 == new.golden.sha256 else _on(each, self.new)
            with network_of(each.artifact) as network, runtime.open(network, Mode.SHIPPED) as session:
                run = run_golden(session, seen, each.artifact.batch or 1)
            values.append({name: found.astype(np.float64) for name, found in run.outputs.values.items()})
            fed.append(run.fed)
        finite = [np.all([np.isfinite(x).all(axis=1) for x in each.values()], axis=0) for each in values]
        judged = [row for row in asked if new.judged[row]]
        if broken := [new.golden.names[row] for row in judged if finite[0][row] and fed[1][row] > finite[1][row]]:
            yield Finding("agreement", "numbers", f"none on {broken[0]}", worse=True)
        rows = [row for row in judged if finite[0][row] and finite[1][row]]
        if not rows:
            notes.append("answers were not compared: there is no image that both can be fed and judged on")
            return
        for name in new.outputs:
            yield from self._apart(name, values[0][name][rows], values[1][name][rows], rows)

    def _apart(self, output: str, before: Float64, after: Float64, rows: Sequence[int]) -> Iterator[Finding]:
        """Of one output, what the two gave of these images of the new one's."""
        one, other, golden = self.old.reference.outputs[output], self.new.reference.outputs[output], self._golden
        budget = np.array([_budget(one, golden.kinds[row]) + _budget(other, golden.kinds[row]) for row in rows])
        error = relative_error(after, before)
        over, worst = error / budget, int((error / budget).argmax())
        same = top1_agreement(after, before, budget) if output == OUTPUT else None
        if over.max() > 1 or (same is not None and same.outside_margin):
            said = "no top-1: there are no classes"
            if same is not None:
                said = f"top-1 agrees on {same.agree} of {same.of}, {same.outside_margin} flips beyond the margin"
            what = "" if output == OUTPUT else f"{output} "
            apart = f"{what}apart by {error[worst]:.1e} on {golden.names[rows[worst]]}, {over.max():.2g} x both budgets"
            yield Finding("agreement", "", apart, worse=True, detail=said)

    @property
    def _golden(self) -> GoldenSet:
        return self.new.reference.golden

    def numbers(self) -> Iterator[Finding]:
        """Bytes and operations."""
        before, after = (sum(file.stat().st_size for file in each.files()) for each in self._artifacts())
        if before != after:
            text = (f"{before / 1e6:.2f} MB", f"{after / 1e6:.2f} MB")
            yield Finding("size", *text, worse=after > before, growth=after / before - 1)
        one, other = map(count_operators, self._artifacts())
        if one != other and one and other:
            yield Finding("operators", str(one), str(other), worse=other > one, growth=other / one - 1)

    def latency(self, notes: list[str]) -> Ratio | None:
        """In turns where both verified natively here; else by the samples that the exports recorded."""
        assert self._verdicts is not None
        if self.old.artifact.batch != self.new.artifact.batch:
            notes.append("latency was not compared: the two take other batches")
            return None
        one, other = (each.interface.feed for each in self._artifacts())
        if one != other:  # a file that resizes photos does an app's work as well
            notes.append(f"latency was not compared: the one has --input {one}, the other --input {other}")
            return None
        native = all(
            isinstance(verdict, VerifiedArtifact) and verdict.report.evidence is Evidence.NATIVE
            for verdict in self._verdicts
        )
        if native:
            openers = tuple(
                _opener(runtime, each) for each, runtime in zip((self.old, self.new), self._runtimes, strict=True)
            )
            return interleaved(openers[0], openers[1], (_feed(self.old), _feed(self.new)))
        timings = [each.manifest.timing for each in (self.old, self.new)]
        if not all(timing.measured for timing in timings):
            notes.append("latency was not compared: not both can be timed here, and not both were when exported")
            return None
        if self.old.manifest.host != self.new.manifest.host:
            notes.append("latency was not compared: the two were timed on different hosts")
            return None
        notes.append("latency is by the samples that the exports recorded: a busy host then looks like a change now")
        return recorded(timings[0].samples, timings[1].samples)


def _on(each: Exported, other: Exported) -> Reference:
    """The reference of one with the golden images of the other: only its inputs are used."""
    reference = other.reference
    return replace(reference, image_input=each.reference.image_input, precision=each.reference.precision)


def _shapes(reference: Reference) -> dict[str, int]:
    return {name: each.right.shape[1] for name, each in reference.outputs.items()}


def _budget(expected: Expected, kind: Kind) -> float:
    if expected.quality_budget is not None:
        return float(expected.quality_budget)
    known = ordinary(expected.floors)  # photos that only the other has: as its widest kind
    return max(expected.precision_budget(each) for each in ([kind] if kind in known else known))


def _opener(runtime: Runtime, each: Exported) -> Callable[[], AbstractContextManager[Session]]:
    return lambda: runtime.open(each.artifact, Mode.SHIPPED, 1)


def _feed(each: Exported) -> Images:
    images, batch = timing_feed(each.artifact, each.reference.golden), each.artifact.batch or 1
    return np.ascontiguousarray(np.take(images, range(batch), axis=0, mode="wrap"))
