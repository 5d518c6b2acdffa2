"""Can parity on this checkpoint fail at all? Measured before anything is compared.

On a freshly initialized EfficientViT all of attention can be wrong without moving a logit; a model whose
logits hardly depend on the image lets an artifact pass that ignores it. Parity there would be vacuous.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from efficientvit.images.labels import both_answers
from efficientvit.model import CascadedGroupAttention, EfficientViT, tensors_of
from runtimes.precision import Dtype, Precision
from validation.budgets import STRUCTURE_FACTOR
from validation.inputs.golden_set import Kind
from validation.metrics import FEW, Float64, relative_error, scale_of
from validation.reference.floors import WELL_CONDITIONED
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


INPUT_SHARE = 0.05
"""The least share of what a model gives that must depend on the image."""

MOST_UNSEEN = 1 / 4
"""The share of heads and biases that could be lost unseen beyond which weights are as training starts, proven or not:
no kernel of attention was tried on them."""


@dataclass(frozen=True, slots=True)
class SelfCheck:
    """What was measured, and why parity would be vacuous, if it would be.

    `input_share`: mean over the golden images of ‖y - mean over images‖ / ‖y - mean over classes‖, of the output where
    it is least. `distinct_top1`: different winners over the number of images, without photos (a user's may all show one
    thing); None where there are no classes. `float32_floor`: the worst of the ordinary kinds. `deploy_ratio`: the
    deploy form's typical float32 error over the trained form's. `least_visible`: the smallest effect of dropping a
    head, an attention bias or a layer's bias, in units of the structure gate's budget. `sham_ratio`: the error of the
    best answer that ignores the image over its budget, in the most lenient precision. `unseen`: what samples alone
    would not see; the proof of the file's program does, so these count against artifacts that are not proven.
    `photo_share`: of real photos (`RealInputs.share`), the lowest where several options name some; None for too few.
    """

    input_share: float
    distinct_top1: float | None
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
    precisions: Iterable[Precision] = PRECISIONS,
    image_input: bool = False,
) -> SelfCheck:
    """Measure `reference`; the sham is tried in `precisions`, those to be made.

    `image_input`: of the form behind an 8-bit image.
    """
    single = reference.at(Precision(), image_input=image_input)
    share = min(_input_share(right[reference.golden.ordinary_rows]) for right in reference.right.values())
    distinct = _distinct(reference) if single.gives_logits else None
    floors = [floor for each in single.outputs.values() for floor in ordinary_kinds(each.floors).values()]
    floor = max(floors, default=float("inf"))
    deploy, trained = reference.float32_cost
    visible = _over_budget(reference, single)
    name = min(visible, key=visible.__getitem__)
    sham = min(_sham_ratio(reference.at(precision, image_input=image_input)) for precision in precisions)
    invisible = sorted(part for part, effect in visible.items() if not effect >= 2)

    failures, unseen = list[str](), list[str]()
    if not share >= INPUT_SHARE:
        failures.append(f"the {reference.called} hardly depend on the image: share {share:.3f} of {INPUT_SHARE} needed")
    if not floor <= WELL_CONDITIONED:
        failures.append(f"float32 itself is off by {floor:.1e}, at most {WELL_CONDITIONED:.0e} allowed")
    if invisible:
        some = ", ".join(invisible[:3]) + (" …" if len(invisible) > 3 else "")
        (failures if len(invisible) > MOST_UNSEEN * len(visible) else unseen).append(
            f"{len(invisible)} of {len(visible)} heads and biases could be lost unseen: {some}"
        )
    if not sham > 1:
        unseen.append("an artifact that ignores its input would pass")
    return SelfCheck(
        share, distinct, floor, deploy / trained, visible[name], name, sham, tuple(failures), tuple(unseen)
    )


def _distinct(reference: ReferenceModel) -> float:
    own = [row for row in reference.golden.ordinary_rows if reference.golden.kinds[row] is not Kind.PHOTO]
    return len(set(both_answers(reference.logits[own]).argmax(axis=1).tolist())) / max(len(own), 1)


def _over_budget(reference: ReferenceModel, single: Reference) -> dict[str, float]:
    """What `visibility` gives, in units of the structure gate's budget, on the output that shows it best."""
    effects = visibility(reference)
    result: dict[str, float] = {}
    for name, parts in effects.items():
        floors = ordinary_kinds(single.outputs[name].structure_floors)
        budget = STRUCTURE_FACTOR * max(floors.values(), default=float("inf"))
        for part, effect in parts.items():
            result[part] = max(result.get(part, 0.0), effect / budget)
    return result


