"""Noise floors: what an honest runtime of a precision deviates, and the budgets that follow from the answers."""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from runtimes.precision import Dtype, Precision
from validation.budgets import QUALITY_SHARE
from validation.inputs.golden_set import GoldenSet, Kind
from validation.metrics import Float64, ignoring_error, relative_error, root_mean_square
from validation.reference.emulation import answers
from validation.reference.memo import remembered

WELL_CONDITIONED = 1e-4
"""The largest float32 floor at which an input still tells a fault from chaos."""

_EVALUATIONS = 3
_UNIT_ROUNDOFF = {Dtype.FP32: 2.0**-24, Dtype.FP16: 2.0**-11, Dtype.BF16: 2.0**-8}
# One evaluation can be lucky: no floor is taken below a few roundings of the logits themselves.
SMALLEST_FLOOR = {Dtype.FP32: 2e-7, Dtype.FP16: 5e-4, Dtype.BF16: 4e-3}

Floors = Mapping[Kind, float]


def ordinary(floors: Floors) -> Floors:
    """Without the amplified inputs, which are judged in float32 arithmetic only."""
    return {kind: floor for kind, floor in floors.items() if kind is not Kind.AMPLIFIED}


def evaluations(model: nn.Module, images: Tensor, precision: Precision, count: int = _EVALUATIONS) -> Float64:
    """(count, n, classes): on the images, and on copies of them that differ by roundings."""
    rounding, unit = precision.rounding, narrowest(precision)

    def compute() -> Float64:
        return np.stack([answers(model, each, rounding) for each in _perturbed(images, unit, count)])

    return remembered(f"{count} evaluations in {rounding}, apart by {unit}", model, (images,), compute)


def narrowest(precision: Precision) -> Dtype:
    """The coarser of weights and arithmetic; int8, which has a budget of its own, counts as what it decodes to."""
    if precision.quantized:
        return precision.decoded
    return max(precision.decoded, precision.rounding, key=_UNIT_ROUNDOFF.__getitem__)


def errors(runs: Float64, exact: Float64) -> Float64:
    """(evaluations, n, classes) -> (evaluations, n)."""
    return np.stack([relative_error(run, exact) for run in runs])


def default_quality_budget(exact: Float64, judged: NDArray[np.bool_], golden: GoldenSet) -> float:
    """A share of what the best answer costs that ignores the image, over the judged ordinary images."""
    rows = np.flatnonzero(judged & (np.array(golden.kinds) != Kind.AMPLIFIED))
    if len(rows) == 0:
        return float("inf")  # nothing is judged then, and every other gate fails
    return QUALITY_SHARE * root_mean_square(ignoring_error(exact[rows]))


def pooled(runs: Float64, exact: Float64, judged: NDArray[np.bool_], golden: GoldenSet, dtype: Dtype) -> Floors:
    """The worst error of a kind over its judged images and the evaluations, not below what the format allows."""
    worst = errors(runs, exact).max(axis=0)
    kinds = np.array(golden.kinds)
    return {
        kind: max(float(worst[(kinds == kind) & judged].max()), SMALLEST_FLOOR[dtype])
        for kind in golden.unique_kinds
        if (judged & (kinds == kind)).any()
    }


def geometric_mean(errors: Float64) -> float:
    """Of errors that may be zero: not below the smallest floor. NaN where there is none."""
    return float(np.exp(np.log(np.maximum(errors, SMALLEST_FLOOR[Dtype.FP32])).mean())) if errors.size else float("nan")


def _perturbed(images: Tensor, dtype: Dtype, count: int) -> list[Tensor]:
    """The images, and copies of them with every value moved by about one unit in the format's last place."""
    generator = torch.Generator().manual_seed(0)
    copies = [images]
    for _ in range(count - 1):
        sign = torch.randint(0, 2, images.shape, generator=generator, dtype=torch.int8) * 2 - 1
        # In float64: in float32 itself 1 + 2^-24 is 1.
        copies.append((images.double() * (1 + sign * _UNIT_ROUNDOFF[dtype])).float())
    return copies
