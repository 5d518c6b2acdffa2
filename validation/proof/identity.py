"""The proof: a file's program and the deploy form, on the same random values, in arithmetic modulo several primes.

Equal results there mean equal programs on every image, but for a chance that docs/numerics.md bounds; different ones
mean that they differ. What a runtime makes of the program when it runs it is not part of this: the gates after it
measure that.
"""

from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn

from efficientvit.digests import digest_of
from efficientvit.errors import BrokenArtifact
from runtimes.artifact import Artifact
from runtimes.evaluator.evaluator import Arithmetic, Evaluator, Language
from runtimes.evaluator.program import Operation, Program
from runtimes.field.operators import FieldTensor
from runtimes.field.residues import Residues, Words
from runtimes.field.tensor import Field
from runtimes.precision import Precision
from runtimes.registry import reader_of
from validation.proof.expected import Missing, expected_form
from validation.proof.placement import QuantizedForm, placement
from validation.proof.quantizers import Quantizers
from validation.reference.reference import Reference

_OTHER_BATCHES = (2, 3)
"""At which shapes are followed of a program that takes any number of images; values are computed for one."""


class Outcome(StrEnum):
    """What came of a proof."""

    PROVEN = "proven"
    DIFFERENT = "different"
    SAMPLED = "sampled only"


@dataclass(frozen=True, slots=True)
class Proof:
    """The outcome and why. `operation`: the name of the first whose result the deploy form has nowhere."""

    outcome: Outcome
    detail: str
    operation: str = ""


@dataclass(frozen=True, slots=True)
class Right:
    """The deploy form, and what it gives of `images_for(size, batch)`."""

    form: nn.Module
    size: int
    logits: FieldTensor


def prove(artifact: Artifact, reference: Reference) -> Proof:
    """Whether the artifact's program is the deploy form's, with the constants that the reference says.

    Raises:
        MissingExtra: the package that reads the format is not installed.
        BrokenArtifact: the file's constants cannot be read.
    """
    try:
        program, language = reader_of(artifact).program(artifact)
    except BrokenArtifact as error:
        return Proof(Outcome.SAMPLED, " ".join(str(error).split()))
    unknown = sorted({each.kind for each in program.operations} - set(language.operators))
    if unknown:
        return Proof(Outcome.SAMPLED, f"operators without a meaning in the proof: {', '.join(unknown)}")
    if artifact.precision.quantized:
        form = expected_form(artifact, reference)
        if isinstance(form, Missing):
            return _lacks(form)
        size = artifact.model.image_size
        return quantized_equal(
            program, language, form, artifact.precision, reference.constants, batch=artifact.batch, size=size
        )
    right = _right(artifact, reference)
    if isinstance(right, Missing):
        return _lacks(right)
    return equal(program, language, right, artifact.batch)


def _lacks(missing: Missing) -> Proof:
    return Proof(Outcome.DIFFERENT, f"the file does not hold '{missing.name}'")


def quantized_equal(
    program: Program,
    language: Language,
    form: nn.Module,
    precision: Precision,
    digests: Mapping[str, str],
    *,
    batch: int | None,
    size: int,
) -> Proof:
    """Whether `program` computes what `form` does with quantizers where the precision says.

    Each tensor of the form has the quantizer that the program has of the same values, if it is one that calibration
    found for it by its `digests`.
    """
    images = images_for(size, batch)
    quantizers = Quantizers(program, precision.activations, digests)
    output = program.outputs[0]
    try:
        with quantizers.reading(images) as exchange:
            found = Evaluator(program, Arithmetic.FLOAT64, language, (output,))(
                {_only(program): images}, exchange=exchange
            )
        shapes = images_for(size, batch or 1, shapes_only=True)
        meant = QuantizedForm(form, placement(form, shapes, precision), quantizers.by_key)
        right = Right(meant, size, run_form(meant, images_for(size, batch)))
    except BrokenArtifact as error:
        return Proof(Outcome.SAMPLED, " ".join(str(error).split()))
    lacking = tuple(meant.lacking)
    proof = equal(program, language, right, batch, found[output])
    if proof.outcome is Outcome.SAMPLED:
        return proof
    order = {operation.name: index for index, operation in enumerate(program.operations)}
    reasons = [
        Proof(Outcome.DIFFERENT, f"quantizer '{name}': {wrong}", name) for name, wrong in quantizers.wrong.items()
    ]
    if proof.outcome is Outcome.DIFFERENT:
        reasons.append(proof)
    if reasons:
        return min(reasons, key=lambda reason: order.get(reason.operation, len(order)))
    if lacking:
        where, kind = lacking[0].where, lacking[0].kind
        return Proof(Outcome.DIFFERENT, f"'{where}' ({kind}) reads a tensor that is not quantized")
    return replace(proof, detail=f"{proof.detail}, with {quantizers.count} quantizers")


def _only(program: Program) -> str:
    (image,) = program.inputs
    return image


