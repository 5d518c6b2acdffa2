"""The proof: a file's program and the deploy form, on the same random values, in arithmetic modulo several primes.

Equal results there mean equal programs on every image, but for a chance that docs/numerics.md bounds; different ones
mean that they differ. What a runtime makes of the program when it runs it is not part of this: the gates after it
measure that.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache

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
from runtimes.registry import reader_of
from validation.proof.expected import Missing, expected_form
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
    return equal(program, language, form, artifact.batch, artifact.model.image_size)


def equal(program: Program, language: Language, form: nn.Module, batch: int | None, size: int) -> Proof:
    """Whether `program` computes what `form` does. `batch`: its number of images, None for any."""
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
        right = _run(form, images)
        values: dict[str, FieldTensor] = {}

        def keep(name: str, value: Tensor) -> Tensor:
            if isinstance(value, FieldTensor):
                values[name] = value
            return value

        found = evaluator({image: images}, exchange=keep)[output]
    except BrokenArtifact as error:
        return Proof(Outcome.SAMPLED, " ".join(str(error).split()))
    if isinstance(found, FieldTensor) and field.residues.equal(found.residues, right.residues):
        return Proof(Outcome.PROVEN, _said(program, batch))
    return _different(program, values, output, form, images)


def _said(program: Program, batch: int | None) -> str:
    images = "any number of images" if batch is None else "every image" if batch == 1 else f"every {batch} images"
    return f"{len(program.operations)} operations equal the deploy form's, for {images}"


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
    program: Program, values: Mapping[str, FieldTensor], output: str, form: nn.Module, images: FieldTensor
) -> Proof:
    """Looks for the first operation whose result the form has nowhere, on the way to the output.

    A result may lie in the form in another layout, split or joined with others: it is known if each of its values is.
    What is computed from unknown values is looked at no further where it is known itself.
    """
    residues = images.field.residues
    with images.field.watching() as seen:
        _run(form, images.field.images(images.shape))
    zero = residues.of(torch.zeros(1))
    known = np.unique(np.concatenate([residues.fingerprints(each) for each in (*(s.residues for s in seen), zero)]))
    makers = {name: operation for operation in program.operations for name, _ in operation.outputs}
    strange: list[Operation] = []
    todo, done = [output], set[str]()
    while todo:
        name = todo.pop()
        if name in done or name not in makers:
            continue
        done.add(name)
        if name in values and _all_in(residues.fingerprints(values[name].residues), known):
            continue
        strange.append(makers[name])
        todo.extend(makers[name].names())
    first = min(strange, key=program.operations.index, default=None)
    if first is None:
        return Proof(Outcome.DIFFERENT, f"'{output}' is the deploy form's in another order")
    held = ", ".join(name for name in first.names() if name in program.constants and ":" not in name)
    of = f" of {held}" if held else ""
    detail = f"{first.kind} '{first.name}'{of} gives what the deploy form has nowhere"
    return Proof(Outcome.DIFFERENT, detail, first.name)


def _all_in(values: Words, known: Words) -> bool:
    places = np.searchsorted(known, values)
    return bool((known[np.minimum(places, len(known) - 1)] == values).all())
