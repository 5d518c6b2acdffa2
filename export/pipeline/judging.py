"""The stages of a job, each made and judged before the next starts; a rejected one is looked into."""

import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial

from efficientvit.errors import BrokenArtifact, VitExportError
from export.pipeline.making import Maker, failing_as
from export.pipeline.outcome import Outcome, StageResult
from export.pipeline.prepare import Prepared
from export.targets.onnx.calibration import calibration_images, too_few
from export.targets.onnx.mixed_precision import Holds, can_fall_back, costs_too_much, fall_back
from export.targets.target import Job, Stage
from export.workers import output_capture
from export.workers.progress import Progress
from runtimes.artifact import Artifact, Format
from runtimes.precision import Precision
from runtimes.registry import count_operators, native_runtime, runtime_for
from runtimes.runtime import Runtime
from validation.blame.artifact import blame_artifact
from validation.blame.ranking import Blame
from validation.blame.rewrite import blame_rewrite
from validation.judge import built, judge, within_quality
from validation.reference.reference import Reference
from validation.verdict import NotRun, Rejected, Verdict, VerifiedArtifact, status_of, unless_vacuous

_QUANTIZE = "quantize"


@dataclass(slots=True)
class Judging:
    """One model's jobs, one after the other. `defaults`: what ships is tried under its runtime's own settings too."""

    model: Prepared
    maker: Maker
    progress: Progress
    defaults: bool
    _shown: list[StageResult] = field(default_factory=list)
    _shared: dict[tuple[object, ...], StageResult] = field(default_factory=dict)

    def run(self, outcome: Outcome) -> None:
        """Run the stages until one fails or is rejected: the first that is rejected is the one to blame."""
        job, plan = outcome.job, outcome.job.plan
        before: Verdict | None = None
        tried = plan if outcome.rewrite is not None and outcome.rewrite.passed else ()
        for place, (stage, precision) in enumerate(tried, 1):
            self.progress.step(f"{outcome.slug}: {stage.name}")
            try:
                with output_capture.into(self.maker.log):
                    last = all(after.wraps for after, _ in plan[place:])
                    result = self._stage(stage, job, precision, before, last=last)
                    if self._converted_in_vain(outcome, result):
                        result = self._with_float_layers(outcome, result, last=last)
            except VitExportError as error:
                outcome.failed_stage, outcome.error = stage.name, error
                return
            outcome.stages.append(result)
            if not any(result is shown for shown in self._shown):  # one that two targets share is shown once
                self._shown.append(result)
                status = status_of(result.verdict)
                self.progress.stage(outcome.slug, stage.name, result.seconds, status, cached=result.cached)
            before = result.verdict
            if isinstance(before, Rejected):
                break
        self._blame(outcome)

    def _stage(
        self, stage: Stage, job: Job, precision: Precision, before: Verdict | None, *, last: bool
    ) -> StageResult:
        key = self._alike(stage, job, precision, last=last)
        if key is not None and key in self._shared:
            return self._shared[key]
        source = before.artifact if before is not None else None
        if source is not None and source.precision.quantized:  # what was left in float32 stays so
            precision = replace(precision, float_layers=source.precision.float_layers)
        made = self.maker.make(stage, job, precision, source)
        verdict = self._judged(stage, job, made.artifact, before, last=last)
        may_fall_back = job.int8 is not None and not job.int8.all_int8 and not stage.wraps
        if may_fall_back and source is not None and can_fall_back(verdict):
            with failing_as(stage.name, self.maker.shop.folder):
                reference = self.model.reference_for(verdict.artifact)
                holds = self._holds(reference, runtime_for(verdict.artifact.format), last=last)
                verdict = self._fallen_back(stage, job, verdict, source, holds, last=last)
        if job.int8 is not None and stage.name == _QUANTIZE:
            verdict = self._advised(job, verdict)
        verdict = unless_vacuous(verdict, self.model.check.failures, self.model.check.unseen)
        # What fell back depends on a budget that is none of the stage's: it is not kept.
        if not made.cached and verdict.artifact is made.artifact and not isinstance(verdict, Rejected):
            self.maker.cache.keep(stage, job, precision, source, made.artifact)
        result = StageResult(stage.name, verdict, made.seconds, _operators(verdict.artifact), made.cached)
        if key is not None:
            self._shared[key] = result
        return result

    def _alike(self, stage: Stage, job: Job, precision: Precision, *, last: bool) -> tuple[object, ...] | None:
        """What jobs have in common that take one file of this stage, judged once; None where no two of them do."""
        if stage.shared:
            # What ships is judged on labeled images too; what is on the way to something else isn't.
            return stage.name, job.batch, job.opset, last and self.model.labeled is not None
        return None if stage.reads is None else (stage.name, precision, last, repr(stage.reads(job)))

    def _holds(self, reference: Reference, runtime: Runtime, *, last: bool) -> Sequence[Holds]:
        """Whether a file is within the quality budget; and, where there are labeled images, within that of accuracy."""
        labeled = self.model.labeled if last else None
        asked = (None,) if labeled is None else (None, labeled)
        return [partial(within_quality, reference=reference, runtime=runtime, labeled=images) for images in asked]

    def _fallen_back(
        self, stage: Stage, job: Job, rejected: Verdict, source: Artifact, holds: Sequence[Holds], *, last: bool
    ) -> Verdict:
        """The verdict on the file with as many layers in float32 as it takes."""
        shop = self.maker.shop
        return fall_back(
            rejected,
            source,
            calibration_images(shop, job.calibrate),
            shop.path("float_layers", job, ".onnx"),
            holds=holds,
            judged=lambda artifact: self._judged(stage, job, artifact, None, last=last),
            step=lambda text: self.progress.step(f"{job.model}-{job.target.name}-int8: {text}"),
        )

    def _converted_in_vain(self, outcome: Outcome, result: StageResult) -> bool:
        """An IR that int8 costs too much, made of a Q/DQ file that passed.

        Accuracy is only measured of what ships, and OpenVINO does not round just where ONNX Runtime does.
        """
        int8, artifact = outcome.job.int8, result.verdict.artifact
        made_of_int8 = len(outcome.stages) > 1 and outcome.stages[-1].name == _QUANTIZE
        may = int8 is not None and not int8.all_int8 and made_of_int8
        return may and artifact.format == Format.OPENVINO and costs_too_much(result.verdict)

    def _with_float_layers(self, outcome: Outcome, rejected: StageResult, *, last: bool) -> StageResult:
        """It, converted from a file with as many layers in float32 as it takes, which takes that stage's place.

        Each file that is tried is converted: what counts is what comes of it.
        """
        job, quantized, equalized = outcome.job, outcome.stages[-1], outcome.stages[-2].artifact
        number = len(outcome.stages)
        (before, _), (stage, precision) = job.plan[number - 1 : number + 1]
        reference = self.model.reference_for(rejected.artifact, quantized.artifact)

        def converted(within: Holds, artifact: Artifact) -> bool:
            left = replace(precision, float_layers=artifact.precision.float_layers)
            return within(self.maker.make(stage, job, left, artifact).artifact)

        budgets = self._holds(reference, runtime_for(rejected.artifact.format), last=last)
        holds = [partial(converted, within) for within in budgets]
        with failing_as(stage.name, self.maker.shop.folder):
            verdict = self._fallen_back(before, job, quantized.verdict, equalized, holds, last=False)
        if isinstance(verdict, Rejected) or not verdict.artifact.precision.float_layers:
            return rejected
        verdict = unless_vacuous(self._advised(job, verdict), self.model.check.failures, self.model.check.unseen)
        outcome.stages[-1] = replace(quantized, verdict=verdict, operators=_operators(verdict.artifact))
        return self._stage(stage, job, precision, verdict, last=last)

    def _advised(self, job: Job, verdict: Verdict) -> Verdict:
        """Say so where an int8 file is over its budget, or nearly was, and few images were there to calibrate on."""
        advice = too_few(len(calibration_images(self.maker.shop, job.calibrate)))
        if advice is None or not (costs_too_much(verdict) or verdict.artifact.precision.float_layers):
            return verdict
        return replace(verdict, artifact=replace(verdict.artifact, notes=(*verdict.artifact.notes, advice)))

    def _judged(self, stage: Stage, job: Job, artifact: Artifact, before: Verdict | None, *, last: bool) -> Verdict:
        if artifact.format == Format.ENGINE and native_runtime(artifact.format).unavailable() is not None:
            match before:
                case VerifiedArtifact():
                    return built(artifact, before)
                case NotRun():
                    return replace(before, artifact=artifact)
        asked = self.model.reference.budgets
        budgets = replace(
            asked,
            readiness=job.options.readiness_budget if last else None,
            size_mb=asked.size_mb if last else None,
        )
        runtime = runtime_for(artifact.format, ships=stage.shared or job.target.format == artifact.format)
        reference = self.model.reference_for(artifact, before.artifact if before is not None else None)
        # What can't be run here is judged by what it is built from, and so is its accuracy.
        ships = last or (artifact.format == Format.NETWORK and native_runtime(Format.ENGINE).unavailable() is not None)
        labeled = self.model.labeled if ships else None
        defaults = last and self.defaults
        return judge(artifact, reference, runtime, budgets, defaults=defaults, labeled=labeled)

    def _blame(self, outcome: Outcome) -> None:
        """Find the layer of the rejected stage that is at fault."""
        if (stage := outcome.rejected_stage) is None:
            return
        self.progress.step(f"{outcome.slug}: looking for the layer to blame in '{stage}'")
        final, reference = outcome.final, self.model.reference
        outcome.blame = Blame((), note="looking for the layer failed: evidence/log.txt says how")
        with output_capture.into(self.maker.log), never_failing():
            if isinstance(final, Rejected):
                source = outcome.stages[-2].artifact if len(outcome.stages) > 1 else None
                outcome.blame = blame_artifact(final.artifact, reference, final.report.gates, source=source)
            else:
                outcome.blame = blame_rewrite(reference, image_input=outcome.job.image_input)


@contextmanager
def never_failing() -> Iterator[None]:
    """Explanations of a verdict must not change it, nor lose the artifact: their failure goes into the log."""
    try:
        yield
    except Exception:  # noqa: BLE001 - whatever it is: the verdict stands
        traceback.print_exc()


def _operators(artifact: Artifact) -> int | None:
    """None for a file that cannot be read; its verdict says so."""
    try:
        return count_operators(artifact)
    except BrokenArtifact:
        return None
