"""`manifest.json`: what was made, from what, and what was found. docs/manifest.md describes it."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from export import __version__
from export.folder.layout import SCHEMA, SETTINGS, SHIP
from export.folder.records import attestation_record, blame_record, gate_record, gates_record, number, port_record
from export.pipeline.outcome import Outcome, StageResult
from export.pipeline.prepare import Prepared
from export.request.evaluation import accuracy_record
from export.targets.registry import BUILT_IN
from export.targets.target import HandedOver, Target
from runtimes.artifact import Interface
from runtimes.host.machine import this_host, versions
from runtimes.interface import intended_ports
from runtimes.runtime import Evidence
from validation.timing.latency import Timing
from validation.verdict import Built, NotRun, Rejected, Report, VerifiedArtifact, status_of

if TYPE_CHECKING:
    from validation.reference.model import ReferenceModel


@dataclass(frozen=True, slots=True)
class Placed:
    """What was put into the folder: where the artifact lies in it, and the digests of what lies beside it."""

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
    """The manifest of one artifact's folder; every path in it is relative to that folder."""
    final = outcome.final
    artifact = final.artifact if final else None
    report = final.report if final else None
    weights, reference, check = model.weights, model.reference, model.check
    golden = reference.golden
    host = this_host()
    sections = _section(outcome, placed)
    kinds = {str(kind): golden.kinds.count(kind) for kind in golden.unique_kinds}
    return {
        "schema": SCHEMA,
        "vit_export": __version__,
        "command": list(command),
        "status": outcome.status,
        "evidence_required": required,
        "exit_code": int(outcome.code(required)),
        "model": _model(reference, outcome.job.batch, artifact.interface if artifact else Interface()),
        "weights": {
            "source": weights.source,
            "sha256": weights.sha256,
            "trained": weights.trained,
            "fallback": weights.fallback,
            "digest_published": weights.digest_published,
            "notes": list(weights.notes),
        },
        "self_check": {
            "vacuous": check.vacuous,
            "failures": list(check.failures),
            "input_share": number(check.input_share),
            "distinct_top1": number(check.distinct_top1),
            "float32_floor": number(check.float32_floor),
            "deploy_ratio": number(check.deploy_ratio),
            "least_visible": {"part": check.least_visible_name, "over_budget": number(check.least_visible)},
            "sham_over_budget": number(check.sham_ratio),
        },
        "preprocessing": golden.preprocessing.to_json(),
        "precision": None if artifact is None else artifact.precision.to_json(),
        "golden": {
            "sha256": golden.sha256,
            "images": len(golden),
            "kinds": kinds,
            "not_judged": list(reference.not_judged),
            "skipped": list(golden.skipped),
            "path": "evidence/golden.safetensors" if artifact else None,
        },
        "reference": None
        if placed is None
        else {"sha256": placed.reference_sha256, "path": "evidence/reference.safetensors"},
        "tools": dict(versions(*_tools(outcome.job.target))),
        "host": {"os": host.os, "cpu": host.cpu, "isa": host.isa, "cores": host.physical_cores, "python": host.python},
        "settings": None if placed is None else _settings(placed, report),
        "stages": [_rewrite_stage(outcome), *(_stage(outcome, result, placed) for result in outcome.stages)],
        "blame": blame_record(outcome.rejected_stage, outcome.blame),
        "failed": None if outcome.error is None else {"stage": outcome.failed_stage, "error": str(outcome.error)},
        "artifact": f"{SHIP}/{artifact.path.name}" if artifact and placed and placed.ships else None,
        "coreml": sections.pop("coreml", None),
        "calibration": outcome.job.calibrate and Path(outcome.job.calibrate).name,
        "tensorrt": sections.pop("tensorrt", None),
        "accuracy": accuracy_record(report.accuracy if report else None),
        "devices": [],
        "timing": _timing(outcome.timing, outcome.untimed),
        **sections,
    }


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
    made = HandedOver(outcome.job, final, passed[-1] if passed else None, placed.place if placed else None)
    return {target.name: msgspec.to_builtins(target.section().fill(made))}


def _model(reference: "ReferenceModel", batch: int | None, interface: Interface) -> dict[str, Any]:
    spec = reference.trained.spec
    inputs, outputs = intended_ports(spec, batch, interface)
    return {
        "name": spec.name,
        "image_size": spec.image_size,
        "classes": spec.classes,
        "batch": "dynamic" if batch is None else batch,
        "inputs": [port_record(port) for port in inputs],
        "outputs": [port_record(port) for port in outputs],
    }


def _settings(placed: Placed, report: Report | None) -> dict[str, Any]:
    defaults = report.defaults if report else None
    return {
        "shipped": {"path": f"{placed.place}/{SETTINGS}", "sha256": placed.settings_sha256},
        "effective": attestation_record(report.attestation) if report and report.attestation else None,
        "defaults": None
        if defaults is None
        else {"effective": attestation_record(defaults.attestation), "gate": gate_record(defaults.gate)},
    }


def _rewrite_stage(outcome: Outcome) -> dict[str, Any]:
    rewrite = outcome.rewrite
    gates = () if rewrite is None else rewrite.gates
    return {
        "name": "rewrite",
        "artifact": None,
        "seconds": None,
        "cached": False,
        "operators": None,
        "verdict": {
            "status": "verified" if rewrite is not None and rewrite.passed else "rejected",
            "evidence": Evidence.NATIVE,
            "reason": None if rewrite is None or rewrite.passed else rewrite.reason,
            "gates": gates_record(gates),
            "batches": [],
            "top1": None,
        },
    }


def _stage(outcome: Outcome, result: StageResult, placed: Placed | None) -> dict[str, Any]:
    verdict, artifact = result.verdict, result.artifact
    last = result is outcome.stages[-1]
    report = verdict.report
    return {
        "name": result.name,
        "artifact": {
            "path": f"{placed.place}/{artifact.path.name}" if placed and last else None,
            "format": artifact.format,
            "precision": artifact.precision.to_json(),
            "sha256": artifact.sha256,
            "source_sha256": artifact.source_sha256,
            "bytes": artifact.size_bytes,
            "notes": list(artifact.notes),
            "tools": dict(artifact.tools),
        },
        "seconds": round(result.seconds, 3),
        "cached": result.cached,
        "operators": result.operators,
        "verdict": {
            "status": status_of(verdict),
            "evidence": report.evidence if report and not isinstance(verdict, NotRun) else None,
            "reason": None if isinstance(verdict, VerifiedArtifact) else verdict.reason,
            "remedy": verdict.remedy if isinstance(verdict, NotRun | Built) else None,
            "gates": gates_record(report.gates if report else ()),
            "batches": list(report.batches) if report else [],
            "top1": None
            if report is None or report.top1 is None
            else {
                "agree": report.top1.agree,
                "of": report.top1.of,
                "outside_margin": report.top1.outside_margin,
            },
        },
    }


def _timing(timing: Timing | None, reason: str | None) -> dict[str, Any]:
    if timing is None:
        return {"measured": False, "reason": reason or "the export did not get that far"}
    return {
        "measured": True,
        "reason": None,
        "batch": timing.plan.batch,
        "median_ms": timing.median_ms,
        "p90_ms": timing.percentile_ms(90),
        "p99_ms": timing.percentile_ms(99),
        "iqr_ms": timing.iqr_ms,
        "noisy": timing.noisy,
        "warm_up_runs": timing.warm_up_runs,
        "warm_up_stable": timing.warm_up_stable,
        "peak_memory_bytes": timing.peak_memory_bytes,
        "effective": attestation_record(timing.attestation),
        "samples_ns": list(timing.samples_ns),
    }
