"""A program under proof, what it has to equal, and the values that both are run on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from efficientvit.errors import BrokenArtifact, UnknownOperation
from efficientvit.model import tensors_of
from efficientvit.size import ImageSize
from runtimes.artifact import Artifact
from runtimes.evaluator.evaluator import Arithmetic, Evaluator, Exchange, Language
from runtimes.evaluator.field.operators import FieldTensor
from runtimes.evaluator.field.residues import PRIMES, Residues
from runtimes.evaluator.field.tensor import Field, Unlike
from runtimes.evaluator.program import Program
from runtimes.interface import PROBABILITIES
from runtimes.registry import reader_of
from validation.proof.outcome import NO_PROGRAM, Outcome, Proof
from validation.proof.values import Print, held_by, print_of


@dataclass(frozen=True, slots=True)
class Subject:
    """A program that is to be proven. `results`: the outputs that count, by name, in order.

    `exact`: constants' values in the place of rounded ones. `probabilities`: the last result is what a classifier takes
    its label from; it has to be the softmax of the first.
    `channels_last`: it takes (B, H, W, 3). `compared`: what it has to equal, in words. `nothing_else`: it must compute
    nothing on the way that the other does not compute.
    """

    program: Program
    language: Language
    results: tuple[str, ...]
    exact: Mapping[str, Tensor] = field(default_factory=dict)
    probabilities: bool = False
    channels_last: bool = False
    compared: str = "deploy form"
    nothing_else: bool = True

    def run(self, images: FieldTensor, exchange: Exchange | None = None) -> tuple[Any, ...]:
        """What it gives of (B, 3, H, W) images: each of `results`.

        Raises:
            BrokenArtifact: an operation has no meaning in exact arithmetic.
        """
        (image,) = self.program.inputs
        there = images.field
        exact = {
            name: FieldTensor(there, x.residues[: there.residues.count], 0) if isinstance(x, FieldTensor) else x
            for name, x in self.exact.items()
        }
        evaluator = Evaluator(self.program, Arithmetic.FLOAT64, self.language, self.results, exact)
        if self.program.inputs[image].dtype == "uint8":
            images = FieldTensor(there, images.residues, images.rows, torch.uint8)
        fed = images.permute(0, 2, 3, 1) if self.channels_last else images
        found = evaluator({image: fed}, exchange=exchange)
        return tuple(found[name] for name in self.results)


def unproven(error: BrokenArtifact) -> Proof:
    """It stopped at an operation without a meaning in exact arithmetic."""
    kinds = frozenset({error.kind} if isinstance(error, UnknownOperation) else ())
    return Proof(Outcome.SAMPLED, " ".join(str(error).split()), unlike=isinstance(error.__cause__, Unlike), kinds=kinds)


def subject_of(artifact: Artifact) -> Subject | Proof:
    """The artifact's program; or that it cannot be proven.

    Raises:
        MissingExtra: the package that reads the format is not installed.
    """
    reader = reader_of(artifact)
    if not reader.has_program:
        return Proof(Outcome.SAMPLED, NO_PROGRAM)
    try:
        program, language = reader.program(artifact)
    except BrokenArtifact as error:
        return unproven(error)
    unknown = {each.kind: each.name for each in reversed(program.operations) if each.kind not in language.operators}
    if unknown:
        named = ", ".join(f"{kind} '{name}'" for kind, name in sorted(unknown.items()))
        said = f"operators without a meaning in the proof: {named}"
        return Proof(Outcome.SAMPLED, said, kinds=frozenset(unknown))
    if len(program.inputs) != 1:
        return Proof(Outcome.SAMPLED, f"a program of {len(program.inputs)} inputs: {', '.join(program.inputs)}")
    own = program.outputs[: len(artifact.model.outputs)]  # a classifier's label and probabilities come after them
    read = [str(each.inputs["probabilities"]) for each in program.operations if each.kind == CLASSIFIES]
    read += [name for name in program.outputs[len(own) :] if name == PROBABILITIES and not read]
    return Subject(program, language, (*own, *read[:1]), probabilities=bool(read))


CLASSIFIES = "classify"
"""Core ML's operation that picks a label: which label is which class is the interface's, what it reads is not."""


@dataclass(frozen=True, slots=True, eq=False)
class Right:
    """The deploy form, what it gives of `images_for(size, batch)`, and what it computes on the way and holds.

    `results`: logits, and the probabilities where a classifier is compared with it.
    """

    form: nn.Module
    size: ImageSize
    results: tuple[FieldTensor, ...]
    computed: frozenset[Print]
    holds: frozenset[Print]


def right_of(form: nn.Module, images: FieldTensor, *, probabilities: bool = False) -> Right:
    """What a program has to equal on `images`."""
    seen = {print_of(images)}
    with images.field.showing(lambda value: seen.add(print_of(value))):
        results = results_of(form, images, probabilities=probabilities)
    height, width = images.shape[-2:]
    size = ImageSize(height=height, width=width)
    return Right(form, size, results, frozenset(seen), held_by(form.state_dict()))


def images_for(size: ImageSize, batch: int | None, *, primes: int = PRIMES, together: bool = False) -> FieldTensor:
    """Random values in the place of images; of a program that takes any number of images, one.

    Of a batch one image stands for all, because none may be treated unlike another; `together`: they are different.
    Without primes there are no values, only shapes, of `batch` images.
    """
    count = batch or 1
    uniform = not primes or (count > 1 and not together) or batch is None
    repeated = count if uniform and primes else 1
    there = Field(_residues(primes), count, uniform=uniform, repeated=repeated)
    return there.images(size.nchw(count))


@cache
def _residues(primes: int) -> Residues:
    """Drawn once a process."""
    return Residues(primes=primes)


@torch.no_grad()
def results_of(form: nn.Module, images: FieldTensor, *, probabilities: bool) -> tuple[FieldTensor, ...]:
    """What the form gives and, if asked for, the softmax of the logits."""
    results = run_form(form, images)
    if not probabilities:
        return results
    shares = results[0].softmax(1)
    assert isinstance(shares, FieldTensor), "a function of the logits"
    return *results, shares


@torch.no_grad()
def run_form(form: nn.Module, images: FieldTensor) -> tuple[FieldTensor, ...]:
    """(B, 3, H, W) -> (B, classes) logits, or whatever else the form gives, each of its outputs."""
    results: list[FieldTensor] = []
    for result in tensors_of(form(images)):
        assert isinstance(result, FieldTensor), "the result depends on the image"
        results.append(result)
    return tuple(results)


def same_values(one: Sequence[Any], other: Sequence[FieldTensor]) -> bool:
    """As many outputs, equal in order."""
    return len(one) == len(other) and all(
        isinstance(a, FieldTensor) and a.field.residues.equal(a.residues, b.residues)
        for a, b in zip(one, other, strict=True)
    )
