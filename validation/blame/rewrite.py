"""Which rewrite from the trained to the deploy form is wrong, and in which module. Everything in float64."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from efficientvit.copies import copied
from efficientvit.deploy import rewrites
from efficientvit.deploy.image_input import divided_by_std
from efficientvit.model import EfficientViT, tensors_of
from runtimes.precision import Dtype
from runtimes.reader import Layers
from validation.blame.capture import Captured, capture
from validation.blame.matching import Right, RightTensor, matched
from validation.blame.ranking import Blame, rank
from validation.gates.rewrite import EXACT
from validation.metrics import relative_error
from validation.reference.by_output import ByOutput, by_output, joined
from validation.reference.model import ReferenceModel

_FLOOR = EXACT / 10
_FACTOR = 10.0
_IMAGES = 2


def blame_rewrite(model: ReferenceModel, *, image_input: bool = False) -> Blame:
    """The first rewrite after which the outputs are off, and the modules whose tensors the form before it has not.

    Where every rewrite is right by itself, what is exported is compared with what they make.
    """
    rows = [row for row in range(len(model.golden)) if model.judged[row]][:_IMAGES]
    if not rows:
        return Blame((), note="there is no golden image on which the model is well conditioned")
    images, right = model.images[rows].double(), _right(model, rows)
    before, name, wrong = _rewritten(model, tuple(rows), tuple(rewrites.REWRITES))
    if wrong is not None:
        return _compared(before, wrong, images, f"rewrite '{name}' changes the {model.called}")
    last = model.rewritten
    if not _is_right(last, images, right):
        return _compared(before, last, images, f"the deploy form is not what the rewrites up to '{name}' make")
    if image_input:
        std = model.golden.preprocessing.std
        behind = divided_by_std(last, std)
        scaled = images * torch.tensor(std, dtype=images.dtype).reshape(1, 3, 1, 1)
        if not _is_right(behind, scaled, right):
            return _compared(last, behind, scaled, "the first convolution behind an image input is not divided by std")
    return Blame((), note="every rewrite is exact; float32 alone makes the difference")


_Rewrites = tuple[Callable[[EfficientViT], EfficientViT], ...]
_Found = tuple[EfficientViT, str, EfficientViT | None]
_found: WeakKeyDictionary[EfficientViT, tuple[object, _Found]] = WeakKeyDictionary()


def _rewritten(model: ReferenceModel, rows: tuple[int, ...], steps: _Rewrites) -> _Found:
    """The last right form; the first wrong rewrite and its form, or the last rewrite and None.

    Known as long as the exact model lives: the self-test blames many deploy forms of one model.
    """
    key = (rows, steps)
    known = _found.get(model.exact)
    if known is not None and known[0] == key:
        return known[1]
    images, right = model.images[list(rows)].double(), _right(model, list(rows))
    before, name = copied(model.exact), "trained"  # a copy: the key must not be kept alive by its value
    wrong = None
    for after, step in _forms(model.exact):
        name = step
        if not _is_right(after, images, right):
            wrong = after
            break
        before = after
    found = before, name, wrong
    _found[model.exact] = key, found
    return found


@torch.no_grad()
def _forms(trained: EfficientViT) -> Iterator[tuple[EfficientViT, str]]:
    """The model after each rewrite, one upon the other."""
    form = copied(trained)
    for rewrite in rewrites.REWRITES:
        form = rewrite(copied(form))
        yield form, getattr(rewrite, "__name__", "rewrite")


@torch.no_grad()
def _is_right(form: EfficientViT, images: Tensor, right: ByOutput) -> bool:
    values = by_output(form.spec.outputs, joined(form(images)).numpy())
    return all(bool(relative_error(values[name], exact).max() <= EXACT) for name, exact in right.items())


def _right(model: ReferenceModel, rows: Sequence[int]) -> ByOutput:
    return {name: right[rows] for name, right in model.right.items()}


def _compared(before: EfficientViT, after: EfficientViT, images: Tensor, note: str) -> Blame:
    tensors = (RightTensor(each.layer, (each.value.numpy(),), _FLOOR, each.place) for each in capture(before, images))
    right = Right(tuple(tensors), {})
    seen = capture(after, images)[1:]  # without the input
    layers = tuple(
        replace(each.layer, name=f"{each.layer.name}/{each.layer.kind}_{each.layer.gives[0]}") for each in seen
    )
    values: Sequence[dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float64]]]] = [
        {each.layer.gives[0]: each.value.numpy() for each in seen}
    ]
    opened = Layers(layers, _outputs(after, images, seen), lambda _: values[0])
    blamed = rank(opened, matched(layers, values, right, _FACTOR), {}, right, Dtype.FP32)
    return replace(blamed, note=note)


def _outputs(form: EfficientViT, images: Tensor, seen: Sequence[Captured]) -> tuple[str, ...]:
    """The names of what the model gives, among the tensors that it was seen to compute; the last computed of equals."""
    with torch.no_grad():
        given = tensors_of(form(images))
    return tuple(
        next(each.layer.gives[0] for each in reversed(seen) if torch.equal(each.value, output.double()))
        for output in given
    )
