"""The verdict on a file that another tool made: the same gates, from the file and the checkpoint alone.

What such a file cannot be held to is reported and not failed: constants that cannot be traced to the checkpoint, and
the structure of rounded weights, because it is unknown from which form of the model they were rounded.
"""

from dataclasses import dataclass, replace

import numpy as np

from efficientvit.errors import BadInput, StageFailed, Unavailable
from runtimes.external import Foreign
from runtimes.host.machine import this_host, version
from runtimes.precision import Dtype, Precision
from runtimes.registry import open_layers, runtime_for
from runtimes.runtime import Attestation, Evidence, Mode
from validation.external.causes import cause_of
from validation.external.input_format import Range, Run, Scores, Taken, as_logits, network_feed, recognized, run_of
from validation.external.provenance import trace_constants
from validation.gates.precision import precision_gate
from validation.gates.quality import quality_gate
from validation.gates.result import GateResult
from validation.gates.structure import structure_gate
from validation.golden_run import Outputs, agreement, in_batches, shuffled
from validation.inputs.golden_set import Kind
from validation.proof.foreign import prove_foreign
from validation.proof.outcome import Outcome
from validation.reference.model import ReferenceModel
from validation.reference.reference import Reference
from validation.verdict import Rejected, Report, VerifiedArtifact, verdict_of

_BATCHES = (1, 3)


@dataclass(frozen=True, slots=True)
class ForeignVerdict:
    """The verdict, how the file was fed for it, and what could not be asked of it."""

    verdict: VerifiedArtifact | Rejected
    taken: Taken
    notes: tuple[str, ...]


def judge_foreign(
    foreign: Foreign, model: ReferenceModel, image_range: Range | None = None, scores: Scores = Scores.LOGITS
) -> ForeignVerdict:
    """Judge `foreign` by its answers on the golden images. With no `image_range` the one that fits best is taken.

    Raises:
        Unavailable: no runtime for the file here.
        StageFailed: the runtime refuses the file.
        BrokenArtifact: it contradicts itself, or holds what is not known here.
    """
    artifact = foreign.artifact
    artifact.require_unchanged()
    runtime = runtime_for(artifact.format)
    if (reason := runtime.unavailable()) is not None:
        raise Unavailable(f"{artifact.path.name} cannot be judged here", got=reason)
    asked = Range.BYTES if foreign.colors is not None else image_range  # an image is bytes, and nothing else
    with open_layers(artifact, Mode.ORACLE, output=foreign.output.name) as opened:
        oracle = run_of(foreign, lambda images: opened.run(images)[opened.output])
        taken = recognized(oracle, model, asked, artifact.batch)
        if taken.scores is not scores:
            said = f"gives {taken.scores}, not {scores}: `--output {taken.scores}` judges those"
            return _unfit(foreign, taken, f"'{foreign.output.name}' {said}", runtime.evidence)
        try:
            as_oracle = _runs(oracle, foreign, model, taken)
        except _FirstBatchOnly as error:
            return _unfit(foreign, taken, str(error), runtime.evidence)
        cause = cause_of(oracle, model, taken, artifact.batch)
    if scores is Scores.PROBABILITIES and artifact.precision.activations is Dtype.FP16:
        raise BadInput(
            f"{artifact.path.name} gives probabilities in float16, which cannot be judged",
            expected="logits, or probabilities in float32",
            got="numbers most of which are below the smallest that float16 tells apart",
            next_step="export the logits as well, or in float32",
        )
    shipped, attestation = _shipped(foreign, model, taken)
    found = _judged(foreign, model, taken, as_oracle, shipped, attestation)
    if cause is None or not isinstance(found.verdict, Rejected):
        return found
    return replace(found, notes=(cause, *found.notes))


class _FirstBatchOnly(Exception):
    """A file of any number of images that fails on more than one."""


def _runs(run: Run, foreign: Foreign, model: ReferenceModel, taken: Taken) -> list[Outputs]:
    """Logits of all golden images in shuffled batches of distinct ones."""
    batch = foreign.artifact.batch
    feed = network_feed(model, taken.range)
    outputs = []
    for size in (batch,) if batch else _BATCHES:
        logits = np.full(model.logits.shape, np.nan, np.float32)
        order = shuffled(len(logits), size)
        for rows in in_batches(order, order, size):
            try:
                answer = run(feed(model.golden.images[rows]))
            except StageFailed as error:
                if batch is not None or size == _BATCHES[0]:
                    raise
                said = f"declares any number of images and works at batch {_BATCHES[0]} only: a reshape has it baked in"
                raise _FirstBatchOnly(f"{said}. Export it for one image, or with a dynamic batch throughout") from error
            if answer.shape != (size, model.logits.shape[1]):
                raise StageFailed(
                    "the file gives scores of another shape than it declares",
                    expected=f"({size}, {model.logits.shape[1]})",
                    got=str(answer.shape),
                )
            with np.errstate(all="ignore"):
                logits[rows] = as_logits(answer, model.logits[rows], taken.scores)
        outputs.append(Outputs(size, logits))
    return outputs


