"""The verdict on a file that somebody else's tool made: the same gates, from the file and the checkpoint alone.

What cannot be asked of a stranger is said and not failed: which constants can be traced to the checkpoint, and the
structure of rounded weights, since nobody knows from which form of the model they were rounded.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from efficientvit.deploy import rewrites
from efficientvit.digests import tensor_digest
from efficientvit.errors import BadInput, StageFailed, Unavailable
from runtimes.external import Foreign
from runtimes.host.machine import this_host, version
from runtimes.precision import Dtype, Precision
from runtimes.registry import open_layers, read_constants, runtime_for
from runtimes.runtime import Array, Attestation, Evidence, Mode
from validation.gates.precision import precision_gate
from validation.gates.quality import quality_gate
from validation.gates.result import GateResult
from validation.gates.structure import structure_gate
from validation.golden_run import Outputs, agreement, in_batches, shuffled
from validation.inputs.golden_set import Kind
from validation.metrics import Float64, relative_error
from validation.reference.model import ReferenceModel
from validation.reference.reference import Reference
from validation.verdict import Rejected, Report, VerifiedArtifact, verdict_of

_BATCHES = (1, 3)
_SMALL = 8
"""A constant of fewer numbers is no weight: axes, shapes, epsilons."""

_NEAR = 1e-5

_FAR_BETTER = 0.2


class Range(StrEnum):
    """What an image's values are: normalized by mean and std, or 0 to 1, or 0 to 255."""

    NORMALIZED = "normalized"
    UNIT = "unit"
    BYTES = "bytes"


class Scores(StrEnum):
    """What the output is."""

    LOGITS = "logits"
    PROBABILITIES = "probabilities"


@dataclass(frozen=True, slots=True)
class Taken:
    """How the file is fed, and what it gives. `recognized`: by trying, nobody said so."""

    range: Range
    scores: Scores
    recognized: bool


@dataclass(frozen=True, slots=True)
class ForeignVerdict:
    """The verdict, how the file was fed for it, and what could not be asked of it."""

    verdict: VerifiedArtifact | Rejected
    taken: Taken
    notes: tuple[str, ...]


_Run = Callable[[Array], Float64]


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
    with open_layers(artifact, Mode.ORACLE, output=foreign.output.name) as opened:
        oracle = _fed(foreign, lambda images: opened.run(images)[opened.output])
        taken = _recognized(oracle, model, image_range, artifact.batch)
        as_oracle = _runs(oracle, foreign, model, taken)
    if taken.scores is not scores:
        return _wrong_scores(foreign, taken, scores, runtime.evidence)
    if scores is Scores.PROBABILITIES and artifact.precision.activations is Dtype.FP16:
        raise BadInput(
            f"{artifact.path.name} gives probabilities in float16, which cannot be judged",
            expected="logits, or probabilities in float32",
            got="numbers most of which are below the smallest that float16 tells apart",
            next_step="export the logits as well, or in float32",
        )
    shipped, attestation = _shipped(foreign, model, taken)
    return _judged(foreign, model, taken, as_oracle, shipped, attestation)


def network_feed(model: ReferenceModel, image_range: Range) -> Callable[[NDArray[np.float32]], Array]:
    """Normalized images -> the same in the range that the file takes."""
    preprocessing = model.golden.preprocessing
    std, mean = (np.array(x, np.float64).reshape(1, 3, 1, 1) for x in (preprocessing.std, preprocessing.mean))

    def fed(images: NDArray[np.float32]) -> Array:
        if image_range is Range.NORMALIZED:
            return images
        unit = images.astype(np.float64) * std + mean
        return (unit * (255.0 if image_range is Range.BYTES else 1.0)).astype(np.float32)

    return fed


def laid_out(foreign: Foreign) -> Callable[[Array], Array]:
    """NCHW float32 -> the layout that the file takes. Where it takes float16 the session rounds."""
    return lambda images: np.ascontiguousarray(np.moveaxis(images, 1, 3) if foreign.channels_last else images)


def network_input(foreign: Foreign, model: ReferenceModel, taken: Taken) -> Callable[[Array], Array]:
    """Normalized NCHW images -> what the file itself takes."""
    feed, turned = network_feed(model, taken.range), laid_out(foreign)
    return lambda images: turned(feed(images))


def _fed(foreign: Foreign, run: Callable[[Array], NDArray[np.generic]]) -> _Run:
    turned = laid_out(foreign)

    def answer(images: Array) -> Float64:
        result: Float64 = np.asarray(run(turned(images)), np.float64)
        return result

    return answer