def equal(program: Program, language: Language, right: Right, batch: int | None, found: Tensor | None = None) -> Proof:
    """Whether `program` computes what the deploy form does. `batch`: its number of images, None for any.

    `found`: what it gives of `images_for(right.size, batch)`, where it has been evaluated.
    """
    (image,) = program.inputs
    output = program.outputs[0]
    evaluator = Evaluator(program, Arithmetic.FLOAT64, language, (output,))

    try:
        if batch is None:
            for other in _OTHER_BATCHES:
                got = evaluator({image: images_for(right.size, other, shapes_only=True)})[output].shape
                if got != (other, *right.logits.shape[1:]):
                    return Proof(Outcome.DIFFERENT, f"for {other} images its result has the shape {tuple(got)}")
        if found is None:
            found = evaluator({image: images_for(right.size, batch)})[output]
    except BrokenArtifact as error:
        return Proof(Outcome.SAMPLED, " ".join(str(error).split()))
    if isinstance(found, FieldTensor) and found.field.residues.equal(found.residues, right.logits.residues):
        return Proof(Outcome.PROVEN, _said(program, batch))
    return _different(program, evaluator, right, batch)


_EVALUATED: OrderedDict[str, Right] = OrderedDict()
_KEPT = 2


def _right(artifact: Artifact, reference: Reference) -> Right | Missing:
    """Evaluated once for all artifacts that hold the same constants and take as many images."""
    what = (artifact.model, artifact.batch, artifact.interface.image_input)
    key = digest_of([(str(what), ""), *reference.constants.items()])
    if key not in _EVALUATED:
        form = expected_form(artifact, reference)
        if isinstance(form, Missing):
            return form
        size = artifact.model.image_size
        _EVALUATED[key] = Right(form, size, run_form(form, images_for(size, artifact.batch)))
        while len(_EVALUATED) > _KEPT:
            _EVALUATED.popitem(last=False)
    return _EVALUATED[key]


def images_for(size: int, batch: int | None, *, shapes_only: bool = False) -> FieldTensor:
    """Random values in the place of images; of a program that takes any number of images, one, or `batch` shapes."""
    count = batch or 1
    field = Field(_residues(shapes_only=shapes_only), count, uniform=batch is None or shapes_only)
    return field.images((count, 3, size, size))


def _said(program: Program, batch: int | None) -> str:
    images = "any number of images" if batch is None else "every image" if batch == 1 else f"every {batch} images"
    return f"{len(program.operations)} operations equal the deploy form's, for {images}"


@cache
def _residues(*, shapes_only: bool = False) -> Residues:
    """Drawn once a process."""
    return Residues(shapes_only=shapes_only)


@torch.no_grad()
def run_form(form: nn.Module, images: FieldTensor) -> FieldTensor:
    """(B, 3, S, S) -> (B, classes)."""
    result = form(images)
    assert isinstance(result, FieldTensor), "the result depends on the image"
    return result


def _different(program: Program, evaluator: Evaluator, right: Right, batch: int | None) -> Proof:
    """Looks for the first operation whose result the deploy form has nowhere, on the way to the output.

    A result may lie in the form in another layout, split or joined with others: it is known if each of its values is.
    What is computed from unknown values is looked at no further where it is known itself.
    """
    known = _known(right, batch)
    strangers, dependent = set[str](), set[str]()

    def look(name: str, value: Tensor) -> Tensor:
        if isinstance(value, FieldTensor):
            dependent.add(name)
            if not _all_in(value.field.residues.fingerprints(value.residues), known):
                strangers.add(name)
        return value

    (image,), output = program.inputs, program.outputs[0]
    evaluator({image: images_for(right.size, batch)}, exchange=look)
    makers = {name: operation for operation in program.operations for name, _ in operation.outputs}
    strange: list[Operation] = []
    todo, done = [output], set[str]()
    while todo:
        name = todo.pop()
        if name in done or name not in makers:
            continue
        done.add(name)
        if name not in strangers:
            continue
        strange.append(makers[name])
        todo.extend(makers[name].names())
    first = min(strange, key=program.operations.index, default=None)
    if first is None:
        return Proof(Outcome.DIFFERENT, f"'{output}' is the deploy form's in another order")
    read = [each for name in first.names() for each in _constants_of(name, makers, dependent)]
    held = ", ".join(name for name in read if name in program.constants and ":" not in name)
    of = f" of {held}" if held else ""
    detail = f"{first.kind} '{first.name}'{of} gives what the deploy form has nowhere"
    return Proof(Outcome.DIFFERENT, detail, first.name)


def _known(right: Right, batch: int | None) -> Words:
    """Fingerprints of every value that the deploy form computes, and of 0, sorted."""
    images = images_for(right.size, batch)
    residues = images.field.residues
    found = [residues.fingerprints(each) for each in (images.residues, residues.of(torch.zeros(1)))]
    with images.field.showing(lambda value: found.append(np.unique(residues.fingerprints(value.residues)))):
        run_form(right.form, images)
    return np.unique(np.concatenate(found))


def _constants_of(name: str, makers: Mapping[str, Operation], dependent: Collection[str]) -> Iterator[str]:
    """What a value that does not depend on the image is, or is computed from."""
    if name not in makers:
        yield name
    elif name not in dependent:
        for read in makers[name].names():
            yield from _constants_of(read, makers, dependent)


def _all_in(values: Words, known: Words) -> bool:
    places = np.searchsorted(known, values)
    return bool((known[np.minimum(places, len(known) - 1)] == values).all())
