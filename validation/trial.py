"""What is run of an artifact to judge it: each run is made when a gate first asks for it, and kept."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from runtimes.artifact import Artifact
from runtimes.interface import Ports
from runtimes.registry import read_ports
from runtimes.runtime import Answer, Attestation, Mode, Runtime, Session
from validation.accuracy.top1 import Accuracy, AccuracyTest
from validation.budgets import Budgets
from validation.golden_run import Outputs, Peaks, Run, run_golden
from validation.metrics import Float64, medians_of_resamples, middle_of
from validation.picture_run import PictureRun, picture_run
from validation.proof.outcome import Proof
from validation.reference.reference import Reference

DYNAMIC_BATCHES = (1, 3, 8)
"""The batch sizes at which a dynamic artifact is judged."""

_LABELED_IMAGES = 4
_CONFIDENCE = 99.0


@dataclass(frozen=True, slots=True)
class Tried:
    """One mode's runs at all batch sizes. `answers`: what a classifier said of some images, with its logits."""

    attestation: Attestation
    runs: Sequence[Run]
    answers: Sequence[tuple[str, Answer, Float64]]

    @property
    def outputs(self) -> list[Outputs]:
        """What each run gave."""
        return [run.outputs for run in self.runs]

    @property
    def fed(self) -> NDArray[np.bool_]:
        """The images that it could be fed."""
        everywhere: NDArray[np.bool_] = np.logical_and.reduce([run.fed for run in self.runs])
        return everywhere

    @property
    def peaks(self) -> Peaks:
        """The largest of all runs."""
        ordinary = [run.peaks.ordinary for run in self.runs if run.peaks.ordinary]
        amplified = [run.peaks.amplified for run in self.runs if run.peaks.amplified]
        return Peaks(
            max(ordinary, key=lambda p: p.value, default=None), max(amplified, key=lambda p: p.value, default=None)
        )


@dataclass(frozen=True, slots=True)
class ModuleTime:
    """One module of the model in a profiled run: nanoseconds a batch, and how many operators ran for it."""

    name: str
    ns: int
    operators: int


@dataclass(frozen=True, slots=True)
class Alone:
    """One process that loads and runs a file. Times in nanoseconds, `steady_ns` of the runs after the first.

    `memory_bytes`: by how much the most that it had resident exceeds what it had with the runtime and no file.
    """

    load_ns: int
    first_ns: int
    steady_ns: tuple[int, ...]
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Spent:
    """What running one artifact took. `latency_ns`: runs, nanoseconds per batch; `alone`: in processes of their own.

    `modules`: in one more process, which was profiled. Nothing where the runtime is not run so.
    """

    latency_ns: tuple[int, ...]
    alone: tuple[Alone, ...] = ()
    modules: tuple[ModuleTime, ...] = ()

    @property
    def latency_ms(self) -> float:
        """Median, milliseconds per batch."""
        return float(np.median(self.latency_ns)) / 1e6

    def latency_interval_ms(self) -> tuple[float, float]:
        """From the least to the largest that the median may be, milliseconds per batch.

        What holds this session's with a confidence of 99 % (bootstrap), and every other process's own: one session's
        runs are alike, and from session to session medians differ by more than they tell.
        """
        samples = np.array(self.latency_ns, np.float64) / 1e6
        own = middle_of(medians_of_resamples(samples, np.random.default_rng(0)), _CONFIDENCE)
        found = (*own, *(float(np.median(each.steady_ns)) / 1e6 for each in self.alone))
        return min(found), max(found)

    @property
    def load_ms(self) -> float | None:
        """Median over the processes, milliseconds; None where there were none."""
        return _median([each.load_ns / 1e6 for each in self.alone])

    @property
    def first_ms(self) -> float | None:
        """Median over the processes, milliseconds; None where there were none."""
        return _median([each.first_ns / 1e6 for each in self.alone])

    @property
    def memory_mb(self) -> float | None:
        """Median over the processes, MB (10^6 bytes); None where there were none."""
        return _median([each.memory_bytes / 1e6 for each in self.alone])


@dataclass(eq=False)
class Trial:
    """One artifact with all that it is held against. `labeled`: images on which its accuracy is measured.

    `whole`: the file that ships, where `artifact` is the network in it. `spent`: what running it took, once measured.

    Every property raises StageFailed where the runtime refuses the file.
    """

    artifact: Artifact
    reference: Reference
    runtime: Runtime
    budgets: Budgets = field(default_factory=Budgets)
    labeled: AccuracyTest | None = None
    dynamic_batches: tuple[int, ...] = DYNAMIC_BATCHES
    whole: Artifact | None = None
    spent: Spent | None = None

    @property
    def file(self) -> Artifact:
        """What ships."""
        return self.artifact if self.whole is None else self.whole

    @property
    def wrapped(self) -> bool:
        """There is something around the network in the file."""
        return self.whole is not None

    @property
    def batches(self) -> tuple[int, ...]:
        """The batch sizes that it is run at."""
        return (self.artifact.batch,) if self.artifact.batch else self.dynamic_batches

    @cached_property
    def ports(self) -> Ports:
        """Inputs and outputs, as the file has them."""
        return read_ports(self.file)

    @cached_property
    def pictured(self) -> PictureRun:
        """What a file gave of images that has something around its network."""
        return picture_run(self.file, self.artifact, self.reference, self.runtime)

    @cached_property
    def proof(self) -> Proof:
        """Whether the file's program is the deploy form's."""
        from validation.proof.identity import prove

        return prove(self.artifact, self.reference.constants)

    @cached_property
    def oracle(self) -> Tried:
        """In float32 arithmetic, optimizations off."""
        return self._tried(Mode.ORACLE)

    @cached_property
    def shipped(self) -> Tried:
        """Under the settings that ship."""
        return self._tried(Mode.SHIPPED)

    @cached_property
    def defaults(self) -> Tried:
        """Under the runtime's own settings, at the first batch size."""
        return self._tried(Mode.DEFAULTS)

    @cached_property
    def judged(self) -> Reference:
        """The reference, on the images that the artifact could be fed. Only an image input cannot be fed them all."""
        if not self.artifact.interface.image_input:  # nothing has to be run to know that
            return self.reference
        return self.reference.only(self.oracle.fed & self.shipped.fed)

    @cached_property
    def accuracy(self) -> Accuracy | None:
        """On the labeled images, if there are any."""
        if self.labeled is None:
            return None
        return self.labeled.of(self.artifact, self.runtime, self.judged.classifier.error_allowed)

    def _tried(self, mode: Mode) -> Tried:
        batches = self.batches[:1] if mode is Mode.DEFAULTS else self.batches
        with self.runtime.open(self.artifact, mode) as session:
            runs = [run_golden(session, self.reference, batch) for batch in batches]
            labeled = bool(self.artifact.interface.labels) and mode is Mode.SHIPPED
            return Tried(session.attestation, runs, _answers(session, self.reference, runs[0]) if labeled else ())


def _answers(session: Session, reference: Reference, run: Run) -> list[tuple[str, Answer, Float64]]:
    golden = reference.golden
    rows = [row for row, member in enumerate(golden.members) if member.has_pixels and reference.judged[row]]
    chosen = rows[:: max(1, len(rows) // _LABELED_IMAGES)][:_LABELED_IMAGES]
    return [
        (
            golden.names[row],
            session.classify(golden.members[row].data[None] if reference.image_input else golden.images[[row]]),
            run.outputs.logits[row].astype(np.float64),
        )
        for row in chosen
    ]


def _median(values: Sequence[float]) -> float | None:
    return float(np.median(values)) if values else None
