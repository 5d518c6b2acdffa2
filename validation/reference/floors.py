"""Noise floors: what an honest runtime of a precision deviates, and the budgets that follow from the answers."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from runtimes.precision import Dtype, Precision
from validation.budgets import QUALITY_SHARE
from validation.inputs.golden_set import GoldenSet, Kind
from validation.metrics import FEW, Float64, ignoring_error, relative_error, root_mean_square, scale_of

WELL_CONDITIONED = 1e-4
"""The largest float32 floor at which an input still tells a fault from chaos."""

UNIT_ROUNDOFF = {Dtype.FP32: 2.0**-24, Dtype.FP16: 2.0**-11, Dtype.BF16: 2.0**-8}
# One evaluation can be lucky: no floor is taken below a few roundings of the logits themselves.
SMALLEST_FLOOR = {Dtype.FP32: 2e-7, Dtype.FP16: 5e-4, Dtype.BF16: 4e-3}

Floors = Mapping[Kind, float]
"""By kind of input; of one output."""


def ordinary(floors: Floors) -> Floors:
    """Without the amplified inputs, which are judged in float32 arithmetic only."""
    return {kind: floor for kind, floor in floors.items() if kind is not Kind.AMPLIFIED}


def narrowest(precision: Precision) -> Dtype:
    """The coarser of weights and arithmetic; int8, which has a budget of its own, counts as what it decodes to."""
    if precision.quantized:
        return precision.decoded
    return max(precision.decoded, precision.rounding, key=UNIT_ROUNDOFF.__getitem__)


_FEW_MEDIANS = 3.0
"""The least floor of a kind, of a few logits, over the median error: two standard deviations of a normal error."""


_FEW_SHARE = 2 / 3
"""The most of what an answer costs that ignores the image, of a few logits."""


def errors(runs: Float64, exact: Float64, scale: Float64 | None = None) -> Float64:
    """(evaluations, n, classes) -> (evaluations, n). `scale`: of `relative_error`."""
    return np.stack([relative_error(run, exact, scale) for run in runs])


def default_quality_budget(exact: Float64, judged: NDArray[np.bool_], golden: GoldenSet) -> float:
    """A share of what the best answer costs that ignores the image, over the judged ordinary images.

    Of a few logits the share is of the spread, which is what such an answer is off by; one image far from all others
    widens that and is held to its own distance, so it is also at most so much of what the answer costs in the end.
    """
    rows = np.flatnonzero(judged & (np.array(golden.kinds) != Kind.AMPLIFIED))
    if len(rows) == 0:
        return float("inf")  # nothing is judged then, and every other gate fails
    ignoring = root_mean_square(ignoring_error(exact[rows]))
    return min(QUALITY_SHARE, _FEW_SHARE * ignoring) if exact.shape[1] <= FEW else QUALITY_SHARE * ignoring


def pooled(runs: Float64, exact: Float64, judged: NDArray[np.bool_], golden: GoldenSet, dtype: Dtype) -> Floors:
    """The worst error of a kind over its judged images and the evaluations, not below what the format allows.

    An error of a few logits may be small on all images of a kind by chance: no floor is below a multiple of the median.
    """
    found = errors(runs, exact, scale_of(exact, golden.ordinary_rows))
    worst, least = found.max(axis=0), SMALLEST_FLOOR[dtype]
    kinds = np.array(golden.kinds)
    typical = found[:, judged & (kinds != Kind.AMPLIFIED)]
    if exact.shape[1] <= FEW and typical.size:
        least = max(least, _FEW_MEDIANS * float(np.median(typical)))
    return {
        kind: max(float(worst[(kinds == kind) & judged].max()), least)
        for kind in golden.unique_kinds
        if (judged & (kinds == kind)).any()
    }


def geometric_mean(errors: Float64) -> float:
    """Of errors that may be zero: not below the smallest floor. NaN where there is none."""
    return float(np.exp(np.log(np.maximum(errors, SMALLEST_FLOOR[Dtype.FP32])).mean())) if errors.size else float("nan")
