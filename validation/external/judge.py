"""The verdict on a file that another tool made: the same gates, from the file and the checkpoint alone.

What such a file cannot be held to is reported and not failed: constants that cannot be traced to the checkpoint, and
the structure of rounded weights, because it is unknown from which form of the model they were rounded.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from efficientvit.errors import BadInput, StageFailed, Unavailable
from efficientvit.images.preprocessing import normalize
from runtimes.artifact import Format
from runtimes.external import Foreign
from runtimes.host.machine import this_host, version
from runtimes.interface import OUTPUT
from runtimes.precision import Dtype, Precision
from runtimes.registry import open_layers, runtime_for
from runtimes.runtime import Attestation, Evidence, Mode
from validation.accuracy.top1 import Accuracy, AccuracyTest
from validation.external.causes import cause_of, resizes
from validation.external.input_format import TOP, Range, Run, Scores, Taken, as_logits, network_feed, recognized, run_of
from validation.external.provenance import trace_constants
from validation.external.rounded_ports import behind_ports, rounding_of_ports
from validation.gates import table
from validation.gates.precision import precision_gate
from validation.gates.result import GateResult
from validation.gates.structure import structure_gate
from validation.golden_run import Outputs, agreement, in_batches, shuffled
from validation.golden_run import Run as GoldenRun
from validation.inputs.golden_set import Kind
from validation.proof.foreign import Feeding, ForeignProof, prove_foreign
from validation.proof.outcome import Outcome
from validation.reference.model import ReferenceModel
from validation.reference.reference import Reference
from validation.trial import Trial, Tried
from validation.verdict import Rejected, Report, VerifiedArtifact, verdict_of

_BATCHES = (1, 3)
ANOTHERS = "none of its weights is of this checkpoint: is it another's?"
"""What is noted of a file whose constants are not the checkpoint's."""


@dataclass(frozen=True, slots=True)
class ForeignVerdict:
    """The verdict, how the file was fed for it, and what could not be asked of it."""

    verdict: VerifiedArtifact | Rejected
    taken: Taken
    notes: tuple[str, ...]


