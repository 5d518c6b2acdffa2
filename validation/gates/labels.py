"""Labels: a classifier's label and probabilities are those of its own logits."""

from collections.abc import Sequence

import numpy as np

from efficientvit.images.labels import probabilities_of
from runtimes.runtime import Answer
from validation.gates.gate import Gate
from validation.gates.result import GateResult
from validation.metrics import Float64

_TOLERANCE = 2.0**-9  # of float16 probabilities, at most 1
_SHARE = 2.0**-4
"""Nor may a probability be off by more than this share of the largest: among many classes all of them are small."""


def labels_gate(labels: Sequence[str], answers: Sequence[tuple[str, Answer, Float64]]) -> GateResult:
    """Images whose label is not argmax(logits), or whose probabilities are not softmax(logits); budget 0.

    Of a single logit z: `both_answers` of it, 0 and z. `answers`: (image, answer, (classes,) logits).
    """
    wrong = [f"{image}: {fault}" for image, answer, logits in answers if (fault := _misnamed(labels, answer, logits))]
    detail = "; ".join(wrong) or f"label and probabilities follow the logits on {len(answers)} images"
    return GateResult("labels", float(len(wrong)) if answers else float("nan"), 0.0, detail)


def _misnamed(labels: Sequence[str], answer: Answer, logits: Float64) -> str:
    label, probabilities = answer
    if set(probabilities) != set(labels):
        return f"probabilities of {len(probabilities)} labels in place of {len(labels)}"
    given = np.array([probabilities[name] for name in labels])
    with np.errstate(all="ignore"):
        right = probabilities_of(logits)
        error = float(np.abs(given - right).max())
    if not error <= min(_TOLERANCE, _SHARE * float(right.max())):
        return f"a probability is off by {error:.1e}"
    if label not in labels or not given[labels.index(label)] >= given.max():
        return f"'{label}' is not the most probable label"
    return ""


LABELS = Gate(
    name="labels",
    title="a classifier's label and probabilities with its own logits",
    applies=lambda trial: bool(trial.artifact.interface.labels),
    judge=lambda trial: labels_gate(trial.artifact.interface.labels, trial.shipped.answers),
    counts="image",
)
