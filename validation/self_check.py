"""Can parity on this checkpoint fail at all? Measured before anything is compared.

On a freshly initialized EfficientViT all of attention can be wrong without moving a logit; a model whose
logits hardly depend on the image lets an artifact pass that ignores it. Parity there would be vacuous.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from efficientvit.images.labels import both_answers
from efficientvit.model import CascadedGroupAttention, EfficientViT
from runtimes.precision import Dtype, Precision
from validation.budgets import STRUCTURE_FACTOR
from validation.inputs.golden_set import Kind
from validation.metrics import FEW, Float64, relative_error, scale_of
from validation.reference.floors import ordinary as ordinary_kinds
from validation.reference.memo import remembered
from validation.reference.model import ReferenceModel
from validation.reference.reference import Reference

_PROJECTIONS = 4
_IMAGES = 6
PRECISIONS = (
    Precision(),
    Precision(weights=Dtype.FP16),
    Precision(Dtype.FP16, Dtype.FP16, Dtype.FP16),
)


@dataclass(frozen=True, slots=True)
class Criteria:
    """What a checkpoint must show for parity on it to mean something."""

    input_share: float
    distinct_top1: float
    float32_floor: float


CHECKPOINT = Criteria(input_share=0.05, distinct_top1=0.0, float32_floor=1e-4)
"""For a user's weights. A two-class model can't have many winners, so their number is not required."""

SEEDED = Criteria(input_share=0.5, distinct_top1=0.5, float32_floor=1e-5)
"""For our own."""


MOST_UNSEEN = 1 / 4
"""The share of heads and biases that could be lost unseen beyond which weights are as training starts, proven or not:
no kernel of attention was tried on them."""


def criteria_of(*, trained: bool) -> Criteria:
    """By whose weights they are."""
    return CHECKPOINT if trained else SEEDED


@dataclass(frozen=True, slots=True)
class SelfCheck:
    """What was measured, and why parity would be vacuous, if it would be.

    `input_share`: mean over the golden images of ‖y - mean over images‖ / ‖y - mean over classes‖.
    `distinct_top1`: different winners over the number of images, without photos (a user's may all show one
    thing). `float32_floor`: the worst of the ordinary kinds. `deploy_ratio`: the deploy form's typical float32
    error over the trained form's. `least_visible`: the smallest effect of dropping a head, an attention bias
    or a layer's bias, in units of the structure gate's budget. `sham_ratio`: the error of the best answer that
    ignores the image over its budget, in the most lenient precision. `unseen`: what samples alone would
    not see; the proof of the file's program does, so these count against artifacts that are not proven.
    `photo_share`: of real photos (`RealInputs.share`), the lowest where several options name some; None for too few.
    """

    input_share: float
    distinct_top1: float
    float32_floor: float
    deploy_ratio: float
    least_visible: float
    least_visible_name: str
    sham_ratio: float
    failures: tuple[str, ...]
    unseen: tuple[str, ...] = ()
    photo_share: float | None = None

    @property
    def vacuous(self) -> bool:
        """Parity on this checkpoint proves too little to be called a check, of a proven program as well."""
        return bool(self.failures)

    @property
    def by_samples(self) -> tuple[str, ...]:
        """All failures: those of an artifact whose program is not proven."""
        return (*self.failures, *self.unseen)


def self_check(
    reference: ReferenceModel,
    criteria: Criteria = CHECKPOINT,
    precisions: Iterable[Precision] = PRECISIONS,
    image_input: bool = False,
) -> SelfCheck:
    """Measure `reference` and hold it against `criteria`; the sham is tried in `precisions`, those to be made.

    `image_input`: of the form behind an 8-bit image.
    """
    single = reference.at(Precision(), image_input=image_input)
    logits = reference.logits[reference.golden.ordinary_rows]
    share = _input_share(logits)
    own = [row for row in reference.golden.ordinary_rows if reference.golden.kinds[row] is not Kind.PHOTO]
    distinct = len(set(both_answers(reference.logits[own]).argmax(axis=1).tolist())) / max(len(own), 1)
    floors = ordinary_kinds(single.floors)
    floor = max(floors.values(), default=float("inf"))
    deploy, trained = reference.float32_cost
    visible = visibility(reference)
    budget = STRUCTURE_FACTOR * max(ordinary_kinds(single.structure_floors).values(), default=float("inf"))
    name = min(visible, key=visible.__getitem__)
    sham = min(_sham_ratio(reference.at(precision, image_input=image_input)) for precision in precisions)
    invisible = sorted(part for part, effect in visible.items() if not effect >= 2 * budget)

    failures, unseen = list[str](), list[str]()
    if not share >= criteria.input_share:
        failures.append(f"the logits hardly depend on the image: share {share:.3f} of {criteria.input_share} needed")
    if not distinct >= criteria.distinct_top1:
        failures.append(f"{distinct:.0%} distinct winners over the images, {criteria.distinct_top1:.0%} needed")
    if not floor <= criteria.float32_floor:
        failures.append(f"float32 itself is off by {floor:.1e}, at most {criteria.float32_floor:.0e} allowed")
    if invisible:
        some = ", ".join(invisible[:3]) + (" …" if len(invisible) > 3 else "")
        (failures if len(invisible) > MOST_UNSEEN * len(visible) else unseen).append(
            f"{len(invisible)} of {len(visible)} heads and biases could be lost unseen: {some}"
        )
    if not sham > 1:
        unseen.append("an artifact that ignores its input would pass")
    ratio, least = deploy / trained, visible[name] / budget
    return SelfCheck(share, distinct, floor, ratio, least, name, sham, tuple(failures), tuple(unseen))


def _input_share(logits: Float64) -> float:
    """Part of the (n, classes) logits that depends on the image. A few of them are not compared with each other."""
    own = np.linalg.norm(logits - logits.mean(axis=0), axis=1)
    if logits.shape[1] <= FEW:
        return float(np.sqrt((own**2).mean() / (logits**2).sum(axis=1).mean()))
    return float((own / np.linalg.norm(logits - logits.mean(axis=1, keepdims=True), axis=1)).mean())


def _sham_ratio(at: Reference) -> float:
    """Worst error over budget of the answer that is the same for every image, over the kinds."""
    ordinary = at.golden.ordinary_rows
    sham = np.broadcast_to(at.executed[ordinary].mean(axis=0), at.executed.shape)
    errors = relative_error(sham, at.executed, scale_of(at.executed, ordinary))
    kinds = ordinary_kinds(at.floors)
    return max((float(errors[at.rows(kind)].max()) / at.precision_budget(kind) for kind in kinds), default=0.0)


def visibility(reference: ReferenceModel) -> dict[str, float]:
    """Relative error of the logits, to first order, when a head, an attention bias or a layer's bias is dropped.

    The derivative in the direction of dropping a tensor θ is ⟨∂y/∂θ, θ⟩. Random projections of the logits give
    its norm from one backward pass for all tensors at once.
    """
    model = reference.exact
    rows = [row for row in reference.golden.ordinary_rows if reference.judged[row]]
    chosen = [rows[i] for i in np.linspace(0, len(rows) - 1, min(_IMAGES, len(rows))).astype(int)] if rows else []
    parts = dict(_parts(model))
    if not chosen:
        return dict.fromkeys(parts, 0.0)
    images = reference.images[chosen].double()
    scale = torch.tensor(reference.scale[chosen])
    names = list(parts)
    effects = remembered(
        f"visibility of {names}", model, (images, scale), lambda: _effects(model, list(parts.values()), images, scale)
    )
    return dict(zip(names, effects.tolist(), strict=True))


def _effects(model: EfficientViT, parts: Sequence["_Part"], images: Tensor, scale: Tensor) -> Float64:
    """Of each part, root mean square over the projections and the images."""
    tensors = list({id(tensor): tensor for tensor, _ in parts}.values())
    squares = np.zeros(len(parts))
    generator = torch.Generator().manual_seed(0)
    for tensor in tensors:
        tensor.requires_grad_(True)
    try:
        with torch.enable_grad():
            logits = model(images) / scale[:, None]
        for i in range(_PROJECTIONS):
            direction = torch.randn(logits.shape, generator=generator, dtype=torch.float64)
            gradients = torch.autograd.grad(logits, tensors, direction, retain_graph=i + 1 < _PROJECTIONS)
            by_tensor = {id(tensor): gradient for tensor, gradient in zip(tensors, gradients, strict=True)}
            for place, (tensor, part) in enumerate(parts):
                effect = (by_tensor[id(tensor)] * tensor.detach())[part].sum().item()
                squares[place] += effect**2
    finally:
        for tensor in tensors:
            tensor.requires_grad_(False)
    effects: Float64 = (squares / _PROJECTIONS / len(images)) ** 0.5
    return effects


_Part = tuple[Tensor, tuple[slice | int, ...]]


def _parts(model: EfficientViT) -> Iterator[tuple[str, _Part]]:
    """What could be lost: name -> (tensor, which part of it)."""
    lone: list[str] = []  # attention over a single token: neither its biases nor its queries can matter
    for name, module in model.named_modules():
        if not isinstance(module, CascadedGroupAttention):
            continue
        if module.window == 1:
            lone.append(name)
        for head in range(module.heads):
            columns = slice(head * module.head_dim, (head + 1) * module.head_dim)
            yield f"{name}.head.{head}", (module.project.conv.weight, (slice(None), columns))
            if module.window > 1:
                yield f"{name}.bias.{head}", (module.bias, (head,))
    for name, parameter in model.named_parameters():
        of_lone = any(name.startswith((f"{owner}.q_depthwise", f"{owner}.bias")) for owner in lone)
        if name.endswith(".bias") and not name.endswith("attention.bias") and not of_lone:
            yield name, (parameter, (slice(None),))
