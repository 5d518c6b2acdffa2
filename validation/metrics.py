"""How far logits are from the reference's, per image. numpy only; everything is computed in float64.

An image's error is relative to how far apart its logits are. A few logits are close to each other on some images by
chance, and a single one has no other: their errors are relative to how far they move from image to image, and on an
image that moves them further, to that.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from efficientvit.errors import VitExportError
from efficientvit.images.labels import both_answers

Float64 = NDArray[np.float64]

LARGEST_HALF = 65504.0
"""float16's largest number; a larger result is infinite on a device that computes in float16."""


RESAMPLES = 4000
"""Of a bootstrap."""

FEW = 5
"""As many logits, or fewer, are compared by the spread over the images."""


def scale_of(reference: Float64, among: Sequence[int] | None = None) -> Float64:
    """(n, classes) -> (n,): what errors are relative to. `among`: the rows whose spread counts, of a few logits.

    Many logits: ‖y - mean over classes‖ of each image. A few: ‖y - mean over images‖ of each image, but not less than
    the root mean square of it; of a single image, the norm of its logits (0 and z, if there is but one), centered.

    Raises:
        VitExportError: the logits are not finite, or all equal.
    """
    if reference.shape[1] > FEW:
        return _centered_norm(reference)
    rows = reference if among is None else reference[among]
    if len(rows) < 2:
        return _centered_norm(both_answers(reference))
    mean = rows.mean(axis=0)
    spread = np.sqrt(((rows - mean) ** 2).sum(axis=1).mean())
    return _usable(np.maximum(np.linalg.norm(reference - mean, axis=1), spread))


def _centered_norm(reference: Float64) -> Float64:
    """(n,) ‖y - mean(y)‖₂ of each row: the denominator, so that a constant shift of the logits can't flatter."""
    norm: Float64 = np.linalg.norm(reference - reference.mean(axis=1, keepdims=True), axis=1)
    return _usable(norm)


def _usable(norm: Float64) -> Float64:
    if not np.isfinite(norm).all():
        raise VitExportError(
            "the reference's logits are not finite on some image, so no relative error is defined",
            expected="finite logits from the weights as this precision stores them",
            got=f"{int((~np.isfinite(norm)).sum())} of {len(norm)} images with infinite or undefined logits",
            next_step="if fp16 was asked for, the weights exceed its 65504: export in fp32",
        )
    if not (norm > 0).all():
        raise VitExportError(
            "the reference's logits are all equal on some image, so no relative error is defined",
            expected="logits that differ between classes, and between images",
            got=f"{int((norm <= 0).sum())} of {len(norm)} images with constant logits",
            next_step="check the weights: this model says nothing about its input",
        )
    return norm


def relative_error(logits: NDArray[Any], reference: Float64, scale: Float64 | None = None) -> Float64:
    """(n, classes) twice -> (n,): ‖y - y_ref‖₂ / `scale_of` y_ref. NaN or Inf in the logits stays visible.

    `scale`: (n,), where these are not all images of the set.

    Raises:
        VitExportError: an image on which the reference's logits are constant.
    """
    difference = logits.astype(np.float64) - reference
    error: Float64 = np.linalg.norm(difference, axis=1) / (scale_of(reference) if scale is None else scale)
    return error


def ignoring_error(reference: Float64, scale: Float64 | None = None) -> Float64:
    """(n, classes) -> (n,): the relative error of the best answer that is the same for every image."""
    return relative_error(np.broadcast_to(reference.mean(axis=0), reference.shape), reference, scale)


def root_mean_square(errors: Float64) -> float:
    """(n,) -> one figure for all images; NaN stays visible."""
    return float(np.sqrt(np.mean(errors**2)))


def centered_cosine(logits: NDArray[Any], reference: Float64) -> Float64:
    """(n,): cosine of the angle between the centered logits."""
    y, reference = both_answers(logits.astype(np.float64)), both_answers(reference)
    y = y - y.mean(axis=1, keepdims=True)
    r = reference - reference.mean(axis=1, keepdims=True)
    cosine: Float64 = (y * r).sum(axis=1) / (np.linalg.norm(y, axis=1) * np.linalg.norm(r, axis=1))
    return cosine


def kl_divergence(logits: NDArray[Any], reference: Float64) -> Float64:
    """(n,): KL(softmax(reference) ‖ softmax(logits)) in nats; of a single logit, of the sigmoids."""
    log_p, log_q = (_log_softmax(both_answers(each.astype(np.float64))) for each in (reference, logits))
    divergence: Float64 = (np.exp(log_p) * (log_p - log_q)).sum(axis=1)
    return divergence


def _log_softmax(logits: Float64) -> Float64:
    shifted = logits - logits.max(axis=1, keepdims=True)
    result: Float64 = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return result


def snr_db(relative: float) -> float:
    """Signal-to-noise ratio in dB for a relative error; infinite for zero."""
    return float("inf") if relative == 0 else float(-20 * np.log10(relative))


@dataclass(frozen=True, slots=True)
class Agreement:
    """Top-1 against the reference. A flip counts as `outside_margin` where the budget can't explain it."""

    agree: int
    of: int
    outside_margin: int


def most_explained(reference: Float64, budget: NDArray[np.float64]) -> Float64:
    """(n, classes), (n,) -> (n,): how much nearer to each other an error within the budget can move two logits.

    An error vector of norm d moves the difference of two logits by at most sqrt(2)·d.
    """
    most: Float64 = np.sqrt(2) * budget * scale_of(reference)
    return most


def top1_agreement(logits: NDArray[Any], reference: Float64, budget: NDArray[np.float64]) -> Agreement:
    """Compare the winning classes; `budget` is (n,), the relative error allowed on each image.

    A flip where the reference's margin is larger than `most_explained` is not explained by the budget.
    """
    explains = most_explained(reference, budget)
    logits, reference = both_answers(logits), both_answers(reference)
    rows = np.arange(len(reference))
    winner, given = reference.argmax(axis=1), logits.argmax(axis=1)
    flipped = winner != given
    margin = reference[rows, winner] - reference[rows, given]
    explained = margin <= explains
    return Agreement(agree=int((~flipped).sum()), of=len(reference), outside_margin=int((flipped & ~explained).sum()))


def medians_of_resamples(samples: Float64, rng: np.random.Generator) -> Float64:
    """(n,) -> (RESAMPLES,): the median of as many samples, drawn with replacement."""
    return np.asarray(np.median(rng.choice(samples, (RESAMPLES, len(samples))), axis=1))


def middle_of(resampled: Float64, confidence: float) -> tuple[float, float]:
    """What holds a statistic with so much confidence, in per cent, from its values over the resamples."""
    tail = (100 - confidence) / 2
    low, high = np.percentile(resampled, [tail, 100 - tail])
    return float(low), float(high)
