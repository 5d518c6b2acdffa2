"""Print the detection curves of docs/numerics.md: how small a fault of each kind is still caught, and by which gate.

python docs/detection.py m2 --size 224

A fault of a kind is planted at random places of the deploy form, in float64. Its effect on the logits grows in
proportion to its magnitude while it is small, so the magnitude at which it reaches a gate's budget follows from one
evaluation; it is then planted at that magnitude, and what it really does is printed beside ("check"). The audit of
constants is left out: it sees a single bit.
"""

import argparse
import copy
import sys
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from efficientvit.deploy.modules import StaticAttention
from efficientvit.images.preprocessing import Preprocessing
from efficientvit.model import EfficientViT
from efficientvit.weights.source import find_weights
from runtimes.precision import Dtype, Precision
from validation.inputs.synthetic import synthetic
from validation.metrics import relative_error
from validation.reference.model import ReferenceModel
from validation.reference.reference import Reference

Rng = np.random.Generator
Change = Callable[[float], None]
"""Adds a fault of this magnitude to a model that was just copied."""

_PLACES = 24
_PROBE = 1e-4
_PRECISIONS = {
    "float32": Precision(),
    "float16": Precision(Dtype.FP16, Dtype.FP16, Dtype.FP16),
    "int8 weights": Precision(Dtype.INT8, Dtype.FP16, Dtype.FP16),
}


def _modules(model: nn.Module, kind: type[nn.Module], ending: str = "") -> list[nn.Module]:
    return [module for name, module in model.named_modules() if type(module) is kind and name.endswith(ending)]


def _pick(rng: Rng, items: Sequence[nn.Module]) -> nn.Module:
    return items[int(rng.integers(len(items)))]


def _weight(module: nn.Module) -> Tensor:
    weight = module.weight
    assert isinstance(weight, Tensor)
    return weight


def _has_bias(module: nn.Module) -> bool:
    return isinstance(module.bias, Tensor)


def scaled_layer(model: EfficientViT, rng: Rng) -> Change:
    """All weights of a convolution times 1 + m: a normalization or a scale that is off."""
    weight = _weight(_pick(rng, _modules(model, nn.Conv2d)))
    return lambda m: _set(weight, weight * (1 + m))


def scaled_channel(model: EfficientViT, rng: Rng) -> Change:
    """One output channel of a convolution times 1 + m."""
    weight = _weight(_pick(rng, _modules(model, nn.Conv2d)))
    channel = int(rng.integers(len(weight)))
    return lambda m: _set(weight[channel], weight[channel] * (1 + m))


def shifted_bias(model: EfficientViT, rng: Rng) -> Change:
    """A convolution's bias moved by m times its own size: stale, or rounded."""
    module = _pick(rng, [each for each in _modules(model, nn.Conv2d) if _has_bias(each)])
    bias = module.bias
    assert isinstance(bias, Tensor)
    move = torch.tensor(rng.standard_normal(bias.shape)) * bias.norm() / bias.numel() ** 0.5
    return lambda m: _set(bias, bias + m * move)


def attention_bias(model: EfficientViT, rng: Rng) -> Change:
    """A head's attention bias moved by m times its own size."""
    attention = _pick(rng, _modules(model, StaticAttention))
    assert isinstance(attention, StaticAttention)
    bias = attention.bias[int(rng.integers(attention.heads))]
    move = torch.tensor(rng.standard_normal(bias.shape)) * bias.norm() / bias.numel() ** 0.5
    return lambda m: _set(bias, bias + m * move)


def query_scale(model: EfficientViT, rng: Rng) -> Change:
    """A head's queries times 1 + m."""
    attention = _pick(rng, _modules(model, StaticAttention))
    assert isinstance(attention, StaticAttention)
    conv = attention.q_depthwise[int(rng.integers(attention.heads))]
    weight, bias = conv.weight, conv.bias
    assert isinstance(weight, Tensor)
    assert isinstance(bias, Tensor)

    def change(m: float) -> None:
        _set(weight, weight * (1 + m))
        _set(bias, bias * (1 + m))

    return change


