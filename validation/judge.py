"""Run an artifact on the golden inputs and pass it through the gates, in the order of their table."""

from efficientvit.errors import ArtifactChanged, BrokenArtifact, VitExportError
from runtimes.artifact import Artifact, Format, digest
from runtimes.precision import Dtype
from runtimes.registry import native_runtime
from runtimes.runtime import Evidence, Runtime
from runtimes.tensorrt.evaluated import typed_onnx
from validation.accuracy.top1 import AccuracyTest
from validation.budgets import Budgets
from validation.gates import table
from validation.gates.accuracy import accuracy_gate
from validation.gates.interface import INTERFACE, unreadable
from validation.gates.precision import judge_precision
from validation.gates.quality import judge_quality
from validation.gates.result import GateResult
from validation.golden_run import agreement
from validation.network import network_of
from validation.reference.reference import Reference
from validation.trial import DYNAMIC_BATCHES, Trial
from validation.verdict import Built, DefaultsCheck, NotRun, Report, Verdict, VerifiedArtifact, verdict_of


def judge(
    artifact: Artifact,
    reference: Reference,
    runtime: Runtime,
    budgets: Budgets | None = None,
    *,
    defaults: bool = False,
    labeled: AccuracyTest | None = None,
) -> Verdict:
    """The verdict on `artifact`: every gate that applies to it, at every batch size that it takes.

    With `defaults` the precision gate runs again under the runtime's own settings; its result is reported with
    the verdict. With `labeled` its accuracy on those images is measured. `NotRun` where this host has no such runtime.

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
        first = INTERFACE.judge(Trial(artifact, reference, runtime))
        if first.passed:
            with network_of(artifact) as network:
                whole = None if network is artifact else artifact
                trial = Trial(network, reference, runtime, budgets or Budgets(), labeled, whole=whole)
                report = _report(trial, first, defaults=defaults)
        else:  # then there is nothing to feed, or to compare
            report = Report(artifact.sha256, runtime.evidence, None, (first,), (), None)
    except BrokenArtifact as error:
        report = Report(artifact.sha256, runtime.evidence, None, (unreadable(error),), (), None)
    return in_another_arithmetic(artifact, report) or verdict_of(artifact, report, _why_not_run(artifact, runtime))


def _report(trial: Trial, first: GateResult, *, defaults: bool) -> Report:
    others = [gate for gate in table.GATES if gate is not INTERFACE]
    # A file that its runtime refuses is a failed stage, whatever the next gates would say of it.
    _ = trial.oracle, trial.shipped
    found = (first, *table.results(trial, others))
    return report_of(trial, found, _defaults(trial) if defaults else None)


def report_of(trial: Trial, found: tuple[GateResult, ...], defaults: DefaultsCheck | None = None) -> Report:
    """What the gates found, and how the artifact ran."""
    return Report(
        artifact_sha256=trial.file.sha256,
        evidence=trial.runtime.evidence,
        attestation=trial.shipped.attestation,
        gates=found,
        batches=trial.batches,
        top1=agreement(trial.judged, trial.shipped.outputs[0]),
        defaults=defaults,
        outputs=trial.shipped.outputs[0],
        accuracy=trial.accuracy,
        proof=trial.proof if any(result.gate == "identity" for result in found) else None,
    )


def _defaults(trial: Trial) -> DefaultsCheck | None:
    if trial.runtime.evidence is not Evidence.NATIVE:
        return None
    judge_defaults = judge_quality if trial.artifact.precision.quantized else judge_precision
    return DefaultsCheck(trial.defaults.attestation, judge_defaults(trial, trial.defaults))


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
        ArtifactChanged: the engine, or the typed file next to it, is not the one that was made.
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


def within_quality(
    artifact: Artifact, reference: Reference, runtime: Runtime, labeled: AccuracyTest | None = None
) -> bool:
    """The quality gate, and accuracy where there are labeled images, and nothing else: no verdict.

    Raises:
        StageFailed: the runtime refuses the file.
    """
    trial = Trial(artifact, reference, runtime, labeled=labeled, dynamic_batches=DYNAMIC_BATCHES[:1])
    if not judge_quality(trial, trial.shipped).passed:
        return False
    found = trial.accuracy
    # Not the lenient end of the interval: a search for the least that passes would always end there.
    return found is None or (found.drop <= found.budget and accuracy_gate(found).passed)