def _shipped(foreign: Foreign, model: ReferenceModel, taken: Taken) -> tuple[list[Outputs], Attestation]:
    """In the real runtime with the settings that we would ship; a Core ML package rounded as it declares."""
    artifact, runtime = foreign.artifact, runtime_for(foreign.artifact.format)
    if runtime.evidence is Evidence.NATIVE and artifact.format in _SESSIONS:
        with runtime.open(artifact, Mode.SHIPPED) as session:
            return _runs(run_of(foreign, session), foreign, model, taken), session.attestation
    with open_layers(artifact, Mode.SHIPPED, output=foreign.output.name) as opened:
        runs = _runs(run_of(foreign, lambda images: opened.run(images)[opened.output]), foreign, model, taken)
    precision = artifact.precision.activations
    return runs, Attestation("mil", version("coremltools"), precision, 1, this_host().isa, {"arithmetic": "declared"})


_SESSIONS = frozenset({"onnx", "openvino"})


def _judged(
    foreign: Foreign,
    model: ReferenceModel,
    taken: Taken,
    oracle: list[Outputs],
    shipped: list[Outputs],
    attestation: Attestation,
) -> ForeignVerdict:
    artifact, precision = foreign.artifact, foreign.artifact.precision
    traced = trace_constants(foreign, model)
    notes = ["none of its weights is of this checkpoint: is it another's?"] if not traced.known else []
    if taken.scores is Scores.PROBABILITIES:
        notes.append("amplified images are left out: their probabilities are too small for float32")
    exact = _kinds(model.at(Precision()), taken)
    own = _kinds(model.at(precision), taken)
    results = [_identity(foreign, model, taken), GateResult("constants", 0.0, 0.0, str(traced))]
    if precision.weights is Dtype.FP32:
        results.append(structure_gate(exact, oracle))
    else:
        notes.append("its rounded weights can't be told from faults below their own noise: structure was not judged")
    if own.quality_budget is not None:
        results.append(quality_gate(own, shipped[0]))
    else:
        results.append(precision_gate(own, shipped))
    runtime = runtime_for(artifact.format)
    report = Report(
        artifact_sha256=artifact.sha256,
        evidence=runtime.evidence if attestation.runtime != "mil" else Evidence.REFERENCE,
        attestation=attestation,
        gates=tuple(results),
        batches=tuple(run.batch for run in shipped),
        top1=agreement(own, shipped[0]),
    )
    verdict = verdict_of(artifact, report)
    assert isinstance(verdict, VerifiedArtifact | Rejected)
    return ForeignVerdict(verdict, taken, tuple(notes))


def _identity(foreign: Foreign, model: ReferenceModel, taken: Taken) -> GateResult:
    """A file that could not be proven is judged by samples, unless what stands in the way must not be in a file."""
    if taken.range is not Range.NORMALIZED:
        said = "sampled only: the file normalizes the image itself"
        return GateResult("identity", 0.0, 0.0, said, warning=f"not proven, {said}")
    found = prove_foreign(foreign, model.trained, probabilities=taken.scores is Scores.PROBABILITIES)
    proof, rounded = found.proof, f"; {found.replaced} rounded constants taken exactly" if found.replaced else ""
    said = f"{proof.outcome}: {proof.detail}{rounded}"
    warning = None if proof.outcome is Outcome.PROVEN else f"not proven, {said}"
    return GateResult("identity", float(found.refused), 0.0, said, warning=warning)


def _kinds(reference: Reference, taken: Taken) -> Reference:
    """Without the amplified images where the file gives probabilities."""
    if taken.scores is Scores.LOGITS:
        return reference
    return reference.only(np.array([kind is not Kind.AMPLIFIED for kind in reference.golden.kinds]))


def _unfit(foreign: Foreign, taken: Taken, detail: str, evidence: Evidence) -> ForeignVerdict:
    gate = GateResult("interface", 1.0, 0.0, detail)
    report = Report(foreign.artifact.sha256, evidence, None, (gate,), (), None)
    return ForeignVerdict(Rejected(foreign.artifact, report), taken, ())
