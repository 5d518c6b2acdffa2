"""`manifest.json`: what was made, from what, and what was found. docs/manifest.md describes it."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from efficientvit.weights.source import Weights
from export import __version__
from export.pipeline.outcome import Outcome, StageResult, status_of
from export.request.evaluation import accuracy_record
from export.targets.coreml.options import CoreMlOptions
from export.targets.tensorrt.options import TensorRtOptions
from runtimes.artifact import Artifact, Format, Interface
from runtimes.host.machine import this_host, versions
from runtimes.interface import Port, intended_ports, labels_digest
from runtimes.runtime import Attestation, Evidence
from validation.blame.ranking import Blame, LayerError
from validation.gates.result import Gate, GateResult, KindError
from validation.timing.latency import Timing
from validation.verdict import Built, NotRun, Report, VerifiedArtifact

if TYPE_CHECKING:
    from export.commands.diff import Diff, Finding
    from export.commands.judge import Judged
    from export.selftest.run import SelfTest
    from validation.reference.model import ReferenceModel
    from validation.self_check import SelfCheck

SCHEMA = 1
SHIP, REJECTED = "ship", "evidence/rejected"
SETTINGS, LABELS = "runtime-settings.json", "labels.txt"
_TOOLS = ("torch", "numpy", "onnx", "onnxscript", "onnxruntime", "onnxsim", "openvino", "coremltools", "tensorrt",
          "tensorrt_rtx_cu13", "pillow")  # fmt: skip


def write_json(path: Path, record: Mapping[str, Any]) -> None:
    """Indented, keys in the record's own order, NaN refused: it is no JSON."""
    path.write_text(json.dumps(record, indent=2, allow_nan=False, ensure_ascii=False) + "\n", encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Handed:
    """What was put into the folder: where the artifact lies in it, and the digests of what lies beside it."""

    place: str
    settings_sha256: str
    reference_sha256: str

    @property
    def ships(self) -> bool:
        """It lies where an app team takes it from."""
        return self.place == SHIP


def build(
    outcome: Outcome,
    weights: Weights,
    reference: "ReferenceModel",
    check: "SelfCheck",
    command: tuple[str, ...],
    required: Evidence,
    handed: Handed | None,
) -> dict[str, Any]:
    """The manifest of one artifact's folder; every path in it is relative to that folder."""
    final = outcome.final
    artifact = final.artifact if final else None
    report = final.report if final else None
    golden = reference.golden
    host = this_host()
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
            "input_share": _number(check.input_share),
            "distinct_top1": _number(check.distinct_top1),
            "float32_floor": _number(check.float32_floor),
            "deploy_ratio": _number(check.deploy_ratio),
            "least_visible": {"part": check.least_visible_name, "over_budget": _number(check.least_visible)},
            "sham_over_budget": _number(check.sham_ratio),
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
        if handed is None
        else {"sha256": handed.reference_sha256, "path": "evidence/reference.safetensors"},
        "tools": dict(versions(*_TOOLS)),
        "host": {"os": host.os, "cpu": host.cpu, "isa": host.isa, "cores": host.physical_cores, "python": host.python},
        "settings": None if handed is None else _settings(handed, report),
        "stages": [_rewrite_stage(outcome), *(_stage(outcome, result, handed) for result in outcome.stages)],
        "blame": blame_record(outcome.rejected_stage, outcome.blame),
        "failed": None if outcome.error is None else {"stage": outcome.failed_stage, "error": str(outcome.error)},
        "artifact": f"{SHIP}/{artifact.path.name}" if artifact and handed and handed.ships else None,
        "coreml": None if outcome.job.coreml is None else _coreml(outcome.job.coreml, outcome, handed),
        "calibration": outcome.job.calibrate and Path(outcome.job.calibrate).name,
        "tensorrt": None if outcome.job.tensorrt is None else _tensorrt(outcome.job.tensorrt, artifact),
        "accuracy": accuracy_record(report.accuracy if report else None),
        "devices": [],
        "timing": _timing(outcome.timing, outcome.untimed),
    }


