"""What an external file takes and gives: range of values, layout, logits or probabilities."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from runtimes.external import Foreign
from runtimes.interface import OUTPUT
from runtimes.runtime import Array
from validation.metrics import Float64, relative_error
from validation.reference.model import ReferenceModel

_FAR_BETTER = 0.2
_IMAGES = 3

Run = Callable[[Array], Float64]


class Range(StrEnum):
    """What an image's values are: normalized by mean and std, or 0 to 1, or 0 to 255."""

    NORMALIZED = "normalized"
    UNIT = "unit"
    BYTES = "bytes"


TOP = {Range.UNIT: 1.0, Range.BYTES: 255.0}
"""What white is in a file that normalizes it itself."""


class Scores(StrEnum):
    """What the output is."""

    LOGITS = "logits"
    PROBABILITIES = "probabilities"


@dataclass(frozen=True, slots=True)
class Taken:
    """How the file is fed, and what it gives. `recognized`: by trying, not by an option."""

    range: Range
    scores: Scores
    recognized: bool


def network_feed(model: ReferenceModel, image_range: Range) -> Callable[[NDArray[np.float32]], Array]:
    """Normalized images -> the same in the range that the file takes."""
    mean, std = mean_and_std(model)

    def fed(images: NDArray[np.float32]) -> Array:
        if image_range is Range.NORMALIZED:
            return images
        return ((images.astype(np.float64) * std + mean) * TOP[image_range]).astype(np.float32)

    return fed


def mean_and_std(model: ReferenceModel) -> tuple[Float64, Float64]:
    """(1, 3, 1, 1) each."""
    contract = model.golden.preprocessing
    mean, std = (np.array(x, np.float64).reshape(1, 3, 1, 1) for x in (contract.mean, contract.std))
    return mean, std


def laid_out(foreign: Foreign) -> Callable[[Array], Array]:
    """NCHW float32, R G B -> the layout and order that the file takes, bytes as whole numbers: the session casts."""

    def turned(images: Array) -> Array:
        ordered = images[:, ::-1] if foreign.colors == "BGR" else images
        ordered = np.rint(ordered) if foreign.takes_bytes else ordered
        return np.ascontiguousarray(np.moveaxis(ordered, 1, 3) if foreign.channels_last else ordered)

    return turned


def network_input(foreign: Foreign, model: ReferenceModel, taken: Taken) -> Callable[[Array], Array]:
    """Normalized NCHW images -> what the file itself takes."""
    feed, turned = network_feed(model, taken.range), laid_out(foreign)
    return lambda images: turned(feed(images))


def run_of(foreign: Foreign, run: Callable[[Array], NDArray[np.generic]]) -> Run:
    """`run` on images in NCHW, in the range that the file takes."""
    turned = laid_out(foreign)
    return lambda images: np.asarray(run(turned(images)), np.float64)


def some_rows(model: ReferenceModel, batch: int | None, least: int) -> list[int]:
    """A few ordinary golden images on which the model is well conditioned: a batch of them, or `least`."""
    rows = [row for row in model.golden.ordinary_rows if model.judged[row]]
    return [int(row) for row in np.resize(rows[:: max(1, len(rows) // _IMAGES)][:_IMAGES], batch or least)]


def recognized(run: Run, model: ReferenceModel, asked: Range | None, batch: int | None) -> Taken:
    """The range on which the answers are nearest to the model's, and whether they are probabilities."""
    rows = some_rows(model, batch, least=1)
    best: tuple[float, Range, Scores] | None = None  # normalized, unless another fits far better
    for candidate in (asked,) if asked else tuple(Range):
        with np.errstate(all="ignore"):
            answer = run(network_feed(model, candidate)(model.golden.images[rows]))
            kinds = _kinds(answer)
            errors = {kind: _error(as_logits(answer, model.logits[rows], kind), model, rows) for kind in kinds}
        kind = min(errors, key=errors.__getitem__)
        if best is None or errors[kind] < _FAR_BETTER * best[0]:
            best = (errors[kind], candidate, kind)
    assert best is not None
    return Taken(best[1], best[2], asked is None)


def _error(logits: Float64, model: ReferenceModel, rows: list[int]) -> float:
    """The largest over the images; infinite where there is none."""
    error = float(relative_error(logits, model.logits[rows], model.scales[OUTPUT][rows]).max())
    return error if error < float("inf") else float("inf")


def _kinds(answer: Float64) -> tuple[Scores, ...]:
    """What the scores can be. A single one from 0 to 1 may be a logit as well as the sigmoid of one."""
    if answer.shape[1] == 1:
        between = bool(((answer >= 0) & (answer <= 1)).all())
        return (Scores.LOGITS, Scores.PROBABILITIES) if between else (Scores.LOGITS,)
    sums_to_one = bool(np.abs(answer.sum(axis=1) - 1).max() < 1e-2)
    return (Scores.PROBABILITIES,) if sums_to_one and bool((answer >= 0).all()) else (Scores.LOGITS,)


def as_logits(answer: Float64, reference: Float64, kind: Scores) -> Float64:
    """Probabilities are logits but for a constant an image, the one with the reference's mean. Not of one class."""
    if kind is Scores.LOGITS:
        return answer
    if answer.shape[1] == 1:
        single: Float64 = np.log(answer) - np.log1p(-answer)
        return single
    logs = np.log(answer)
    result: Float64 = logs - logs.mean(axis=1, keepdims=True) + reference.mean(axis=1, keepdims=True)
    return result
