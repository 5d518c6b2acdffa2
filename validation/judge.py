"""Run an artifact on the golden inputs and pass it through the gates."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from efficientvit.errors import ArtifactChanged, BrokenArtifact, VitExportError
from runtimes.artifact import Artifact, Format, digest
from runtimes.coreml.neural_engine import readiness
from runtimes.interface import intended_ports
from runtimes.precision import Dtype
from runtimes.registry import native_runtime, read_constants, read_metadata, read_ports, unexpected_operators
from runtimes.runtime import Answer, Attestation, Evidence, Mode, Runtime, Session
from runtimes.tensorrt.evaluated import typed_onnx
from validation.accuracy.top1 import AccuracyTest
from validation.devices.units import factor_of
from validation.gates import result as gates
from validation.gates.constants import audit
from validation.gates.result import GateResult, Outputs
from validation.golden_run import Peaks, Run, run_golden
from validation.int8.layerwise import taught
from validation.int8.ranges import calibrated_ranges
from validation.metrics import Float64
from validation.reference.model import Reference
from validation.verdict import Built, DefaultsCheck, NotRun, Report, Verdict, VerifiedArtifact, verdict_of

DYNAMIC_BATCHES = (1, 3, 8)
"""The batch sizes at which a dynamic artifact is judged."""

_LABELED_IMAGES = 4
_TAUGHT_IMAGES = 4


def judge(
    artifact: Artifact,
    reference: Reference,
    runtime: Runtime,
    *,
    defaults: bool = False,
    ane_budget: float | None = None,
    labeled: AccuracyTest | None = None,
) -> Verdict:
    """The verdict on `artifact`: every gate that applies to it, at every batch size that it takes.

    With `defaults` the precision gate is tried once more under the runtime's own settings and reported beside
    the verdict. With `ane_budget` at least that share of a Core ML package's work must be fit for the Neural Engine.
    With `labeled` its accuracy on those images is measured, and held to their budget. A runtime that this host hasn't
    gives `NotRun`.

    Raises:
        ArtifactChanged: the file is not the one that was made.
        StageFailed: the runtime refuses the file.
        VitExportError: the reference is for another kind of input.
    """
    artifact.require_unchanged()
    if artifact.interface.image_input != reference.image_input:
        raise VitExportError("the reference is for artifacts with another kind of input")
    if (reason := runtime.unavailable()) is not None:
        return NotRun(artifact, reason, remedy="run `vit-export verify` on this folder on a host that can run it")
    try:
        report = _report(artifact, reference, runtime, labeled, defaults=defaults, ane_budget=ane_budget)
    except BrokenArtifact as error:
        report = Report(artifact.sha256, runtime.evidence, None, (gates.unreadable(error),), (), None)
    return in_another_arithmetic(artifact, report) or verdict_of(artifact, report, _why_not_run(artifact, runtime))


def in_another_arithmetic(artifact: Artifact, report: Report) -> NotRun | None:
    """Asked for bfloat16 or int8, OpenVINO computes in float32 where the CPU has no units for it, without a word."""
    attested, asked = report.attestation, artifact.precision.execution
    in_integers = asked is Dtype.INT8 and artifact.format == Format.OPENVINO
    if attested is None or attested.precision is asked or not (in_integers or asked is Dtype.BF16):
        return None
    if not report.passed:  # what fails anyhow is rejected, not left to another host
        return None
    units = "bfloat16 units" if asked is Dtype.BF16 else "8-bit products"
    return NotRun(
        artifact,
        reason=f"it is to run in {asked}, and on this CPU {attested.runtime} computed in {attested.precision}",
        remedy=f"run `vit-export verify` on this folder on a CPU with {units}",
        report=report,
    )


def built(artifact: Artifact, source: VerifiedArtifact) -> Built:
    """The verdict on an engine that cannot be run here: that on the network it was built from, a moment ago.

    Raises:
        ArtifactChanged: the engine, or the typed file beside it, is not the one that was made.
        VitExportError: it was built from something else.
    """
    artifact.require_unchanged()
    typed = typed_onnx(artifact)
    if (found := digest(typed)) != source.artifact.sha256:
        raise ArtifactChanged(
            f"{typed.name} beside the engine is not the file that was judged",
            expected=f"sha256 {source.artifact.sha256}",
            got=f"sha256 {found}",
            next_step="export it again",
        )
    reason = native_runtime(artifact.format).unavailable()
    assert reason is not None, "where it can be run it is judged by running it"
    verdict = verdict_of(artifact, source.report, reason)
    assert isinstance(verdict, Built)
    return verdict


def _why_not_run(artifact: Artifact, runtime: Runtime) -> str | None:
    """An engine that another than its own runtime judges was not run: its network was."""
    if artifact.format != Format.ENGINE or runtime.evidence is Evidence.NATIVE:
        return None
    return native_runtime(artifact.format).unavailable()


def _report(
    artifact: Artifact,
    reference: Reference,
    runtime: Runtime,
    labeled: AccuracyTest | None,
    *,
    defaults: bool,
    ane_budget: float | None,
) -> Report:
    interface = gates.interface_gate(
        read_ports(artifact),
        intended_ports(artifact.model, artifact.batch, artifact.interface),
        read_metadata(artifact),
        dict(artifact.interface.metadata),
    )
    if not interface.passed:  # then there is nothing to feed, or to compare
        return Report(artifact.sha256, runtime.evidence, None, (interface,), (), None)
    batches = (artifact.batch,) if artifact.batch else DYNAMIC_BATCHES
    oracle = tried(artifact, runtime, Mode.ORACLE, reference, batches)
    shipped = tried(artifact, runtime, Mode.SHIPPED, reference, batches)
    judged = reference.only(oracle.fed & shipped.fed)
    factor = factor_of(shipped.attestation)
    results = [
        interface,
        gates.operators_gate(unexpected_operators(artifact), artifact.precision.float_layers),
        gates.constants_gate(audit(read_constants(artifact), reference.constants)),
        gates.structure_gate(judged, oracle.outputs),
        *_overflow(artifact, oracle.peaks),
        *(quantized_gates(artifact, judged) if artifact.precision.quantized else ()),
    ]
    if not artifact.precision.quantized:
        results.append(gates.precision_gate(judged, shipped.outputs, factor))
    if artifact.interface.labels:
        results.append(gates.labels_gate(artifact.interface.labels, shipped.answers))
    if reference.quality_budget is not None:
        results.append(gates.quality_gate(judged, shipped.outputs[0]))
    accuracy = None if labeled is None else labeled.of(artifact, runtime, gates.error_allowed(judged))
    if accuracy is not None:
        results.append(gates.accuracy_gate(accuracy))
    if ane_budget is not None:
        results.append(gates.readiness_gate(readiness(artifact), ane_budget))
    beside = None
    if defaults and runtime.evidence is Evidence.NATIVE:
        plain = tried(artifact, runtime, Mode.DEFAULTS, reference, batches[:1])
        fed = judged.only(plain.fed)
        beside = DefaultsCheck(
            plain.attestation,
            gates.quality_gate(fed, plain.outputs[0])
            if artifact.precision.quantized
            else gates.precision_gate(fed, plain.outputs, factor),
        )
    return Report(
        artifact_sha256=artifact.sha256,
        evidence=runtime.evidence,
        attestation=shipped.attestation,
        gates=tuple(results),
        batches=batches,
        top1=gates.agreement(judged, shipped.outputs),
        defaults=beside,
        outputs=shipped.outputs[0],
        accuracy=accuracy,
    )


def within_quality(
    artifact: Artifact, reference: Reference, runtime: Runtime, labeled: AccuracyTest | None = None
) -> bool:
    """The quality gate, and accuracy where there are labeled images, and nothing else: no verdict.

    Raises:
        StageFailed: the runtime refuses the file.
    """
    run = tried(artifact, runtime, Mode.SHIPPED, reference, (artifact.batch or DYNAMIC_BATCHES[0],))
    if not gates.quality_gate(reference.only(run.fed), run.outputs[0]).passed:
        return False
    if labeled is None:
        return True
    # Not the interval's lenient end: whoever looks for the least that passes would always end up there.
    found = labeled.of(artifact, runtime, gates.error_allowed(reference))
    return found.drop <= found.budget and gates.accuracy_gate(found).passed


@dataclass(frozen=True, slots=True)
class Tried:
    """One mode's runs at all batch sizes. `answers`: what a classifier said of some images, with its logits."""

    attestation: Attestation
    runs: Sequence[Run]
    answers: Sequence[tuple[str, Answer, Float64]]

    @property
    def outputs(self) -> list[Outputs]:
        """Of each run."""
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


