"""Whether a program equals a form: both on the same random values, for every number of images that it takes."""

from typing import Any

from efficientvit.errors import BrokenArtifact
from runtimes.field.operators import FieldTensor
from runtimes.field.tensor import Unlike
from validation.proof.difference import difference
from validation.proof.subject import Outcome, Proof, Right, Subject, images_for

_OTHER_BATCHES = (2, 3)
"""At which shapes are followed of a program that takes any number of images; values are computed for one."""


def equal(subject: Subject, right: Right, batch: int | None, found: Any = None) -> Proof:
    """Whether a program computes what the deploy form does. `batch`: its number of images, None for any.

    `found`: what it gives of `images_for(right.size, batch)`, where it has been evaluated.
    """
    try:
        if batch is None:
            for other in _OTHER_BATCHES:
                got = subject.run(images_for(right.size, other, shapes_only=True)).shape
                if got != (other, *right.logits.shape[1:]):
                    return Proof(Outcome.DIFFERENT, f"for {other} images its result has the shape {tuple(got)}")
        if found is None:
            found = subject.run(images_for(right.size, batch))
    except BrokenArtifact as error:
        return unproven(error)
    if isinstance(found, FieldTensor) and found.field.residues.equal(found.residues, right.logits.residues):
        return Proof(Outcome.PROVEN, _said(subject, batch))
    return difference(subject, right, batch)


def unproven(error: BrokenArtifact) -> Proof:
    """It stopped at an operation without a meaning in exact arithmetic."""
    return Proof(Outcome.SAMPLED, " ".join(str(error).split()), unlike=isinstance(error.__cause__, Unlike))


def _said(subject: Subject, batch: int | None) -> str:
    images = "any number of images" if batch is None else "every image" if batch == 1 else f"every {batch} images"
    return f"{len(subject.program.operations)} operations equal the {subject.compared}'s, for {images}"
