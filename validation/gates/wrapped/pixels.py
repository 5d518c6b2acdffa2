"""Pixels: the preprocessing in the file is Pillow's, value by value."""

from collections.abc import Sequence
from dataclasses import dataclass

from runtimes.interface import takes_images
from validation.gates.gate import Gate
from validation.gates.result import GateResult, some
from validation.picture_run import Pictured, Preprocessed
from validation.trial import Trial


@dataclass(frozen=True, slots=True)
class Limits:
    """The share of an image's 8-bit values that may differ from Pillow's, and by how much."""

    differing: float
    largest: int


LIMITS = {"bicubic": Limits(0.005, 2), "bilinear": Limits(0.1, 2)}
"""By Pillow's filter. Bilinear weights are often fractions of few bits: then values lie halfway between two integers,
and runtimes round them differently."""

_NORMALIZED = 2.0**-18
"""A few units in the last place of a normalized value of 3: OpenVINO multiplies where the others divide."""


def pixels_gate(seen: Sequence[Pictured], interpolation: str) -> GateResult:
    """Images of which more than the filter's share of values differ from Pillow's, or by more; budget 0.

    Or whose normalization is off. Without resizing every value has to be the same.
    """
    limits = LIMITS.get(interpolation, Limits(0.0, 0))
    shown = [(each.name, each.preprocessed) for each in seen if each.preprocessed is not None]
    wrong = [f"{name}: {fault}" for name, each in shown if (fault := _fault(each, limits))]
    flipped = [each.name for each in seen if each.same_class is False]
    most = max((each.differing for _, each in shown), default=0.0)
    furthest = max((each.largest for _, each in shown), default=0)
    same = f"at most {most:.2%} of an image's values differ from Pillow's, by at most {furthest}"
    labels = f"; the same class on {len(seen) - len(flipped)} of {len(seen)} images"
    if any(each.same_class is None for each in seen):  # maps and embeddings name none
        labels = f" ({len(seen)} images)"
    detail = some(wrong) or f"{same}{labels}{f', not on {flipped[0]}' if flipped else ''}"
    return GateResult("pixels", float(len(wrong)) if shown else float("nan"), 0.0, detail)


def _fault(each: Preprocessed, limits: Limits) -> str:
    if not each.normalized_off <= _NORMALIZED:
        return f"normalized values are off by {each.normalized_off:.1e}"
    if each.differing > limits.differing or each.largest > limits.largest:
        said = f"{each.differing:.1%} of the values differ from Pillow's, by up to {each.largest}"
        return f"{said}, where {limits.differing:.1%} may, by up to {limits.largest}"
    return ""


def _judge(trial: Trial) -> GateResult:
    wrapping = trial.file.interface.wrapping
    assert wrapping is not None
    return pixels_gate(trial.pictured.seen, wrapping.preprocessing.interpolation if wrapping.resizes else "")


PIXELS = Gate(
    name="pixels",
    title="preprocessing in the file, against Pillow's",
    applies=lambda trial: takes_images(trial.file),
    judge=_judge,
    counts="image",
)