def tried(artifact: Artifact, runtime: Runtime, mode: Mode, reference: Reference, batches: Sequence[int]) -> Tried:
    """Run the artifact on the golden images, at each of the batch sizes.

    Raises:
        StageFailed: the runtime refuses the file.
    """
    with runtime.open(artifact, mode) as session:
        runs = [run_golden(session, reference, batch) for batch in batches]
        labeled = bool(artifact.interface.labels) and mode is Mode.SHIPPED
        answers = _answers(session, reference, runs[0]) if labeled else ()
        return Tried(session.attestation, runs, answers)


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


def quantized_gates(artifact: Artifact, reference: Reference) -> Iterator[GateResult]:
    """Of int8 files: the ranges, but for a network's; how the layers execute where the file or its network ships."""
    rows = reference.golden.ordinary_rows
    judged = [row for row in rows if reference.judged[row]]
    batch = artifact.batch or 1
    if artifact.format in (Format.ONNX, Format.OPENVINO):
        yield gates.ranges_gate(calibrated_ranges(artifact, reference.inputs[rows]))
    if artifact.format == Format.ONNX and artifact.precision.activations is not Dtype.UINT8:
        return  # another runtime's: what that makes of it is judged
    count = -(-_TAUGHT_IMAGES // batch) * batch
    lesson = taught(artifact, reference.inputs[np.resize(judged, count)])
    yield gates.execution_gate(lesson.layers, lesson.other_kernels, lesson.products)


def _overflow(artifact: Artifact, peaks: Peaks) -> list[GateResult]:
    """Where arithmetic is float16 and the runtime shows its tensors."""
    if artifact.precision.activations is not Dtype.FP16 or peaks.ordinary is None:
        return []
    return [gates.overflow_gate(peaks.ordinary, peaks.amplified)]