def blended_kernel(model: EfficientViT, rng: Rng) -> Change:
    """A depthwise kernel blended with its mirror image, m of it."""
    weight = _weight(_pick(rng, _modules(model, nn.Conv2d, "depthwise1")))
    return lambda m: _set(weight, (1 - m) * weight + m * weight.flip(3))


def rotated_classes(model: EfficientViT, rng: Rng) -> Change:
    """Two classes that are mixed, m of each in the other."""
    head = next(module for module in reversed(list(model.modules())) if isinstance(module, nn.Linear))
    weight = _weight(head)
    one, other = (int(i) for i in rng.choice(len(weight), 2, replace=False))

    def change(m: float) -> None:
        first, second = weight[one].clone(), weight[other].clone()
        _set(weight[one], (1 - m) * first + m * second)
        _set(weight[other], (1 - m) * second + m * first)

    return change


_KINDS = (scaled_layer, scaled_channel, shifted_bias, attention_bias, query_scale, blended_kernel, rotated_classes)


def _set(tensor: Tensor, value: Tensor) -> None:
    tensor.copy_(value)


@torch.no_grad()
def _effects(
    model: ReferenceModel, kind: Callable[[EfficientViT, Rng], Change], magnitudes: Sequence[float], rows: Sequence[int]
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """(places,): the worst relative error over the images, of a fault of this magnitude at each place."""
    images = model.images[list(rows)].double()
    right = model.rewritten(images).numpy()
    found = []
    for place, magnitude in enumerate(magnitudes):
        spoiled = copy.deepcopy(model.rewritten)
        kind(spoiled, np.random.default_rng([7, place]))(magnitude)
        found.append(float(relative_error(spoiled(images).numpy(), right).max()))
    return np.array(found)


def _budgets(model: ReferenceModel) -> Iterable[tuple[str, float]]:
    """The widest of the kinds of images, so that the figures hold whichever shows the fault."""
    for name, precision in _PRECISIONS.items():
        reference: Reference = model.at(precision)
        expected, kinds = reference.classifier, reference.kinds
        if name == "float32":
            yield "structure, any precision", max(expected.structure_budget(kind) for kind in kinds)
        if expected.quality_budget is not None:
            yield f"quality, {name}", expected.quality_budget
        else:
            yield f"precision, {name}", max(expected.precision_budget(kind) for kind in kinds)


def main() -> None:
    """Print one table: for each kind, the magnitude that is caught at half of the places, and at nine of ten."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--weights", default="seeded")
    options = parser.parse_args()
    torch.set_num_threads(1)
    weights = find_weights(options.weights, options.model, options.size)
    model = ReferenceModel(weights.model, synthetic(Preprocessing(image_size=options.size)).one_of_each_kind())
    judged = model.at(Precision()).kinds
    rows = [row for row, kind in enumerate(model.golden.kinds) if kind in judged and model.judged[row]]
    budgets = list(_budgets(model))
    print_row("fault", *(f"{name} ({budget:.1e})" for name, budget in budgets), "check")
    print_row(*["---"] * (len(budgets) + 2))
    for kind in _KINDS:
        slopes = _effects(model, kind, [_PROBE] * _PLACES, rows) / _PROBE
        cells = []
        for _, budget in budgets:
            least = budget / slopes
            cells.append(" / ".join(_magnitude(float(np.percentile(least, percent))) for percent in (50, 90)))
        at = budgets[0][1] / slopes
        check = _effects(model, kind, list(at), rows) / budgets[0][1]
        print_row((kind.__doc__ or "").strip(" ."), *cells, f"{check.min():.2f}-{check.max():.2f}")


def _magnitude(value: float) -> str:
    """A fault as large as what it spoils is no longer in proportion to its effect."""
    return f"{value:.1e}" if value < 0.3 else "large"


def print_row(*cells: str) -> None:
    """One row of a Markdown table."""
    sys.stdout.write(f"| {' | '.join(cells)} |\n")


if __name__ == "__main__":
    main()
