"""The proof: a file's program and the deploy form, on the same random values, in arithmetic modulo several primes.

Equal results there mean equal programs on every image, but for a chance that docs/numerics.md bounds; different ones
mean that they differ. What a runtime makes of the program when it runs it is not part of this: the gates after it
measure that.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache, partial
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor, nn

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
from validation.proof.placement import Quantizing, placement
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


def prove(artifact: Artifact, reference: Reference) -> Proof:
    """Whether the artifact's program is the deploy form's, with the constants that the reference says.

    Raises:
        MissingExtra: the package that reads the format is not installed.
        BrokenArtifact: the file contradicts itself.
    """
    program, language = reader_of(artifact).program(artifact)
    unknown = sorted({each.kind for each in program.operations} - set(language.operators))
    if unknown:
        return Proof(Outcome.SAMPLED, f"operators without a meaning in the proof: {', '.join(unknown)}")
    form = expected_form(artifact, reference)
    if isinstance(form, Missing):
        return Proof(Outcome.DIFFERENT, f"the file does not hold '{form.name}'")
    quantized = artifact.precision if artifact.precision.quantized else None
    return equal(
        program, language, form, artifact.batch, artifact.model.image_size, quantized, digests=reference.constants
    )


def equal(
    program: Program,
    language: Language,
    form: nn.Module,
    batch: int | None,
    size: int,
    quantized: Precision | None = None,
    digests: Mapping[str, str] = MappingProxyType({}),
) -> Proof:
    """Whether `program` computes what `form` does. `batch`: its number of images, None for any.

    `quantized`: the precision that says where `form` is to be quantized, each tensor by the quantizer that `program`
    has of it, whose constants have to have these `digests`.
    """
    (image,) = program.inputs
    output = program.outputs[0]
    evaluator = Evaluator(program, Arithmetic.FLOAT64, language, (output,))
    try:
        if batch is None:
            for other in _OTHER_BATCHES:
                field = Field(_residues(shapes_only=True), other, uniform=True)
                there = field.images((other, 3, size, size))
                got, wanted = evaluator({image: there})[output].shape, _run(form, there).shape
                if got != wanted:
                    return Proof(Outcome.DIFFERENT, f"for {other} images it gives {tuple(got)}, not {tuple(wanted)}")
        field = Field(_residues(), batch or 1, uniform=batch is None)
        images = field.images((batch or 1, 3, size, size))
        values: dict[str, FieldTensor] = {}
        makers = {name: operation for operation in program.operations for name, _ in operation.outputs}
        quantizers = Quantizers(program, digests)
        quantizers.watch(images, image)

        def keep(name: str, value: Tensor) -> Tensor:
            if isinstance(value, FieldTensor):
                values[name] = value
                quantizers.computed(makers[name], value)
            return value

        found = evaluator({image: images}, exchange=keep)[output]
        quantizers.stop(field)
        meant: Quantizing | None = None
        if quantized is not None:
            shaped = Field(_residues(shapes_only=True), batch or 1, uniform=batch is None)
            where = placement(form, shaped.images(images.shape), quantized)
            meant = Quantizing(where, quantizers.by_key)
        run = partial(_run, form) if meant is None else partial(meant.run, form)
        right = run(images)
    except BrokenArtifact as error:
        return Proof(Outcome.SAMPLED, " ".join(str(error).split()))
    reasons = [
        Proof(Outcome.DIFFERENT, f"quantizer '{name}': {wrong}", name) for name, wrong in quantizers.wrong.items()
    ]
    if not isinstance(found, FieldTensor) or not field.residues.equal(found.residues, right.residues):
        reasons.append(_different(program, values, output, run, images))
    if reasons:
        order = {operation.name: index for index, operation in enumerate(program.operations)}
        return min(reasons, key=lambda proof: order.get(proof.operation, len(order)))
    if meant is not None and meant.lacking:
        lost = meant.lacking[0]
        return Proof(Outcome.DIFFERENT, f"'{lost.where}' ({lost.kind}) reads a tensor that is not quantized")
    return Proof(Outcome.PROVEN, _said(program, batch, quantizers.count))


def _said(program: Program, batch: int | None, quantizers: int) -> str:
    images = "any number of images" if batch is None else "every image" if batch == 1 else f"every {batch} images"
    with_quantizers = f", with {quantizers} quantizers," if quantizers else ""
    return f"{len(program.operations)} operations equal the deploy form's{with_quantizers} for {images}".replace(
        "form's for", "form's, for"
    )


@cache
def _residues(*, shapes_only: bool = False) -> Residues:
    """Drawn once a process."""
    return Residues(shapes_only=shapes_only)


@torch.inference_mode()
def _run(form: nn.Module, images: FieldTensor) -> FieldTensor:
    result = form(images)
    assert isinstance(result, FieldTensor), "the result depends on the image"
    return result


def _different(
    program: Program,
    values: Mapping[str, FieldTensor],
    output: str,
    run: Callable[[FieldTensor], FieldTensor],
    images: FieldTensor,
) -> Proof:
    """Looks for the first operation whose result the form has nowhere, on the way to the output.

    A result may lie in the form in another layout, split or joined with others: it is known if each of its values is.
    What is computed from unknown values is looked at no further where it is known itself.
    """
    residues = images.field.residues
    with images.field.watching() as seen:
        run(images.field.images(images.shape))
    zero = residues.of(torch.zeros(1))
    known = np.unique(np.concatenate([residues.fingerprints(each) for each in (*(s.residues for s in seen), zero)]))
    makers = {name: operation for operation in program.operations for name, _ in operation.outputs}
    strange: list[Operation] = []
    todo, done = [output], set[str]()
    while todo:
        name = todo.pop()
        if name in done or name not in makers or name not in values:  # a constant is its reader's business
            continue
        done.add(name)
        if _all_in(residues.fingerprints(values[name].residues), known):
            continue
        strange.append(makers[name])
        todo.extend(makers[name].names())
    first = min(strange, key=program.operations.index, default=None)
    if first is None:
        return Proof(Outcome.DIFFERENT, f"'{output}' is the deploy form's in another order")
    read = [n for name in first.names() for n in ((name,) if name in values else _constants_of(name, makers))]
    held = ", ".join(name for name in read if name in program.constants and ":" not in name)
    of = f" of {held}" if held else ""
    detail = f"{first.kind} '{first.name}'{of} gives what the deploy form has nowhere"
    return Proof(Outcome.DIFFERENT, detail, first.name)


def _constants_of(name: str, makers: Mapping[str, Operation]) -> Iterator[str]:
    """What a value that does not depend on the image is computed from."""
    if name not in makers:
        yield name
        return
    for read in makers[name].names():
        yield from _constants_of(read, makers)


def _all_in(values: Words, known: Words) -> bool:
    places = np.searchsorted(known, values)
    return bool((known[np.minimum(places, len(known) - 1)] == values).all())
