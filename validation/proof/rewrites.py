"""The rewrites from the trained to the deploy form: each proven an identity; the one rounding after them audited.

The rewrites' own code is run on a model whose constants are exact: in the arithmetic modulo several primes, where the
form before and the form after a rewrite must give the same of the same random images, and in double-double,
where what the deploy form holds must be the nearest float32.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from efficientvit.copies import copied
from efficientvit.deploy import rewrites
from efficientvit.model import EfficientViT
from efficientvit.size import ImageSize
from runtimes.evaluator.field.operators import FieldTensor
from runtimes.evaluator.field.residues import Residues
from runtimes.evaluator.field.tensor import Field, NoMeaning
from runtimes.evaluator.field.wide import DoubleDouble
from runtimes.evaluator.field.writing import Writing
from validation.proof.subject import images_for, run_form, same_values
from validation.reference.memo import remembered

Rewrite = Callable[[EfficientViT], object]

_SLACK = 2.0**-18
"""In units in the last place: what float64 may be off, in which the rewrites compute (docs/numerics.md)."""

_OTHER_BATCHES = (2, 3)


@dataclass(frozen=True, slots=True)
class Step:
    """What came of one rewrite. `detail`: why it is not proven."""

    name: str
    proven: bool
    detail: str = ""


@torch.no_grad()
def prove_rewrites(model: EfficientViT, steps: tuple[Rewrite, ...] | None = None) -> tuple[Step, ...]:
    """Whether the model after each of `steps` (all rewrites) computes what it did before, for any number of images.

    One that has no meaning in exact arithmetic is not proven, and none after it.
    """
    steps = rewrites.REWRITES if steps is None else steps
    size = model.spec.image_size
    images = images_for(size, None)
    form = in_field(model, images.field)
    before = run_form(form, images)
    found: list[Step] = []
    for step in steps:
        name = getattr(step, "__name__", "rewrite")
        try:
            with Writing(images.field):
                result = step(form)
            form = result if isinstance(result, EfficientViT) else form
            after = run_form(form, images)
            wrong = _other_shape(form, size, before)
        except NoMeaning as error:
            return (*found, Step(name, False, " ".join(str(error).split())))
        same = same_values(after, before)
        found.append(Step(name, same and not wrong, wrong if same else "it changes what the model computes"))
        before = after
    return tuple(found)


def unproven(model: EfficientViT) -> tuple[Step, ...]:
    """The rewrites that are not proven. All are tried together first, one by one only if that is no identity.

    That they are is remembered, of the same model.
    """

    def together(form: EfficientViT) -> EfficientViT:
        for rewrite in rewrites.REWRITES:
            form = rewrite(form)
        return form

    def compute() -> NDArray[np.float64]:
        (step,) = prove_rewrites(model, (together,))
        return np.array([step.proven], np.float64)

    if remembered(f"rewrites {_names()}", model, (), compute).all():
        return ()
    return tuple(step for step in prove_rewrites(model) if not step.proven) or (Step("all", proven=False),)


def _names() -> list[str]:
    return [f"{rewrite.__module__}.{rewrite.__qualname__}" for rewrite in rewrites.REWRITES]


def _other_shape(form: EfficientViT, size: ImageSize, results: tuple[FieldTensor, ...]) -> str:
    """Whether every number of images has as many rows in each output."""
    field = images_for(size, 1, primes=0).field
    form = in_field(form, field)
    for field.batch in _OTHER_BATCHES:
        for found, meant in zip(run_form(form, field.images(size.nchw(field.batch))), results, strict=True):
            if found.shape != (field.batch, *meant.shape[1:]):
                return f"for {field.batch} images its result has the shape {tuple(found.shape)}"
    return ""


def in_field(model: EfficientViT, field: Field) -> EfficientViT:
    """A copy whose floating-point constants are of `field`; of those of another field only the shapes."""
    memo: dict[int, object] = {}
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.dtype.is_floating_point:
            memo[id(tensor)] = _lifted(tensor, field)
    return copied(model, memo).eval()


def _lifted(tensor: Tensor, field: Field) -> Tensor:
    known = isinstance(tensor, FieldTensor)
    lifted = FieldTensor(field, torch.empty(0, *tensor.shape), 0) if known else field.constant(tensor)
    return nn.Parameter(lifted, requires_grad=False) if isinstance(tensor, nn.Parameter) else lifted


@dataclass(frozen=True, slots=True)
class Rounding:
    """Of one constant: how many of its values are not the nearest float32, and by how much at most, in ulps.

    Of two that are equally near, as far as float64 can tell, either is the nearest.
    """

    name: str
    wrong: int
    ulps: float


@torch.no_grad()
def audit(
    trained: EfficientViT, deploy: EfficientViT, more: tuple[Callable[[EfficientViT], EfficientViT], ...] = ()
) -> Iterator[Rounding]:
    """The constants of `deploy` that are not what the rewrites, and `more`, make of `trained`, rounded to float32 once.

    Guaranteed of those that are not named: |stored - exact| <= (1/2 + 2^-18) ulp of the stored value.
    """
    residues: Residues = DoubleDouble()
    field = Field(residues, 1, uniform=False)
    form = in_field(trained, field)
    with Writing(field):
        for rewrite in (*rewrites.REWRITES, *more):
            form = rewrite(form)
    exact = dict(form.named_parameters())
    held = dict(deploy.named_parameters())
    for name in sorted(exact.keys() ^ held.keys()):
        yield Rounding(name, 1, float("inf"))
    for name, value in exact.items():
        if name not in held:
            continue
        assert isinstance(value, FieldTensor)
        stored = held[name].detach()
        if stored.shape != value.shape:
            yield Rounding(name, stored.numel(), float("inf"))
            continue
        wide = stored.double()
        off = ((wide - value.residues[0]) - value.residues[1]).abs()
        wrong = ~(off <= (0.5 + _SLACK) * _ulp(stored))
        if wrong.any():
            yield Rounding(name, int(wrong.sum()), float((off / _ulp(stored))[wrong].max()))


def misrounded(trained: EfficientViT, deploy: EfficientViT) -> tuple[Rounding, ...]:
    """What `audit` finds. That it finds nothing is remembered, of the same two models."""

    def compute() -> NDArray[np.float64]:
        return np.array([not any(audit(trained, deploy))], np.float64)

    held = deploy.state_dict()
    if remembered(f"audit after {_names()}: {list(held)}", trained, tuple(held.values()), compute).all():
        return ()
    return tuple(audit(trained, deploy))


def _ulp(stored: Tensor) -> Tensor:
    """The distance from a float32 to the next one away from zero."""
    magnitude = stored.abs().float()
    return torch.nextafter(magnitude, torch.tensor(torch.inf)).double() - magnitude.double()
