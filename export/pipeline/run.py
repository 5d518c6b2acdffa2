"""The main job: make what was asked for, check every stage before the next starts, time only what passed, hand over."""

import contextlib
import os
import shutil
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from efficientvit.errors import BrokenArtifact, StageFailed, VitExportError
from efficientvit.images.preprocessing import Preprocessing
from efficientvit.weights.source import Weights, find_weights
from export.cache.store import Cache
from export.device_kit.formats import has_kit
from export.device_kit.kit import write_kit
from export.folder import atomic as folder
from export.folder.layout import LABELS, MANIFEST, REJECTED, SETTINGS, SHIP, write_json
from export.pipeline import manifest
from export.pipeline.outcome import Outcome, Rewrite, StageResult
from export.pipeline.stage_cache import StageCache, evaluations
from export.pipeline.stages import SHARED, STAGES, Workshop
from export.progress import Progress
from export.report.report import Evidence as ReportEvidence
from export.report.report import write_report
from export.request.evaluation import accuracy_test
from export.request.request import Job, Request, slug
from export.targets.onnx.mixed_precision import can_fall_back, fall_back
from export.targets.tensorrt.build import LAYERS
from export.workers import output_capture
from export.workers.exclusive import Beside
from export.workers.gc_freeze import collector_at_rest
from runtimes.artifact import Artifact, Format, digest
from runtimes.coreml.evaluated import MilEvaluator
from runtimes.coreml.neural_engine import readiness
from runtimes.host.threads import REFERENCE_THREADS, torch_threads
from runtimes.operators import count_operators
from runtimes.precision import Precision
from runtimes.registry import native_runtime, runtime_for
from runtimes.runtime import Evidence, Mode, Runtime
from validation.blame.artifact import blame_artifact
from validation.blame.ranking import Blame
from validation.blame.rewrite import blame_rewrite
from validation.budgets import Budgets
from validation.gates.rewrite import rewrite_gates
from validation.inputs.golden_set import GoldenSet, merge
from validation.inputs.photos import photos
from validation.inputs.synthetic import synthetic
from validation.int8.ranges import with_calibration
from validation.judge import built, judge, within_quality
from validation.reference import file
from validation.reference.memo import remembering
from validation.timing.latency import Timing, TimingPlan, benchmark
from validation.verdict import Built, NotRun, Rejected, Verdict, VerifiedArtifact, status_of

if TYPE_CHECKING:
    from validation.accuracy.top1 import AccuracyTest
    from validation.reference.model import ReferenceModel
    from validation.reference.reference import Reference


def run(
    request: Request,
    progress: Progress,
    command: tuple[str, ...] = (),
    *,
    jobs: Sequence[Job] | None = None,
    cache: Cache | None = None,
    beside: Beside | None = None,
    before_publishing: Callable[[Outcome, Path], None] | None = None,
) -> Iterator[Outcome]:
    """Make, check, time and hand over each artifact of the request; yields each as soon as it is done.

    A job that fails or is rejected does not keep the others from being made. `jobs`: of the request's, all by default.
    `cache`: what was made and evaluated before is taken from it, and judged again. `beside`: other exports run at the
    same time; what is to be timed waits then until the rest is done. `before_publishing`: is shown each outcome and its
    complete folder.

    Raises:
        BadInput: the request, the weights, the photos or the output folder cannot be used.
        DownloadFailed: `-w pretrained` cannot be had.
    """
    jobs = request.jobs() if jobs is None else jobs
    folder.require_writable(request.out)
    with torch_threads(REFERENCE_THREADS), tempfile.TemporaryDirectory(prefix="vit-export-") as scratch:
        for model in dict.fromkeys(job.model for job in jobs):
            own = [job for job in jobs if job.model == model]
            bench = _Bench.prepare(request, model, own, Path(scratch), progress, cache, beside)
            bench.before_publishing = before_publishing
            waiting: list[Outcome] = []
            for job in own:
                outcome = bench.checked(job, progress)
                if beside is not None and bench.can_be_timed(outcome):
                    waiting.append(outcome)
                else:
                    yield bench.handed_over(outcome, progress, command)
            for outcome in waiting:
                assert beside is not None
                yield bench.handed_over(outcome, progress, command, beside)


