"""The manifest of an outcome: `export/folder/manifest.py` has its form."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from efficientvit.weights.contract import settled
from export import __version__
from export.folder import manifest as record
from export.folder.accuracy import AccuracyRecord
from export.folder.layout import LABELS, SCHEMA, SETTINGS, SHIP
from export.folder.records import AttestationRecord, BlameRecord, GateRecord, PortRecord, PrecisionRecord, gates_of
from export.folder.timing import TimingRecord
from export.folder.weights import SaidRecord, WeightsRecord
from export.pipeline.outcome import Outcome, StageResult
from export.pipeline.prepare import Prepared
from export.records import plain
from export.targets.registry import BUILT_IN
from export.targets.target import HandedOver, Target
from runtimes.artifact import Interface
from runtimes.host.machine import this_host, versions
from runtimes.interface import intended_ports
from runtimes.runtime import Evidence
from validation.self_check import SelfCheck
from validation.verdict import Built, NotRun, Rejected, Report, VerifiedArtifact, status_of


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
) -> dict[str, Any]:
    """The manifest of one artifact's folder, as JSON; every path in it is relative to that folder."""
    final, job = outcome.final, outcome.job
    artifact, report = (final.artifact, final.report) if final else (None, None)
    host = this_host()
    sections = _section(outcome, placed)
    built = record.Manifest(
        schema=SCHEMA,
        vit_export=__version__,
        command=list(command),
        status=outcome.status,
        evidence_required=required,
        exit_code=int(outcome.code(required)),
        model=_model(model, job.batch, artifact.interface if artifact else Interface()),
        weights=_weights(model),
        self_check=_self_check(model.check),
        preprocessing=record.PreprocessingRecord(**model.reference.golden.preprocessing.to_json()),
        precision=None if artifact is None else PrecisionRecord.of(artifact.precision),
        golden=_golden(model, "evidence/golden.safetensors" if artifact else None),
        reference=None
        if placed is None
        else record.ReferenceRecord(sha256=placed.reference_sha256, path="evidence/reference.safetensors"),
        tools=dict(versions(*_tools(job.target))),
        host=record.HostRecord.from_attributes(host, cores=host.physical_cores),
        settings=None if placed is None else _settings(placed, report),
        stages=[_rewrite_stage(outcome), *(_stage(outcome, result, placed) for result in outcome.stages)],
        blame=BlameRecord.of(outcome.rejected_stage, outcome.blame),
        failed=None
        if outcome.error is None
        else record.FailedRecord(stage=outcome.failed_stage, error=str(outcome.error)),
        artifact=f"{SHIP}/{artifact.path.name}" if artifact and placed and placed.ships else None,
        coreml=sections.get("coreml"),
        coreai=sections.get("coreai"),
        calibration=job.calibrate and Path(job.calibrate).name,
        tensorrt=sections.get("tensorrt"),
        accuracy=AccuracyRecord.of(report.accuracy if report else None),
        devices=[],
        timing=TimingRecord.of(outcome.timing, outcome.spent, outcome.untimed),
    )
    written = built.to_json()
    return {**written, **{name: plain(section) for name, section in sections.items() if name not in written}}


def _tools(target: Target) -> tuple[str, ...]:
    """Of every target: what made a file, and what could be compared with it."""
    distributions = [name for each in (*BUILT_IN.values(), target) for name in each.distributions]
    return ("torch", "numpy", *dict.fromkeys(distributions), "pillow")


def _section(outcome: Outcome, placed: Placed | None) -> dict[str, Any]:
    """What the target itself records, under its name."""
    target = outcome.job.target
    if target.section is None:
        return {}
    passed = [each.artifact for each in outcome.stages if not isinstance(each.verdict, Rejected)]
    final = outcome.final.artifact if outcome.final else None
    place = placed.place if placed else None
    made = HandedOver(outcome.job, final, passed[-1] if passed else None, place, place and f"{place}/{LABELS}")
    return {target.name: target.section().fill(made)}


def _model(model: Prepared, batch: int | None, interface: Interface) -> record.ModelRecord:
    spec = model.reference.trained.spec
    inputs, outputs = intended_ports(spec, batch, interface)
    strides = {output.name: output.stride for output in spec.outputs}
    return record.ModelRecord(
        name=spec.name,
        image_size=spec.image_size.to_json(),
        classes=spec.classes,
        head=str(spec.head),
        labels=list(model.weights.labels),
        feed=str(interface.feed),
        answers=str(interface.answers),
        batch="dynamic" if batch is None else batch,
        inputs=[PortRecord.of(port) for port in inputs],
        outputs=[PortRecord.of(port, stride=strides.get(port.name)) for port in outputs],
    )


def _weights(model: Prepared) -> WeightsRecord:
    weights, contract = model.weights, model.reference.golden.preprocessing
    said = settled(weights.facts, contract, weights.model.spec.classes)
    return WeightsRecord.from_attributes(
        weights, notes=list(weights.notes), said=[SaidRecord.from_attributes(each) for each in said]
    )


def _self_check(check: SelfCheck) -> record.SelfCheckRecord:
    least = record.LeastVisible(part=check.least_visible_name, over_budget=check.least_visible)
    return record.SelfCheckRecord.from_attributes(
        check,
        failures=list(check.failures),
        unseen=list(check.unseen),
        least_visible=least,
        sham_over_budget=check.sham_ratio,
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
        effective=AttestationRecord.from_attributes(report.attestation) if report and report.attestation else None,
        defaults=None
        if defaults is None
        else record.DefaultsRecord(
            effective=AttestationRecord.from_attributes(defaults.attestation), gate=GateRecord.of(defaults.gate)
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
        artifact=record.ArtifactRecord.from_attributes(
            artifact,
            path=f"{placed.place}/{artifact.path.name}" if placed and last else None,
            precision=PrecisionRecord.of(artifact.precision),
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
            undecided=list(verdict.undecided) if isinstance(verdict, NotRun) else [],
            gates=gates_of(report.gates if report else ()),
            batches=list(report.batches) if report else [],
            top1=None if top1 is None else record.Top1Record.from_attributes(top1),
        ),
    )