def _coreml(options: CoreMlOptions, outcome: Outcome, handed: Handed | None) -> dict[str, Any]:
    artifact, ready = outcome.final.artifact if outcome.final else None, outcome.readiness
    labels = artifact.interface.labels if artifact else ()
    return {
        "input": options.input,
        "labels": None
        if not labels or handed is None
        else {"path": f"{handed.place}/{LABELS}", "sha256": labels_digest(labels), "count": len(labels)},
        "ios": options.ios,
        "metadata": dict(artifact.interface.metadata) if artifact else {},
        "neural_engine": None
        if ready is None
        else {
            "heuristic": True,
            "share_by_macs": ready.share,
            "macs": ready.macs,
            "violations": list(ready.violations),
            "budget": options.ane_budget,
        },
    }


def _tensorrt(options: TensorRtOptions, artifact: Artifact | None) -> dict[str, Any]:
    """`built_with` is what the engine says of itself when it is read back; null where none was built."""
    engine = artifact is not None and artifact.format == Format.ENGINE
    return {
        "sm": list(options.sm),
        "profile": list(options.profile),
        "built_with": dict(artifact.settings) if artifact is not None and engine else None,
    }


def _model(reference: "ReferenceModel", batch: int | None, interface: Interface) -> dict[str, Any]:
    spec = reference.trained.spec
    inputs, outputs = intended_ports(spec, batch, interface)
    return {
        "name": spec.name,
        "image_size": spec.image_size,
        "classes": spec.classes,
        "batch": "dynamic" if batch is None else batch,
        "inputs": [_port(port) for port in inputs],
        "outputs": [_port(port) for port in outputs],
    }


_LAYOUTS = {2: "NC", 4: "NCHW"}


def _port(port: Port) -> dict[str, Any]:
    return {
        "name": port.name,
        "shape": list(port.shape),
        "dtype": port.dtype,
        "layout": _LAYOUTS.get(len(port.shape)),
    }


def _attestation(attestation: Attestation) -> dict[str, Any]:
    return {
        "runtime": attestation.runtime,
        "version": attestation.version,
        "precision": attestation.precision,
        "threads": attestation.threads,
        "isa": attestation.isa,
        "settings": dict(attestation.settings),
    }