@dataclass(frozen=True, slots=True)
class _Made:
    """What a stage made, and in how many seconds; `cached`: before, and only copied now."""

    artifact: Artifact
    seconds: float
    cached: bool


class _Bench:
    """One model's weights, reference and workshop, for all the artifacts that are made of it."""

    def __init__(
        self,
        request: Request,
        weights: Weights,
        reference: "ReferenceModel",
        shop: Workshop,
        cache: Cache | None,
        log: Path,
        labeled: "AccuracyTest | None",
    ) -> None:
        self._request = request
        self._weights = weights
        self._reference = reference
        self._shop = shop
        self._cache = StageCache(cache, shop)
        self._log = log
        self.before_publishing: Callable[[Outcome, Path], None] | None = None
        self._memo = evaluations(cache)
        self._ahead: dict[tuple[str, int], _Made | VitExportError] = {}
        self._told: list[StageResult] = []
        self._labeled = labeled
        self._rewrites: dict[bool, Rewrite] = {}
        self._shared: dict[tuple[str, int | None, int, bool], StageResult] = {}

    @classmethod
    def prepare(
        cls,
        request: Request,
        model: str,
        jobs: Sequence[Job],
        scratch: Path,
        progress: Progress,
        cache: Cache | None,
        beside: Beside | None,
    ) -> "_Bench":
        from validation.reference.model import ReferenceModel

        progress.step(f"{model}: weights")
        weights = find_weights(request.weights, model, request.image_size, progress.download)
        progress.weights(weights.about)
        for job in jobs:
            if job.coreml is not None:  # only now is the number of classes known
                job.coreml.labels_for(weights.model.spec.classes, job.batch)
        preprocessing = Preprocessing(image_size=weights.model.spec.image_size, **request.preprocessing)
        labeled = None
        if request.evaluation is not None:
            labeled = accuracy_test(
                request.evaluation,
                weights,
                preprocessing,
                request.coreml.labels,
                request.budgets,
                skip_bad=request.skip_bad_photos,
                step=progress.step,
            )
        golden = _golden(request, preprocessing)
        reference = ReferenceModel(weights.model, golden, request.budgets)
        shop = Workshop(weights, reference, scratch / model)
        log = scratch / f"{model}.log"
        bench = cls(request, weights, reference, shop, cache, log, labeled)
        if beside is not None and beside.second:  # what the first evaluates meanwhile need not be evaluated here
            bench.make_ahead(jobs[0], progress)
        progress.step(f"{model}: reference in float64, noise floors, self-check")
        bench.check_weights(jobs)
        progress.vacuous(model, bench.check.failures)
        return bench

    def check_weights(self, jobs: Sequence[Job]) -> None:
        """Could parity on these weights fail at all?"""
        from validation.self_check import criteria_of, self_check

        image_input = all(job.image_input for job in jobs)
        precisions = {job.plan[-1][1] for job in jobs}
        criteria = criteria_of(trained=self._weights.trained)
        with remembering(self._memo):
            self.check = self_check(self._reference, criteria, precisions, image_input)

    def make_ahead(self, job: Job, progress: Progress) -> None:
        """Run the first stage before anything is judged: what it made, or raised, waits for its turn."""
        name, precision = job.plan[0]
        progress.step(f"{self._slug(job)}: {name}")
        with output_capture.into(self._log):
            try:
                self._ahead[name, id(job)] = self._make(name, job, precision, None)
            except VitExportError as error:
                self._ahead[name, id(job)] = error

    def checked(self, job: Job, progress: Progress) -> Outcome:
        """The stages, each made and judged."""
        with remembering(self._memo):
            outcome = Outcome(job, self._slug(job), self._rewrite(job), fallback=self._weights.fallback)
            self._run_stages(job, outcome, progress)
            self._blame(outcome, progress)
        return outcome

    def handed_over(
        self, outcome: Outcome, progress: Progress, command: tuple[str, ...], beside: Beside | None = None
    ) -> Outcome:
        """Timed, where it can be, and put into its folder."""
        with contextlib.nullcontext() if beside is None else beside.alone():
            self._time(outcome, progress)
        progress.step(f"{outcome.slug}: writing")
        with remembering(self._memo), folder.new_folder(self._request.out, outcome.slug) as partial:
            self._hand_over(outcome, partial, command, progress)
        return outcome

    def _slug(self, job: Job) -> str:
        return slug(job, self._weights.model.spec.image_size, self._weights.suffix)

    def _rewrite(self, job: Job) -> Rewrite:
        if job.image_input not in self._rewrites:
            gates = rewrite_gates(self._reference, image_input=job.image_input)
            self._rewrites[job.image_input] = Rewrite(gates)
        return self._rewrites[job.image_input]

    def _run_stages(self, job: Job, outcome: Outcome, progress: Progress) -> None:
        """Run the stages until one fails or is rejected: the first to be rejected is the one to blame."""
        if outcome.rewrite is None or not outcome.rewrite.passed:
            return
        plan = job.plan
        before: Verdict | None = None
        for name, precision in plan:
            progress.step(f"{outcome.slug}: {name}")
            try:
                with output_capture.into(self._log):
                    result = self._stage(name, job, precision, before, progress, last=name == plan[-1][0])
            except VitExportError as error:
                outcome.failed_stage, outcome.error = name, error
                return
            outcome.stages.append(result)
            if result.artifact.format == Format.COREML and not isinstance(result.verdict, Rejected):
                outcome.readiness = readiness(result.artifact)
            if not any(result is told for told in self._told):  # one that two targets share is said once
                self._told.append(result)
                progress.stage(outcome.slug, name, result.seconds, status_of(result.verdict), cached=result.cached)
            if isinstance(result.verdict, Rejected):
                return
            before = result.verdict

    def _blame(self, outcome: Outcome, progress: Progress) -> None:
        """Which layer of the rejected stage is at fault."""
        if (stage := outcome.rejected_stage) is None:
            return
        progress.step(f"{outcome.slug}: looking for the layer to blame in '{stage}'")
        final = outcome.final
        outcome.blame = Blame((), note="looking for the layer failed: evidence/log.txt says how")
        with output_capture.into(self._log), _aside():
            if isinstance(final, Rejected):
                source = outcome.stages[-2].artifact if len(outcome.stages) > 1 else None
                outcome.blame = blame_artifact(final.artifact, self._reference, final.report.gates, source=source)
            else:
                outcome.blame = blame_rewrite(self._reference, image_input=outcome.job.image_input)

    def _stage(
        self, name: str, job: Job, precision: Precision, before: Verdict | None, progress: Progress, *, last: bool
    ) -> StageResult:
        # What ships is judged on labeled images too; what is on the way to something else isn't.
        key = (name, job.batch, job.opset, last and self._labeled is not None)
        if name in SHARED and key in self._shared:
            return self._shared[key]
        source = before.artifact if before is not None else None
        if source is not None and source.precision.quantized:  # what was left in float32 stays so
            precision = replace(precision, float_layers=source.precision.float_layers)
        made = self._ahead.pop((name, id(job)), None) or self._make(name, job, precision, source)
        if isinstance(made, VitExportError):
            raise made
        verdict = self._judged(name, job, made.artifact, before, last=last)
        if job.int8 is not None and not job.int8.all_int8 and source is not None and can_fall_back(verdict):
            with _failing_as(name, self._shop.folder):
                verdict = self._fallen_back(name, job, verdict, source, progress, last=last)
        verdict = self._weighed(verdict)
        # What fell back depends on a budget that is none of the stage's: it is not kept.
        if not made.cached and verdict.artifact is made.artifact and not isinstance(verdict, Rejected):
            self._cache.keep(name, job, precision, source, made.artifact)
        result = StageResult(name, verdict, made.seconds, _operators(verdict.artifact), made.cached)
        if name in SHARED:
            self._shared[key] = result
        return result

    def _make(self, name: str, job: Job, precision: Precision, source: Artifact | None) -> "_Made":
        """The stage's artifact: as it was kept when the same was made before, or made."""
        start = time.perf_counter()
        artifact = self._cache.find(name, job, precision, source)
        cached = artifact is not None
        if artifact is None:
            with _failing_as(name, self._shop.folder), collector_at_rest():
                artifact = STAGES[name](self._shop, job, precision, source)
        return _Made(artifact, time.perf_counter() - start, cached)

    def _fallen_back(
        self, name: str, job: Job, rejected: Verdict, source: Artifact, progress: Progress, *, last: bool
    ) -> Verdict:
        """The verdict on the file with as many layers in float32 as it takes."""
        reference, labeled = self._reference_for(rejected.artifact), self._labeled if last else None
        runtime = runtime_for(source.format)
        return fall_back(
            rejected,
            source,
            self._shop.calibration_images(job),
            self._shop.path("float_layers", job, job.target.suffix),
            holds=lambda artifact: within_quality(artifact, reference, runtime, labeled),
            judged=lambda artifact: self._judged(name, job, artifact, None, last=last),
            step=lambda text: progress.step(f"{job.model}-{job.target.name}-int8: {text}"),
        )

    def _judged(self, name: str, job: Job, artifact: Artifact, before: Verdict | None, *, last: bool) -> Verdict:
        if artifact.format == Format.ENGINE and native_runtime(artifact.format).unavailable() is not None:
            match before:
                case VerifiedArtifact():
                    return built(artifact, before)
                case NotRun(reason=reason, remedy=remedy, report=report):
                    return NotRun(artifact, reason, remedy, report)
        budgets = self._request.budgets if last else Budgets()
        runtime = runtime_for(artifact.format, ships=name in SHARED or job.target.format is artifact.format)
        reference = self._reference_for(artifact, before.artifact if before is not None else None)
        # What can't be run here is judged by what it is built from, and so is its accuracy.
        ships = last or (artifact.format == Format.NETWORK and native_runtime(Format.ENGINE).unavailable() is not None)
        labeled = self._labeled if ships else None
        defaults = last and self._request.defaults
        return judge(artifact, reference, runtime, budgets, defaults=defaults, labeled=labeled)

    def _reference_for(self, artifact: Artifact, source: Artifact | None = None) -> "Reference":
        """What calibration found was judged at the stage that did it, and binds those after it."""
        reference = self._reference.at(artifact.precision, image_input=artifact.interface.image_input)
        return with_calibration(reference, artifact, source)

    def _weighed(self, verdict: Verdict) -> Verdict:
        """A pass on weights on which nothing could have failed is none."""
        if isinstance(verdict, VerifiedArtifact | Built) and self.check.vacuous:
            return NotRun(
                verdict.artifact,
                reason=f"parity on these weights would be vacuous: {'; '.join(self.check.failures)}",
                remedy="export trained weights",
                report=verdict.report,
            )
        return verdict

    def can_be_timed(self, outcome: Outcome) -> bool:
        """Only a verified artifact, only in its real runtime; `untimed` says why not."""
        final = outcome.final
        outcome.untimed = None
        if outcome.error is not None:
            outcome.untimed = (
                f"stage '{outcome.failed_stage}' failed; what an earlier stage made is not what was asked for"
            )
        elif isinstance(final, Built):
            outcome.untimed = "it was built here and not run; only the real runtime can be timed"
        elif not isinstance(final, VerifiedArtifact):
            outcome.untimed = "it was not verified, and nothing is timed before it is"
        elif not self._request.time:
            outcome.untimed = "--no-time"
        elif final.report.evidence is not Evidence.NATIVE:
            outcome.untimed = f"verified by {final.report.evidence} evidence; only the real runtime can be timed"
        return outcome.untimed is None

    def _time(self, outcome: Outcome, progress: Progress) -> None:
        if not self.can_be_timed(outcome):
            return
        assert isinstance(outcome.final, VerifiedArtifact)
        progress.step(f"{outcome.slug}: timing")
        with output_capture.into(self._log):
            outcome.timing = self._timing(outcome.final, runtime_for(outcome.final.artifact.format))

    def _timing(self, verified: VerifiedArtifact, runtime: Runtime) -> Timing:
        plan = TimingPlan(batch=verified.artifact.batch or 1)
        golden = self._reference.golden.ordinary()
        image_input = verified.artifact.interface.image_input
        return benchmark(verified, runtime, plan, golden.with_pixels().pixels if image_input else golden.images)

    def _hand_over(self, outcome: Outcome, partial: Path, command: tuple[str, ...], progress: Progress) -> None:
        """Fill the folder and publish it. A rejected or failed job leaves the last good folder as it is."""
        status = outcome.status
        good = status in ("verified", "built", "not_run")
        final = self._request.out / (outcome.slug if good else f"{outcome.slug}.{status}")
        with folder.writing(final):
            evidence = partial / "evidence"
            evidence.mkdir()
            handed = None
            if outcome.final is not None:
                place = SHIP if good else REJECTED
                handed = self._fill(outcome.final.artifact, partial, place, evidence)
            record = manifest.build(
                outcome, self._weights, self._reference, self.check, command, self._request.required, handed
            )
            write_json(partial / MANIFEST, record)
            if self._request.report:
                progress.step(f"{outcome.slug}: report")
                with output_capture.into(self._log), _aside():
                    write_report(partial, record, self._evidence(outcome))
            if self._log.exists():
                shutil.copyfile(self._log, evidence / "log.txt")
            if good and self._request.kit and has_kit(outcome.job.target.format, outcome.job.batch):
                self._make_kit(partial, outcome, progress)
            outcome.record = record
            if self.before_publishing is not None:
                self.before_publishing(outcome, partial)
            folder.publish(partial, final)
            if good:
                folder.remove_failures(self._request.out, outcome.slug)
        outcome.folder = final

    def _evidence(self, outcome: Outcome) -> ReportEvidence:
        """What the report shows beyond the manifest; of a file that can't be opened there is little."""
        final = outcome.final
        report = final.report if final is not None else None
        if final is None or report is None or report.outputs is None:
            return ReportEvidence()
        layers = outcome.blame.layers if outcome.blame is not None else ()
        if outcome.blame is None and final.artifact.format != Format.ENGINE:
            layers = blame_artifact(final.artifact, self._reference, ()).layers
        return ReportEvidence(
            self._reference_for(final.artifact), report.outputs.logits, final.artifact.interface.labels, layers
        )

    def _make_kit(self, partial: Path, outcome: Outcome, progress: Progress) -> None:
        """What checks it where it can be run; the picture of a Core ML kit gets its budget from the evaluator."""
        progress.step(f"{outcome.slug}: device kit")
        assert outcome.final is not None
        if outcome.final.artifact.format != Format.COREML:
            write_kit(partial)
            return
        with MilEvaluator().open(outcome.final.artifact, Mode.ORACLE) as session:
            write_kit(partial, logits_of=lambda pixels: np.concatenate([session(image[None]) for image in pixels]))

    def _fill(self, artifact: Artifact, folder: Path, place: str, evidence: Path) -> manifest.Handed:
        """Copy the artifact, its settings and its reference."""
        target = folder / place
        target.mkdir()
        artifact.copied_to(target)
        settings = dict(native_runtime(artifact.format).shipped_settings(artifact))
        write_json(target / SETTINGS, settings)
        if artifact.interface.labels:
            text = "".join(f"{label}\n" for label in artifact.interface.labels)
            (target / LABELS).write_text(text, encoding="utf-8")
        if artifact.format == Format.ENGINE:
            shutil.copyfile(artifact.path.with_name(LAYERS), evidence / LAYERS)
        file.save(self._reference_for(artifact), evidence)
        return manifest.Handed(place, digest(target / SETTINGS), digest(evidence / file.REFERENCE))


