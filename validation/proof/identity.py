"""The proof: a file's program and the deploy form, on the same random values, in arithmetic modulo several primes.

Equal results there mean equal programs on every image, but for a chance that docs/numerics.md bounds; different ones
mean that they differ. What a runtime makes of the program when it runs it is not part of this: the gates after it
measure that.
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace

from torch import nn

from efficientvit.digests import digest_of
from efficientvit.errors import BrokenArtifact
from efficientvit.size import ImageSize
from runtimes.artifact import Artifact
from runtimes.evaluator.program import Program
from runtimes.precision import Precision
from validation.proof.comparison import equal, run_noting
from validation.proof.expected import Held, Missing, constants_of, expected_form, lacking, strange_constants
from validation.proof.outcome import Outcome, Proof
from validation.proof.placement import QuantizedForm, placement
from validation.proof.quantizers import LIMITS, Quantizers
from validation.proof.rounding import narrowed
from validation.proof.subject import Right, Subject, images_for, right_of, subject_of, unproven


def prove(artifact: Artifact, digests: Mapping[str, str]) -> Proof:
    """Whether the artifact's program is the deploy form's, with the constants whose `digests` the reference has.

    Raises:
        MissingExtra: the package that reads the format is not installed.
        BrokenArtifact: the file's constants cannot be read.
    """
    subject = subject_of(artifact)
    if isinstance(subject, Proof):
        return subject
    if (narrower := narrowed(subject.program, artifact.precision)) is not None:
        return narrower
    held = constants_of(artifact)
    if artifact.precision.quantized:
        form = expected_form(artifact, held, digests)
        if isinstance(form, Missing):
            return _lacks(form, subject.program, digests)
        size = artifact.model.image_size
        return quantized_equal(subject, form, artifact.precision, digests, batch=artifact.batch, size=size)
    right = _right(artifact, held, digests, probabilities=subject.probabilities)
    if isinstance(right, Missing):
        return _lacks(right, subject.program, digests)
    return equal(subject, right, artifact.batch)


def _lacks(missing: Missing, program: Program, digests: Mapping[str, str]) -> Proof:
    """With the operation that reads the largest constant which is nobody's: in the place of the other, most likely."""
    said = f"the file does not hold '{missing.name}'"
    strangers = strange_constants(program, digests)
    readers = {
        name: operation
        for operation in reversed(program.operations)
        if not set(LIMITS) <= set(operation.inputs)  # ranges are calibration's
        for name in operation.names()
        if name in strangers
    }
    if not readers:
        return Proof(Outcome.DIFFERENT, said)
    name = max(readers, key=lambda name: (strangers[name], -program.operations.index(readers[name])))
    reader = readers[name]
    said = f"{said}, and {reader.kind} '{reader.name}' reads '{name}', which is not the model's"
    return Proof(Outcome.DIFFERENT, said, reader.name, constants=frozenset(readers))


def quantized_equal(
    subject: Subject,
    form: nn.Module,
    precision: Precision,
    digests: Mapping[str, str],
    *,
    batch: int | None,
    size: ImageSize,
) -> Proof:
    """Whether the program computes what `form` does with quantizers where the precision says.

    Each tensor of the form has the quantizer that the program has of the same values, if it is one that calibration
    found for it by its `digests`.
    """
    images = images_for(size, batch)
    quantizers = Quantizers(subject.program, precision.activations, digests)
    try:
        with quantizers.reading(images) as exchange:
            found = run_noting(subject, images, exchange)
        shapes = images_for(size, batch or 1, primes=0)
        meant = QuantizedForm(form, placement(form, shapes, precision), quantizers.of)
        right = right_of(meant, images_for(size, batch), probabilities=subject.probabilities)
    except BrokenArtifact as error:
        return unproven(error)
    bare = tuple(meant.lacking)
    proof = equal(subject, right, batch, found)
    if proof.outcome is Outcome.SAMPLED:
        return proof
    order = {operation.name: index for index, operation in enumerate(subject.program.operations)}
    reasons = [
        Proof(Outcome.DIFFERENT, f"quantizer '{name}': {wrong}", name) for name, wrong in quantizers.wrong.items()
    ]
    if proof.outcome is Outcome.DIFFERENT:
        reasons.append(proof)
    if reasons:
        return min(reasons, key=lambda reason: order.get(reason.operation, len(order)))
    if bare:
        call, result = bare[0]
        there = next((name for name, each in found.computed.prints.items() if each == result), "")
        at = f", '{there}' in the file" if there else ""
        said = f"'{call.where}' ({call.kind}) reads a tensor that is not quantized{at}"
        return Proof(Outcome.DIFFERENT, said, there)
    return replace(proof, detail=f"{proof.detail}, with {quantizers.count} quantizers")


_EVALUATED: OrderedDict[str, Right] = OrderedDict()
_KEPT = 4


def forget() -> None:
    """Evaluate the deploy form anew for the next artifact."""
    _EVALUATED.clear()


def _right(artifact: Artifact, held: Held, digests: Mapping[str, str], *, probabilities: bool) -> Right | Missing:
    """Evaluated once for all artifacts that hold the same constants and take as many images."""
    if (missing := lacking(held, digests)) is not None:
        return missing
    what = (artifact.model, artifact.batch, artifact.interface.image_input, probabilities)
    key = digest_of([(str(what), ""), *digests.items()])
    if key not in _EVALUATED:
        form = expected_form(artifact, held, digests)
        if isinstance(form, Missing):
            return form
        size = artifact.model.image_size
        _EVALUATED[key] = right_of(form, images_for(size, artifact.batch), probabilities=probabilities)
        while len(_EVALUATED) > _KEPT:
            _EVALUATED.popitem(last=False)
    return _EVALUATED[key]
