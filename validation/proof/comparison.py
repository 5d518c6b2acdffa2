"""Whether a program equals a form: both on the same random values, for every number of images that it takes."""

from typing import Any

from torch import Tensor

from efficientvit.errors import BrokenArtifact
from runtimes.field.operators import FieldTensor
from validation.proof.difference import difference
from validation.proof.subject import Outcome, Proof, Right, Subject, images_for, run_form, unproven

_BATCHES = (1, 2, 3)
"""At which shapes are followed of a program that takes any number of images; values are computed for one."""


def equal(subject: Subject, right: Right, batch: int | None, found: Any = None) -> Proof:
    """Whether a program computes what the deploy form does. `batch`: its number of images, None for any.

    `found`: what it gives of `images_for(right.size, batch)`, where it has been evaluated.
    """
    try:
        if batch is None and (wrong := _of_other_shapes(subject, right)) is not None:
            return wrong
        if found is None:
            found = subject.run(images_for(right.size, batch))
    except BrokenArtifact as error:
        proof = unproven(error)
        return _of_different_images(subject, right, batch) if proof.unlike and batch and batch > 1 else proof
    if isinstance(found, FieldTensor) and found.field.residues.equal(found.residues, right.logits.residues):
        return Proof(Outcome.PROVEN, _said(subject, batch))
    return difference(subject, right, batch)


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

        got = subject.run(images_for(right.size, batch, primes=0), exchange=follow).shape
        if changed:
            said = f"'{changed[0]}' has another shape for each image when there are {batch} of them"
            return Proof(Outcome.DIFFERENT, said, changed[0])
        if got != (batch, *right.logits.shape[1:]):
            return Proof(Outcome.DIFFERENT, f"for {batch} images its result has the shape {tuple(got)}")
    return None


def _of_different_images(subject: Subject, right: Right, batch: int) -> Proof:
    """A program of a fixed batch that does not keep its images in rows, on as many different images."""
    images = images_for(right.size, batch, together=True)
    try:
        found = subject.run(images)
    except BrokenArtifact as error:
        return unproven(error)
    wanted = run_form(right.form, images)
    if isinstance(found, FieldTensor) and found.field.residues.equal(found.residues, wanted.residues):
        return Proof(Outcome.PROVEN, _said(subject, batch))
    return Proof(Outcome.DIFFERENT, f"of {batch} different images it gives other results")


def _said(subject: Subject, batch: int | None) -> str:
    images = "any number of images" if batch is None else "every image" if batch == 1 else f"every {batch} images"
    return f"{len(subject.program.operations)} operations equal the {subject.compared}'s, for {images}"