def _settings(handed: Handed, report: Report | None) -> dict[str, Any]:
    defaults = report.defaults if report else None
    return {
        "shipped": {"path": f"{handed.place}/{SETTINGS}", "sha256": handed.settings_sha256},
        "effective": _attestation(report.attestation) if report and report.attestation else None,
        "defaults": None
        if defaults is None
        else {"effective": _attestation(defaults.attestation), "gate": _gate(defaults.gate)},
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


def _stage(outcome: Outcome, result: StageResult, handed: Handed | None) -> dict[str, Any]:
    verdict, artifact = result.verdict, result.artifact
    last = result is outcome.stages[-1]
    report = verdict.report
    return {
        "name": result.name,
        "artifact": {
            "path": f"{handed.place}/{artifact.path.name}" if handed and last else None,
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


def blame_record(stage: str | None, blame: Blame | None) -> dict[str, Any] | None:
    """The stage, and the layers and constants that are likely at fault, the likeliest first."""
    if blame is None:
        return None
    return {
        "stage": stage,
        "note": blame.note,
        "suspects": [
            {
                "module": suspect.module,
                "constant": suspect.constant,
                "layer": None if suspect.layer is None else layer_record(suspect.layer),
                "cause": suspect.cause,
                "says": str(suspect),
            }
            for suspect in blame.suspects
        ],
    }


def judged_record(judged: "Judged", code: int) -> dict[str, Any]:
    """What `vit-export judge --json` prints."""
    foreign, found, weights = judged.foreign, judged.found, judged.weights
    artifact, report = foreign.artifact, found.verdict.report
    return {
        "file": str(artifact.path),
        "sha256": artifact.sha256,
        "format": artifact.format,
        "model": {"name": artifact.model.name, "image_size": artifact.model.image_size},
        "batch": "dynamic" if artifact.batch is None else artifact.batch,
        "input": {**_port(foreign.image), "layout": "NHWC" if foreign.channels_last else "NCHW"},
        "output": _port(foreign.output),
        "range": found.taken.range,
        "range_recognized": found.taken.recognized,
        "scores": found.taken.scores,
        "precision": artifact.precision.to_json(),
        "weights": {"source": weights.source, "sha256": weights.sha256, "trained": weights.trained},
        "vacuous": list(judged.check.failures),
        "status": status_of(found.verdict),
        "evidence": report.evidence,
        "gates": gates_record(report.gates),
        "notes": list(found.notes),
        "blame": blame_record("judge", judged.blame),
        "exit_code": code,
    }


def selftest_record(found: "SelfTest") -> dict[str, Any]:
    """What `vit-export selftest --json` prints."""
    blamed, of = found.blamed
    return {
        "weights": {"source": found.weights.source, "sha256": found.weights.sha256, "trained": found.weights.trained},
        "seed": found.seed,
        "vacuous": list(found.check.failures),
        "kinds": found.kinds,
        "planted": len(found.detections),
        "caught": sum(each.caught for each in found.detections),
        "missed": len(found.missed),
        "invisible": len(found.invisible),
        "blamed": {"right": blamed, "of": of},
        "healthy": [
            {
                "target": each.target,
                "variant": each.variant,
                "stage": each.stage,
                "passed": each.passed,
                "why": each.why,
            }
            for each in found.healthy
        ],
        "faults": [
            {
                "name": each.name,
                "says": each.says,
                "target": each.target,
                "variant": each.variant,
                "stage": each.stage,
                "seen_by": list(each.seen_by),
                "blamed": each.blamed,
                "effect_over_budget": _number(each.effect),
            }
            for each in found.detections
        ],
        "wrong_inputs": {each.name: _number(each.effect) for each in found.inputs},
        "unplanted": list(found.unplanted),
        "exit_code": int(found.code),
    }


def diff_record(found: "Diff", failures: Sequence["Finding"], code: int) -> dict[str, Any]:
    """What `vit-export diff --json` prints."""
    ratio = found.ratio
    return {
        "old": str(found.old),
        "new": str(found.new),
        "findings": [
            {
                "kind": finding.kind,
                "old": finding.old,
                "new": finding.new,
                "worse": finding.worse,
                "growth": _number(finding.growth),
                "detail": finding.detail,
                "fails": finding in failures,
            }
            for finding in found.findings
        ],
        "latency": None
        if ratio is None
        else {
            "old_ms": ratio.old_ms,
            "new_ms": ratio.new_ms,
            "ratio": ratio.median,
            "interval": [ratio.low, ratio.high],
            "noise": ratio.noise,
            "interleaved": ratio.interleaved,
            "differs": ratio.differs,
        },
        "notes": list(found.notes),
        "exit_code": code,
    }


def layer_record(layer: LayerError) -> dict[str, Any]:
    """One layer against the model's float64."""
    return {
        "name": layer.name,
        "kind": layer.kind,
        "module": layer.module,
        "error": _number(layer.error),
        "floor": _number(layer.floor),
        "passed": layer.passed,
        "low": _number(layer.low),
        "high": _number(layer.high),
    }


def gates_record(results: tuple[GateResult, ...]) -> dict[str, Any]:
    """Every gate by name; None of those that were not tried."""
    by_name = {result.gate: _gate(result) for result in results}
    return {str(gate): by_name.get(gate) for gate in Gate}


def _gate(result: GateResult) -> dict[str, Any]:
    return {
        "passed": result.passed,
        "worst": _number(result.worst),
        "budget": _number(result.budget),
        "floor": _number(result.floor),
        "kind": result.kind,
        "detail": result.detail,
        "warning": result.warning,
        "kinds": [_kind(kind) for kind in result.kinds],
    }


def _kind(kind: KindError) -> dict[str, Any]:
    return {
        "kind": kind.kind,
        "worst": _number(kind.worst),
        "worst_image": kind.worst_image,
        "floor": _number(kind.floor),
        "budget": _number(kind.budget),
        "error_over_floor": _number(kind.worst / kind.floor),
        "max_abs": _number(kind.max_abs),
        "cosine": _number(kind.cosine),
        "snr_db": _number(kind.snr_db),
        "kl_nats": _number(kind.kl_nats),
    }


def _number(value: float | None) -> float | str | None:
    """JSON has no NaN or infinity; they are written by name, so that they are not mistaken for a missing value."""
    if value is None or math.isfinite(value):
        return value
    return str(value)


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
        "effective": _attestation(timing.attestation),
        "samples_ns": list(timing.samples_ns),
    }