def _recognized(run: _Run, model: ReferenceModel, asked: Range | None, batch: int | None) -> Taken:
    """The range on which the answers are nearest to the model's, and whether they are probabilities."""
    rows = [row for row in model.golden.ordinary_rows if model.judged[row]]
    rows = [int(row) for row in np.resize(rows[:: max(1, len(rows) // 3)][:3], max(batch or 1, 1))]
    best: tuple[float, Range, Scores] | None = None  # normalized, unless another fits far better
    for candidate in (asked,) if asked else tuple(Range):
        with np.errstate(all="ignore"):
            answer = run(network_feed(model, candidate)(model.golden.images[rows]))
            kind = _kind(answer)
            error = float(relative_error(_as_logits(answer, model.logits[rows], kind), model.logits[rows]).max())
        error = error if error < float("inf") else float("inf")
        if best is None or error < _FAR_BETTER * best[0]:
            best = (error, candidate, kind)
    assert best is not None
    return Taken(best[1], best[2], asked is None)


def _kind(answer: Float64) -> Scores:
    sums_to_one = bool(np.abs(answer.sum(axis=1) - 1).max() < 1e-2)
    return Scores.PROBABILITIES if sums_to_one and bool((answer >= 0).all()) else Scores.LOGITS


def _as_logits(answer: Float64, reference: Float64, kind: Scores) -> Float64:
    """Probabilities are logits but for a constant an image: the one with the reference's mean."""
    if kind is Scores.LOGITS:
        return answer
    logs = np.log(answer)
    result: Float64 = logs - logs.mean(axis=1, keepdims=True) + reference.mean(axis=1, keepdims=True)
    return result


def _runs(run: _Run, foreign: Foreign, model: ReferenceModel, taken: Taken) -> list[Outputs]:
    """Logits of all golden images in shuffled batches of distinct ones."""
    batch = foreign.artifact.batch
    feed = network_feed(model, taken.range)
    outputs = []
    for size in (batch,) if batch else _BATCHES:
        logits = np.full(model.logits.shape, np.nan, np.float32)
        order = shuffled(len(logits), size)
        for rows in in_batches(order, order, size):
            answer = run(feed(model.golden.images[rows]))
            if answer.shape != (size, model.logits.shape[1]):
                raise StageFailed(
                    "the file gives scores of another shape than it declares",
                    expected=f"({size}, {model.logits.shape[1]})",
                    got=str(answer.shape),
                )
            with np.errstate(all="ignore"):
                logits[rows] = _as_logits(answer, model.logits[rows], taken.scores)
        outputs.append(Outputs(size, logits))
    return outputs


def _shipped(foreign: Foreign, model: ReferenceModel, taken: Taken) -> tuple[list[Outputs], Attestation]:
    """In the real runtime with the settings that we would ship; a Core ML package rounded as it declares."""
    artifact, runtime = foreign.artifact, runtime_for(foreign.artifact.format)
    if runtime.evidence is Evidence.NATIVE and artifact.format in _SESSIONS:
        with runtime.open(artifact, Mode.SHIPPED) as session:
            return _runs(_fed(foreign, session), foreign, model, taken), session.attestation
    with open_layers(artifact, Mode.SHIPPED, output=foreign.output.name) as opened:
        runs = _runs(_fed(foreign, lambda images: opened.run(images)[opened.output]), foreign, model, taken)
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
    results = [GateResult("constants", 0.0, 0.0, str(traced))]
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


def _kinds(reference: Reference, taken: Taken) -> Reference:
    """Without the amplified images where the file gives probabilities."""
    if taken.scores is Scores.LOGITS:
        return reference
    return reference.only(np.array([kind is not Kind.AMPLIFIED for kind in reference.golden.kinds]))


def _wrong_scores(foreign: Foreign, taken: Taken, asked: Scores, evidence: Evidence) -> ForeignVerdict:
    detail = f"'{foreign.output.name}' gives {taken.scores}, not {asked}: `--output {taken.scores}` judges those"
    gate = GateResult("interface", 1.0, 0.0, detail)
    report = Report(foreign.artifact.sha256, evidence, None, (gate,), (), None)
    return ForeignVerdict(Rejected(foreign.artifact, report), taken, ())


@dataclass(frozen=True, slots=True)
class Traced:
    """How many of the file's weights are the checkpoint's, `bitwise` or but for `rounding`, and the others' names."""

    bitwise: int
    rounding: int
    lost: tuple[str, ...]

    @property
    def known(self) -> int:
        """Those that could be traced."""
        return self.bitwise + self.rounding

    def __str__(self) -> str:
        total = self.known + len(self.lost)
        said = f"{self.bitwise} of {total} weights are the checkpoint's bit for bit, {self.rounding} within rounding"
        some = ", ".join(self.lost[:3]) + (" …" if len(self.lost) > 3 else "")
        return f"{said}; {len(self.lost)} could not be traced: {some}" if self.lost else said


def trace_constants(foreign: Foreign, model: ReferenceModel) -> Traced:
    """Look for each of the file's weights among the tensors of the trained, the folded and the deploy form."""
    exact, near = _known(model)
    bitwise, rounding, lost = 0, 0, list[str]()
    for name, value in read_constants(foreign.artifact):
        if value.dtype.kind != "f" or value.size < _SMALL:
            continue
        if tensor_digest(value.astype(np.float32)) in exact or tensor_digest(_flipped(value)) in exact:
            bitwise += 1
        elif any(_alike(value, other) for other in near.get(value.size, ())):
            rounding += 1
        else:
            lost.append(name)
    return Traced(bitwise, rounding, tuple(lost))


def _flipped(value: NDArray[np.generic]) -> NDArray[np.float32]:
    """A matrix as the other convention has it."""
    result: NDArray[np.float32] = np.ascontiguousarray(value.T if value.ndim == 2 else value).astype(np.float32)
    return result


def _known(model: ReferenceModel) -> tuple[set[str], dict[int, list[Float64]]]:
    """Every tensor of the trained form, the folded form and the deploy form: its digest; and its values by size."""
    folded = rewrites.rewritten(model.trained, rewrites.REWRITES[:1])
    digests: set[str] = set()
    by_size: dict[int, list[Float64]] = {}
    for form in (model.trained, folded, model.rewritten):
        for tensor in form.state_dict().values():
            if tensor.is_floating_point():
                value: Float64 = tensor.double().numpy()
                digests.add(tensor_digest(value.astype(np.float32)))
                by_size.setdefault(value.size, []).append(value)
    return digests, by_size


def _alike(value: NDArray[np.generic], other: Float64) -> bool:
    mine: Float64 = np.asarray(value, np.float64)
    tolerance = (2.0**-10 if value.dtype == np.float16 else _NEAR) * max(float(np.linalg.norm(other)), 1e-300)
    shapes = (mine, mine.T) if mine.ndim == 2 else (mine,)
    return any(float(np.linalg.norm(form.reshape(-1) - other.reshape(-1))) <= tolerance for form in shapes)