def _operators(artifact: Artifact) -> int | None:
    """None of what cannot be read, which its verdict says."""
    try:
        return count_operators(artifact)
    except BrokenArtifact:
        return None


@contextmanager
def _aside() -> Iterator[None]:
    """What is said beside a verdict must not change it, nor lose the artifact: a failure of it goes into the log."""
    try:
        yield
    except Exception:  # noqa: BLE001 - whatever it is: the verdict stands
        traceback.print_exc()


@contextmanager
def _failing_as(stage: str, scratch: Path) -> Iterator[None]:
    """Whatever a converter raises, and they raise everything, is a failure of its stage; the log gets the whole."""
    try:
        yield
    except VitExportError:
        raise
    except Exception as error:
        traceback.print_exc()
        # The scratch folder is gone when somebody reads this, and its path is nobody's business.
        first = str(error).replace(f"{scratch}{os.sep}", "").strip().splitlines()[:1]
        raise StageFailed(
            f"stage '{stage}' failed in its converter",
            got=f"{type(error).__name__}: {first[0] if first else 'no message'}",
            next_step="evidence/log.txt in the folder below holds the whole message",
        ) from error


def _golden(request: Request, preprocessing: Preprocessing) -> GoldenSet:
    made = synthetic(preprocessing)
    if request.golden is None:
        return made
    return merge(photos(request.golden, preprocessing, request.skip_bad_photos), made)
