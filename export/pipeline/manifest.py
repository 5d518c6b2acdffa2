"""The manifest of an outcome: `export/folder/manifest.py` has its form."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export import __version__
from export.folder import manifest as record
from export.folder.layout import LABELS, SCHEMA, SETTINGS, SHIP
from export.folder.records import (
    AccuracyRecord,
    AttestationRecord,
    BlameRecord,
    GateRecord,
    PortRecord,
    PrecisionRecord,
    gates_of,
    number,
)
from export.folder.sections import CoreMlSection, LabelsRecord, NeuralEngineRecord, TensorRtSection
from export.pipeline.outcome import Outcome, StageResult
from export.pipeline.prepare import Prepared
from export.targets.coreml.options import CoreMlOptions
from export.targets.tensorrt.options import TensorRtOptions
from runtimes.artifact import Artifact, Format, Interface
from runtimes.host.machine import this_host, versions
from runtimes.interface import intended_ports, labels_digest
from runtimes.runtime import Evidence
from validation.self_check import SelfCheck
from validation.timing.latency import Timing
from validation.verdict import Built, NotRun, Report, VerifiedArtifact, status_of

_TOOLS = ("torch", "numpy", "onnx", "onnxscript", "onnxruntime", "onnxsim", "openvino", "coremltools", "tensorrt",
          "tensorrt_rtx_cu13", "pillow")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Placed:
    """What was put into the folder: where the artifact lies in it, and the digests of the files that go with it."""

    place: str
    settings_sha256: str
    reference_sha256: str

    @property
    def ships(self) -> bool:
        """It lies where an app team takes it from."""
        return self.place == SHIP


def build(
    outcome: Outcome, model: Prepared, command: tuple[str, ...], required: Evidence, placed: Placed | None
) -> record.Manifest:
    """The manifest of one artifact's folder; every path in it is relative to that folder."""
    final, job = outcome.final, outcome.job
    artifact, report = (final.artifact, final.report) if final else (None, None)
    host = this_host()
    return record.Manifest(
        schema=SCHEMA,
        vit_export=__version__,
        command=list(command),
        status=outcome.status,
        evidence_required=required,
        exit_code=int(outcome.code(required)),
        model=_model(model, job.batch, artifact.interface if artifact else Interface()),
        weights=record.WeightsRecord(
            source=model.weights.source,
            sha256=model.weights.sha256,
            trained=model.weights.trained,
            fallback=model.weights.fallback,
            digest_published=model.weights.digest_published,
            notes=list(model.weights.notes),
        ),
        self_check=_self_check(model.check),
        preprocessing=record.PreprocessingRecord(**model.reference.golden.preprocessing.to_json()),
        precision=None if artifact is None else PrecisionRecord.of(artifact.precision),
        golden=_golden(model, "evidence/golden.safetensors" if artifact else None),
        reference=placed
        and record.ReferenceRecord(sha256=placed.reference_sha256, path="evidence/reference.safetensors"),
        tools=dict(versions(*_TOOLS)),
        host=record.HostRecord(
            os=host.os, cpu=host.cpu, isa=host.isa, cores=host.physical_cores, python=host.python
        ),
        settings=placed and _settings(placed, report),
        stages=[_rewrite_stage(outcome), *(_stage(outcome, result, placed) for result in outcome.stages)],
        blame=BlameRecord.of(outcome.rejected_stage, outcome.blame),
        failed=outcome.error and record.FailedRecord(stage=outcome.failed_stage, error=str(outcome.error)),
        artifact=f"{SHIP}/{artifact.path.name}" if artifact and placed and placed.ships else None,
        coreml=job.coreml and _coreml(job.coreml, outcome, placed),
        calibration=job.calibrate and Path(job.calibrate).name,
        tensorrt=job.tensorrt and _tensorrt(job.tensorrt, artifact),
        accuracy=AccuracyRecord.of(report.accuracy if report else None),
        devices=[],
        timing=_timing(outcome.timing, outcome.untimed),
    )


def _coreml(options: CoreMlOptions, outcome: Outcome, placed: Placed | None) -> CoreMlSection:
    artifact, ready = outcome.final.artifact if outcome.final else None, outcome.readiness
    labels = artifact.interface.labels if artifact else ()
    return CoreMlSection(
        input=options.input,
        labels=None
        if not labels or placed is None
        else LabelsRecord(path=f"{placed.place}/{LABELS}", sha256=labels_digest(labels), count=len(labels)),
        ios=options.ios,
        metadata=dict(artifact.interface.metadata) if artifact else {},
        neural_engine=ready
        and NeuralEngineRecord(
            heuristic=True,
            share_by_macs=ready.share,
            macs=ready.macs,
            violations=list(ready.violations),
            budget=options.ane_budget,
        ),
    )


