"""Whether a program equals a form: both on the same random values, for every number of images that it takes."""

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from efficientvit.errors import BrokenArtifact
from runtimes.evaluator.evaluator import Exchange
from runtimes.evaluator.field.operators import FieldTensor
from validation.proof.detours import detour
from validation.proof.difference import difference
from validation.proof.outcome import Outcome, Proof
from validation.proof.rounding import folded_apart
from validation.proof.subject import CLASSIFIES, Right, Subject, images_for, right_of, same_values, unproven
from validation.proof.values import Computed, print_of_constant

_BATCHES = (1, 2, 3)
"""At which shapes are followed of a program that takes any number of images; values are computed for one."""


class Run(NamedTuple):
    """What a program gives, each of its outputs, and what it computes on the way."""

    results: tuple[Any, ...]
    computed: Computed


def run_noting(subject: Subject, images: FieldTensor, exchange: Exchange | None = None) -> Run:
    """Evaluate a program. `exchange` sees the results first. Raises as `Subject.run`."""
    computed = Computed()

    def note(name: str, value: Tensor) -> Tensor:
        result = value if exchange is None else exchange(name, value)
        computed.note(name, result)
        return result

    return Run(subject.run(images, note), computed)


def equal(subject: Subject, right: Right, batch: int | None, found: Run | None = None) -> Proof:
    """Whether a program computes what the deploy form does. `batch`: its number of images, None for any.

    `found`: of `images_for(right.size, batch)`, where it has been evaluated.
    """
    try:
        if (apart := folded_apart(subject.program, subject.language)) is not None:
            return apart
        if batch is None and (wrong := _of_other_shapes(subject, right)) is not None:
            return wrong
        if found is None:
            found = run_noting(subject, images_for(right.size, batch))
    except BrokenArtifact as error:
        proof = unproven(error)
        return _of_different_images(subject, right, batch) if proof.unlike and batch and batch > 1 else proof
    return _judged(subject, right, found, batch)


def _judged(subject: Subject, right: Right, found: Run, batch: int | None, *, together: bool = False) -> Proof:
    if not same_values(found.results, right.results):
        proof = difference(subject, right, batch, together=together)
        of_label = subject.probabilities and same_values(found.results[:-1], right.results[:-1])
        return _of_the_label(subject) if of_label and not proof.operation else proof
    if (
        subject.nothing_else
        and (more := _something_else(subject, right, found.computed, batch, together=together)) is not None
    ):
        return more
    if not subject.nothing_else and (vain := detour(subject, found.computed, right.computed)) is not None:
        return vain
    return Proof(Outcome.PROVEN, _said(subject, batch))


def _of_the_label(subject: Subject) -> Proof:
    wrong = subject.results[-1]
    named = [each.name for each in subject.program.operations if each.kind == CLASSIFIES]
    said = f"'{named[0]}': {CLASSIFIES} reads '{wrong}', which" if named else f"the output '{wrong}'"
    return Proof(Outcome.DIFFERENT, f"{said} is not the softmax of '{subject.results[0]}'", (*named, wrong)[0])


def _something_else(
    subject: Subject, right: Right, computed: Computed, batch: int | None, *, together: bool
) -> Proof | None:
    """What a program computes on the way, though it comes to the same, that the form does not compute.

    (x + c) - c is x in exact arithmetic, but rounded in floats, or no number at all; what the form computes has
    the form's own rounding and range.
    """
    strange = any(each not in right.computed for each in computed.prints.values())
    if strange and (proof := difference(subject, right, batch, beyond=True, together=together)).operation:
        return proof
    if not computed.constants:
        return None
    stored = (constant.value for constant in subject.program.constants.values())
    floats = (value for value in stored if isinstance(value, np.ndarray) and value.dtype.kind == "f")
    held = right.holds | {print_of_constant(torch.tensor(value)) for value in floats}
    for operation in subject.program.operations:
        if operation.name not in computed.prints:
            continue
        for name in operation.names():
            value = computed.constants.get(name)
            if value is not None and value.any() and print_of_constant(value) not in held:
                said = f"{operation.kind} '{operation.name}' reads constants that are computed, '{name}', and not held"
                return Proof(Outcome.DIFFERENT, said, operation.name)
    return None


def _of_other_shapes(subject: Subject, right: Right) -> Proof | None:
    """A program of any batch whose values for an image have other shapes when there are more images."""
    seen: dict[str, tuple[int, ...]] = {}
    for batch in _BATCHES:
        changed: list[str] = []

        def follow(name: str, value: Tensor, changed: list[str] = changed) -> Tensor:
            if isinstance(value, FieldTensor) and value.rows:
                alone = (value.rows, *value.shape[1:])
                if seen.setdefault(name, alone) != alone:
                    changed.append(name)
            return value

        results = subject.run(images_for(right.size, batch, primes=0), exchange=follow)
        if changed:
            said = f"'{changed[0]}' has another shape for each image when there are {batch} of them"
            return Proof(Outcome.DIFFERENT, said, changed[0])
        for got, meant in zip((tuple(each.shape) for each in results), right.results, strict=True):
            if got != (batch, *meant.shape[1:]):
                return Proof(Outcome.DIFFERENT, f"for {batch} images its result has the shape {got}")
    return None


def _of_different_images(subject: Subject, right: Right, batch: int) -> Proof:
    """A program of a fixed batch that does not keep its images in rows, on as many different images."""
    images = images_for(right.size, batch, together=True)
    try:
        found = run_noting(subject, images)
    except BrokenArtifact as error:
        return unproven(error)
    proof = _judged(
        subject, right_of(right.form, images, probabilities=len(right.results) > 1), found, batch, together=True
    )
    if proof.outcome is Outcome.DIFFERENT:
        return replace(proof, detail=f"of {batch} different images it gives other results: {proof.detail}")
    return proof


def _said(subject: Subject, batch: int | None) -> str:
    images = "any number of images" if batch is None else "every image" if batch == 1 else f"every {batch} images"
    return f"{len(subject.program.operations)} operations equal the {subject.compared}'s, for {images}"
