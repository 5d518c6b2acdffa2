"""An outcome into its folder: timed where it may be, then artifact, evidence, manifest, report and device kit."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from export.device_kit.app_code import write_app
from export.device_kit.formats import has_kit
from export.device_kit.kit import write_kit
from export.folder import atomic
from export.folder.layout import LABELS, MANIFEST, REJECTED, SETTINGS, SHIP, write_json
from export.pipeline import manifest
from export.pipeline.judging import never_failing
from export.pipeline.outcome import Outcome
from export.pipeline.prepare import Prepared
from export.report.report import Evidence as ReportEvidence
from export.report.report import write_report
from export.request.request import Request
from export.targets.target import Job
from export.workers import output_capture
from export.workers.progress import Progress
from runtimes.artifact import Artifact, Format, digest
from runtimes.coreml.evaluated import MilEvaluator
from runtimes.interface import OUTPUT
from runtimes.registry import native_runtime, runtime_for
from runtimes.runtime import Evidence, Mode
from validation.blame.artifact import blame_artifact
from validation.reference import file
from validation.timing.feed import timing_feed
from validation.timing.latency import TimingPlan, benchmark
from validation.timing.spending import held_to, not_measured, spending
from validation.verdict import Built, VerifiedArtifact

BeforePublishing = Callable[[Outcome, Path], None]
"""Is shown each outcome and its complete folder."""


@dataclass(frozen=True, slots=True)
class Handover:
    """Of one model's outcomes. `log`: what converters printed; `command`: for the manifest."""

    request: Request
    model: Prepared
    log: Path
    progress: Progress
    command: tuple[str, ...]
    before_publishing: BeforePublishing | None

    def can_be_timed(self, outcome: Outcome) -> bool:
        """Only a verified artifact, only in its real runtime; `untimed` says why not."""
        final = outcome.final
        outcome.untimed = None
        if outcome.error is not None:
            stage = outcome.failed_stage
            outcome.untimed = f"stage '{stage}' failed; what an earlier stage made is not what was asked for"
        elif isinstance(final, Built):
            outcome.untimed = "it was built here and not run; only the real runtime can be timed"
        elif not isinstance(final, VerifiedArtifact):
            outcome.untimed = "it was not verified, and nothing is timed before it is"
        elif not self.request.time:
            outcome.untimed = "--no-time"
        elif final.report.evidence is not Evidence.NATIVE:
            outcome.untimed = f"verified by {final.report.evidence} evidence; only the real runtime can be timed"
        return outcome.untimed is None

    def time(self, outcome: Outcome) -> None:
        """Time what can be timed, and hold it to the budgets for what running may take."""
        budgets = self.request.budgets
        if not self.can_be_timed(outcome):
            if outcome.error is None and budgets.spends and isinstance(outcome.final, VerifiedArtifact | Built):
                outcome.settle(not_measured(outcome.final, budgets.spends, str(outcome.untimed)))
            return
        verified = outcome.final
        assert isinstance(verified, VerifiedArtifact)
        self.progress.step(f"{outcome.slug}: timing")
        artifact = verified.artifact
        images, runtime = timing_feed(artifact, self.model.reference.golden), runtime_for(artifact.format)
        with output_capture.into(self.log):
            plan = TimingPlan(batch=artifact.batch or 1)
            timing = outcome.timing = benchmark(verified, runtime, plan, images)

            def step(text: str) -> None:
                self.progress.step(f"{outcome.slug}: {text}")

            spent = outcome.spent = spending(verified, runtime, timing, images, step)
        outcome.settle(held_to(budgets, verified, spent, self.model.reference_for(artifact), runtime))

    def write(self, outcome: Outcome) -> None:
        """Fill a folder and publish it. A rejected or failed job leaves the last good folder as it is.

        Raises:
            BadOutput: it cannot be written.
        """
        self.progress.step(f"{outcome.slug}: writing")
        status, out = outcome.status, self.request.out
        good = status in ("verified", "built", "not_run")
        final = out / (outcome.slug if good else f"{outcome.slug}.{status}")
        with atomic.new_folder(out, outcome.slug) as partial, atomic.writing(final):
            self._fill(partial, outcome, good=good)
            if self.before_publishing is not None:
                self.before_publishing(outcome, partial)
            atomic.publish(partial, final)
            if good:
                atomic.remove_failures(out, outcome.slug)
        outcome.folder = final

    def _fill(self, folder: Path, outcome: Outcome, *, good: bool) -> None:
        evidence, placed = folder / "evidence", None
        evidence.mkdir()
        if outcome.final is not None:
            placed = self._place(outcome.job, outcome.final.artifact, folder, SHIP if good else REJECTED)
        outcome.record = manifest.build(outcome, self.model, self.command, self.request.required, placed)
        write_json(folder / MANIFEST, outcome.record)
        if self.request.report:
            self.progress.step(f"{outcome.slug}: report")
            with output_capture.into(self.log), never_failing():
                write_report(folder, outcome.record, self._evidence(outcome))
        if self.log.exists():
            shutil.copyfile(self.log, evidence / "log.txt")
        if good and self.request.kit and outcome.final is not None:
            artifact = outcome.final.artifact
            write_app(folder, artifact, native_runtime(artifact.format).shipped_settings(artifact))
        kit = has_kit(outcome.job.target.format, outcome.job.batch) and outcome.job.head.gives_logits
        if good and self.request.kit and kit:
            self.progress.step(f"{outcome.slug}: device kit")
            self._write_kit(folder, outcome)

    def _place(self, job: Job, artifact: Artifact, folder: Path, place: str) -> manifest.Placed:
        """Copy the artifact, its settings and its reference."""
        target, evidence = folder / place, folder / "evidence"
        target.mkdir()
        artifact.copied_to(target)
        write_json(target / SETTINGS, dict(native_runtime(artifact.format).shipped_settings(artifact)))
        if artifact.interface.labels:
            text = "".join(f"{label}\n" for label in artifact.interface.labels)
            (target / LABELS).write_text(text, encoding="utf-8")
        for name in job.target.evidence if artifact.format == job.target.format else ():
            shutil.copyfile(artifact.path.with_name(name), evidence / name)
        file.save(self.model.reference_for(artifact), evidence)
        return manifest.Placed(place, digest(target / SETTINGS), digest(evidence / file.REFERENCE))

    def _evidence(self, outcome: Outcome) -> ReportEvidence:
        """What the report shows beyond the manifest; for a file that can't be opened there is little."""
        final = outcome.final
        report = final.report if final is not None else None
        if final is None or report is None or report.outputs is None:
            return ReportEvidence()
        layers = outcome.blame.layers if outcome.blame is not None else ()
        if outcome.blame is None and final.artifact.format != Format.ENGINE:
            layers = blame_artifact(final.artifact, self.model.reference, ()).layers
        reference, labels = self.model.reference_for(final.artifact), final.artifact.interface.labels
        labels = labels or self.model.weights.labels
        logits = report.outputs.logits if reference.gives_logits else None
        return ReportEvidence(reference, logits, labels, layers)

    def _write_kit(self, folder: Path, outcome: Outcome) -> None:
        """What checks it on its device; the picture of a Core ML kit gets its budget from the evaluator."""
        assert outcome.final is not None
        if outcome.final.artifact.format != Format.COREML:
            write_kit(folder)
            return
        with MilEvaluator().open(outcome.final.artifact, Mode.ORACLE) as session:
            write_kit(
                folder, logits_of=lambda pixels: np.concatenate([session(image[None])[OUTPUT] for image in pixels])
            )