def _tensorrt(options: TensorRtOptions, artifact: Artifact | None) -> TensorRtSection:
    """`built_with` is what the engine says of itself when it is read back; null where none was built."""
    engine = artifact is not None and artifact.format == Format.ENGINE
    built_with = dict(artifact.settings) if artifact is not None and engine else None
    return TensorRtSection(sm=list(options.sm), profile=options.profile, built_with=built_with)


def _model(model: Prepared, batch: int | None, interface: Interface) -> record.ModelRecord:
    spec = model.reference.trained.spec
    inputs, outputs = intended_ports(spec, batch, interface)
    return record.ModelRecord(
        name=spec.name,
        image_size=spec.image_size,
        classes=spec.classes,
        batch="dynamic" if batch is None else batch,
        inputs=[PortRecord.of(port) for port in inputs],
        outputs=[PortRecord.of(port) for port in outputs],
    )


def _self_check(check: SelfCheck) -> record.SelfCheckRecord:
    least = record.LeastVisible(part=check.least_visible_name, over_budget=number(check.least_visible))
    return record.SelfCheckRecord(
        vacuous=check.vacuous,
        failures=list(check.failures),
        input_share=number(check.input_share),
        distinct_top1=number(check.distinct_top1),
        float32_floor=number(check.float32_floor),
        deploy_ratio=number(check.deploy_ratio),
        least_visible=least,
        sham_over_budget=number(check.sham_ratio),
    )


def _golden(model: Prepared, path: str | None) -> record.GoldenRecord:
    golden = model.reference.golden
    return record.GoldenRecord(
        sha256=golden.sha256,
        images=len(golden),
        kinds={kind: golden.kinds.count(kind) for kind in golden.unique_kinds},
        not_judged=list(model.reference.not_judged),
        skipped=list(golden.skipped),
        path=path,
    )


def _settings(placed: Placed, report: Report | None) -> record.SettingsRecord:
    defaults = report.defaults if report else None
    return record.SettingsRecord(
        shipped=record.FileRecord(path=f"{placed.place}/{SETTINGS}", sha256=placed.settings_sha256),
        effective=AttestationRecord.of(report.attestation) if report and report.attestation else None,
        defaults=defaults
        and record.DefaultsRecord(
            effective=AttestationRecord.of(defaults.attestation), gate=GateRecord.of(defaults.gate)
        ),
    )


def _rewrite_stage(outcome: Outcome) -> record.StageRecord:
    rewrite = outcome.rewrite
    passed = rewrite is not None and rewrite.passed
    verdict = record.VerdictRecord(
        status="verified" if passed else "rejected",
        evidence=Evidence.NATIVE,
        reason=None if rewrite is None or passed else rewrite.reason,
        gates=gates_of(() if rewrite is None else rewrite.gates),
        batches=[],
        top1=None,
    )
    return record.StageRecord(name="rewrite", artifact=None, seconds=None, operators=None, verdict=verdict)


def _stage(outcome: Outcome, result: StageResult, placed: Placed | None) -> record.StageRecord:
    verdict, artifact = result.verdict, result.artifact
    last, report = result is outcome.stages[-1], result.verdict.report
    top1 = report.top1 if report else None
    return record.StageRecord(
        name=result.name,
        artifact=record.ArtifactRecord(
            path=f"{placed.place}/{artifact.path.name}" if placed and last else None,
            format=artifact.format,
            precision=PrecisionRecord.of(artifact.precision),
            sha256=artifact.sha256,
            source_sha256=artifact.source_sha256,
            bytes=artifact.size_bytes,
            notes=list(artifact.notes),
            tools=dict(artifact.tools),
        ),
        seconds=round(result.seconds, 3),
        cached=result.cached,
        operators=result.operators,
        verdict=record.VerdictRecord(
            status=status_of(verdict),
            evidence=report.evidence if report and not isinstance(verdict, NotRun) else None,
            reason=None if isinstance(verdict, VerifiedArtifact) else verdict.reason,
            remedy=verdict.remedy if isinstance(verdict, NotRun | Built) else None,
            gates=gates_of(report.gates if report else ()),
            batches=list(report.batches) if report else [],
            top1=top1
            and record.Top1Record(agree=top1.agree, of=top1.of, outside_margin=top1.outside_margin),
        ),
    )


def _timing(timing: Timing | None, reason: str | None) -> record.TimingRecord:
    if timing is None:
        return record.TimingRecord(measured=False, reason=reason or "the export did not get that far")
    return record.TimingRecord(
        measured=True,
        reason=None,
        batch=timing.plan.batch,
        median_ms=timing.median_ms,
        p90_ms=timing.percentile_ms(90),
        p99_ms=timing.percentile_ms(99),
        iqr_ms=timing.iqr_ms,
        noisy=timing.noisy,
        warm_up_runs=timing.warm_up_runs,
        warm_up_stable=timing.warm_up_stable,
        peak_memory_bytes=timing.peak_memory_bytes,
        effective=AttestationRecord.of(timing.attestation),
        samples_ns=list(timing.samples_ns),
    )