def judge_foreign(
    foreign: Foreign,
    model: ReferenceModel,
    image_range: Range | None = None,
    scores: Scores = Scores.LOGITS,
    labeled: AccuracyTest | None = None,
) -> ForeignVerdict:
    """Judge `foreign` by its answers on the golden images. With no `image_range` the one that fits best is taken.

    With `labeled` its accuracy on those images is judged too.

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
    asked = Range.BYTES if foreign.colors is not None or foreign.takes_bytes else image_range
    # What quantizers clip belongs to a file that others quantized: they leave a ReLU to it.
    mode = Mode.SHIPPED if artifact.precision.quantized else Mode.ORACLE
    with open_layers(artifact, mode, output=foreign.output.name) as opened:
        oracle = run_of(foreign, lambda images: opened.run(images)[opened.outputs[0]])
        taken = recognized(oracle, model, asked, artifact.batch)
        if taken.scores is not scores:
            said = f"gives {taken.scores}, not {scores}: `--output {taken.scores}` judges those"
            return _unfit(foreign, taken, f"'{foreign.output.name}' {said}", runtime.evidence)
        try:
            as_oracle = _runs(oracle, foreign, model, taken)
        except _FirstBatchOnly as error:
            return _unfit(foreign, taken, str(error), runtime.evidence)
        cost = model.at(artifact.precision).classifier.quality_budget or 0.0
        cause = cause_of(oracle, model, taken, artifact.batch, cost)
    if scores is Scores.PROBABILITIES and (
        artifact.precision.activations is Dtype.FP16 or foreign.output.dtype == "float16"
    ):
        raise BadInput(
            f"{artifact.path.name} gives probabilities in float16, which cannot be judged",
            expected="logits, or probabilities in float32",
            got="numbers most of which are below the smallest that float16 tells apart",
            next_step="export the logits as well, or in float32",
        )
    with _shipped(foreign) as (run, attestation, evidence):
        outputs = _runs(run, foreign, model, taken)
        accuracy = None if labeled is None else _accuracy(labeled, run, foreign, model, taken)
    shipped = _Shipped(outputs, attestation, evidence, labeled, accuracy)
    found = _judged(foreign, model, taken, as_oracle, shipped)
    if not isinstance(found.verdict, Rejected) or (cause := cause or resizes(artifact)) is None:
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
        outputs.append(Outputs(size, {OUTPUT: logits}))
    return outputs


@contextmanager
def _shipped(foreign: Foreign) -> Iterator[tuple[Run, Attestation, Evidence]]:
    """In its runtime with the settings that we would ship; how it ran, and what that is evidence of.

    Core ML's sessions are for packages of ours: any other is evaluated wherever it is judged, rounded as it declares.
    """
    artifact = foreign.artifact
    if artifact.format != Format.COREML:
        runtime = runtime_for(artifact.format)
        with runtime.open(artifact, Mode.SHIPPED) as session:
            run = run_of(foreign, lambda images: _scores(session(images), foreign))
            yield run, session.attestation, runtime.evidence
        return
    with open_layers(artifact, Mode.SHIPPED, output=foreign.output.name) as opened:
        precision = artifact.precision.activations
        settings = {"arithmetic": "declared"}
        attestation = Attestation("mil", version("coremltools"), precision, 1, this_host().isa, settings)
        run = run_of(foreign, lambda images: opened.run(images)[opened.outputs[0]])
        yield run, attestation, Evidence.REFERENCE


def _scores(found: Mapping[str, NDArray[np.generic]], foreign: Foreign) -> NDArray[np.generic]:
    """Of what a session gives; the only output of an IR may have no name."""
    return found[foreign.output.name] if len(found) > 1 else next(iter(found.values()))


def _accuracy(labeled: AccuracyTest, run: Run, foreign: Foreign, model: ReferenceModel, taken: Taken) -> Accuracy:
    """On the labeled images, fed as the file takes them."""
    feed, contract = network_feed(model, taken.range), labeled.images.preprocessing

    def answered(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
        answer = run(feed(normalize(pixels, contract)))
        with np.errstate(all="ignore"):
            return as_logits(answer, np.zeros_like(answer), taken.scores)

    artifact = foreign.artifact
    error = model.at(artifact.precision).classifier.error_allowed
    return labeled.of_answers(answered, artifact, runtime_for(artifact.format), error)


@dataclass(frozen=True, slots=True)
class _Shipped:
    """What the file gave as it ships."""

    outputs: list[Outputs]
    attestation: Attestation
    evidence: Evidence
    labeled: AccuracyTest | None
    accuracy: Accuracy | None


def _judged(
    foreign: Foreign, model: ReferenceModel, taken: Taken, oracle: list[Outputs], shipped: _Shipped
) -> ForeignVerdict:
    artifact = foreign.artifact
    identity, proof = _identity(foreign, model, taken)
    constants, known = _constants(foreign, model, proof)
    notes = [] if known else [ANOTHERS]
    if taken.scores is Scores.PROBABILITIES:
        notes.append("amplified images are left out: their probabilities are too small for float32")
    ports = rounding_of_ports(foreign, model, taken)
    own = behind_ports(_kinds(model.at(artifact.precision), taken), ports)
    asked = {gate.name: gate for gate in table.GATES if gate.foreign}
    found: dict[str, GateResult] = {"identity": identity, "constants": constants}
    if own.classifier.quality_budget is not None:
        del asked["precision"]  # how far another tool's rounding may lie from ours is not known
    else:
        found["precision"] = precision_gate(own, shipped.outputs)
    if artifact.precision.weights is Dtype.FP32:
        found["structure"] = structure_gate(behind_ports(_kinds(model.at(Precision()), taken), ports), oracle)
    else:
        notes.append("its rounded weights can't be told from faults below their own noise: structure was not judged")
        del asked["structure"]
    trial = Trial(artifact, own, runtime_for(artifact.format), labeled=shipped.labeled)
    trial.oracle, trial.shipped = (_tried(runs, shipped.attestation) for runs in (oracle, shipped.outputs))
    trial.proof, trial.accuracy = proof.proof, shipped.accuracy
    for gate in asked.values():
        if gate.name not in found and gate.applies(trial):
            found[gate.name] = gate.judge(trial)
    report = Report(
        artifact_sha256=artifact.sha256,
        evidence=shipped.evidence,
        attestation=shipped.attestation,
        gates=tuple(found[name] for name in asked if name in found),
        batches=tuple(run.batch for run in shipped.outputs),
        top1=agreement(own, shipped.outputs[0]),
        accuracy=shipped.accuracy,
    )
    verdict = verdict_of(artifact, report)
    assert isinstance(verdict, VerifiedArtifact | Rejected)
    return ForeignVerdict(verdict, taken, tuple(notes))


def _tried(outputs: list[Outputs], attestation: Attestation) -> Tried:
    """As a gate finds it."""
    return Tried(attestation, [GoldenRun(each, np.ones(len(each.logits), bool)) for each in outputs], ())


def _constants(foreign: Foreign, model: ReferenceModel, found: ForeignProof) -> tuple[GateResult, bool]:
    """And whether some of them are the checkpoint's, or could not be looked at."""
    if found.quantized:
        said, known = f"{found.replaced} are the checkpoint's within rounding", found.replaced > 0
    elif foreign.artifact.precision.quantized:
        said, known = "integers, which were not traced", True
    else:
        traced = trace_constants(foreign, model)
        said, known = str(traced), traced.known > 0
    return GateResult("constants", 0.0, 0.0, said), known


def _identity(foreign: Foreign, model: ReferenceModel, taken: Taken) -> tuple[GateResult, ForeignProof]:
    """A file that could not be proven is judged by samples, unless what stands in the way must not be in a file."""
    found = prove_foreign(
        foreign,
        model.trained,
        probabilities=taken.scores is Scores.PROBABILITIES,
        contract=model.golden.preprocessing,
        feeding=Feeding(TOP.get(taken.range), reversed=foreign.colors == "BGR"),
    )
    proof, rounded = found.proof, f"; {found.replaced} rounded constants taken exactly" if found.replaced else ""
    said = f"{proof.outcome}: {proof.detail}{rounded}"
    warning = None if proof.outcome is Outcome.PROVEN else f"not proven, {said}"
    if proof.outcome is Outcome.PROVEN and found.quantized:
        said = warning = f"proven without its quantizers, whose rounding is judged by samples: {proof.detail}{rounded}"
    return GateResult("identity", float(found.refused), 0.0, said, warning=warning), found


def _kinds(reference: Reference, taken: Taken) -> Reference:
    """Without the amplified images where the file gives probabilities."""
    if taken.scores is Scores.LOGITS:
        return reference
    return reference.only(np.array([kind is not Kind.AMPLIFIED for kind in reference.golden.kinds]))


def _unfit(foreign: Foreign, taken: Taken, detail: str, evidence: Evidence) -> ForeignVerdict:
    gate = GateResult("interface", 1.0, 0.0, detail)
    report = Report(foreign.artifact.sha256, evidence, None, (gate,), (), None)
    return ForeignVerdict(Rejected(foreign.artifact, report), taken, ())