def _input_share(logits: Float64) -> float:
    """Part of the (n, classes) logits that depends on the image. A few of them are not compared with each other."""
    own = np.linalg.norm(logits - logits.mean(axis=0), axis=1)
    if logits.shape[1] <= FEW:
        return float(np.sqrt((own**2).mean() / (logits**2).sum(axis=1).mean()))
    return float((own / np.linalg.norm(logits - logits.mean(axis=1, keepdims=True), axis=1)).mean())


def _sham_ratio(at: Reference) -> float:
    """Worst error over budget of the answer that is the same for every image, over the kinds and outputs."""
    ordinary = at.golden.ordinary_rows
    worst = 0.0
    for each in at.outputs.values():
        exact = each.executed
        sham = np.broadcast_to(exact[ordinary].mean(axis=0), exact.shape)
        errors = relative_error(sham, exact, scale_of(exact, ordinary))
        ratios = (float(errors[at.rows(kind)].max()) / each.precision_budget(kind) for kind in at.kinds)
        worst = max(worst, *ratios, 0.0)
    return worst


def visibility(reference: ReferenceModel) -> dict[str, dict[str, float]]:
    """Relative error, to first order, when a head, an attention bias or a layer's bias is dropped: by output and part.

    The derivative in the direction of dropping a tensor θ is ⟨∂y/∂θ, θ⟩. Random projections of the output give
    its norm from one backward pass for all tensors at once.
    """
    model = reference.exact
    rows = [row for row in reference.golden.ordinary_rows if reference.judged[row]]
    chosen = [rows[i] for i in np.linspace(0, len(rows) - 1, min(_IMAGES, len(rows))).astype(int)] if rows else []
    parts = dict(_parts(model))
    if not chosen:
        return {name: dict.fromkeys(parts, 0.0) for name in reference.right}
    images, names = reference.images[chosen].double(), list(parts)
    found: dict[str, dict[str, float]] = {}
    for index, output in enumerate(reference.right):
        scale = torch.tensor(reference.scales[output][chosen])
        effects = remembered(
            f"visibility of {names} in output {index}",
            model,
            (images, scale),
            partial(_effects, model, list(parts.values()), images, scale, index),
        )
        found[output] = dict(zip(names, effects.tolist(), strict=True))
    return found


def _effects(model: EfficientViT, parts: Sequence["_Part"], images: Tensor, scale: Tensor, output: int) -> Float64:
    """Of each part on one of the outputs, root mean square over the projections and the images."""
    tensors = list({id(tensor): tensor for tensor, _ in parts}.values())
    squares = np.zeros(len(parts))
    generator = torch.Generator().manual_seed(0)
    for tensor in tensors:
        tensor.requires_grad_(True)
    try:
        with torch.enable_grad():
            values = tensors_of(model(images))[output].flatten(1) / scale[:, None]
        for i in range(_PROJECTIONS):
            direction = torch.randn(values.shape, generator=generator, dtype=torch.float64)
            # A map of an early stage does not depend on those behind it.
            gradients = torch.autograd.grad(
                values, tensors, direction, retain_graph=i + 1 < _PROJECTIONS, allow_unused=True
            )
            by_tensor = {id(tensor): gradient for tensor, gradient in zip(tensors, gradients, strict=True)}
            for place, (tensor, part) in enumerate(parts):
                if (gradient := by_tensor[id(tensor)]) is not None:
                    squares[place] += (gradient * tensor.detach())[part].sum().item() ** 2
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
