"""Answers: the whole file gives what its network gives, and probabilities and classes that follow from the logits."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from efficientvit.images.labels import probabilities_of
from runtimes.interface import BEST_CLASSES, BEST_SCORES, OUTPUT, PROBABILITIES
from runtimes.wrapping import Answers, Gives
from validation.gates.gate import Gate
from validation.gates.result import GateResult
from validation.metrics import relative_error, scale_of
from validation.picture_run import Pictured
from validation.trial import Trial

_TOLERANCE = 2.0**-16
"""Of a probability: a hundred units in the last place of 1."""


def answers_gate(seen: Sequence[Pictured], answers: Answers, allowed: float) -> GateResult:
    """Images on which the file's logits are off its network's by more than `allowed`, or its answers off its logits.

    Budget 0. `allowed`: relative error. Probabilities are the softmax of the logits, or the sigmoid of a single one.
    """
    if not seen:
        return GateResult("answers", float("nan"), 0.0, "no image to judge on")
    own = np.stack([each.own for each in seen]).astype(np.float64)
    scale = scale_of(own)
    wrong = []
    for row, each in enumerate(seen):
        error = float(relative_error(each.given[OUTPUT][None], own[[row]], scale[[row]])[0])
        fault = f"logits off by {error:.1e} of at most {allowed:.1e}" if not error <= allowed else ""
        if fault := fault or _misstated(each.given, answers):
            wrong.append(f"{each.name}: {fault}")
    said = {Gives.LOGITS: "logits", Gives.PROBABILITIES: "logits and probabilities", Gives.TOPK: "logits and classes"}
    detail = "; ".join(wrong) or f"{said[answers.gives]} as the network's on {len(seen)} images"
    return GateResult("answers", float(len(wrong)), 0.0, detail)


def _misstated(given: Mapping[str, NDArray[np.float32]], answers: Answers) -> str:
    if answers.gives is Gives.LOGITS:
        return ""
    with np.errstate(all="ignore"):
        right = probabilities_of(given[OUTPUT].astype(np.float64))[-len(given[OUTPUT]) :]  # of a single logit, yes
    if answers.gives is Gives.PROBABILITIES:
        error = float(np.abs(given[PROBABILITIES] - right).max())
        return f"a probability is off by {error:.1e}" if not error <= _TOLERANCE else ""
    scores, classes = given[BEST_SCORES], given[BEST_CLASSES].astype(np.int64)
    best = np.sort(right)[::-1][: answers.best]
    if len(set(classes.tolist())) != answers.best or not set(classes.tolist()) <= set(range(len(right))):
        return f"the classes {classes.tolist()} are not {answers.best} of {len(right)}"
    off = float(max(np.abs(scores - best).max(), np.abs(scores - right[classes]).max()))
    return f"a score is off by {off:.1e}" if not off <= _TOLERANCE else ""


def _judge(trial: Trial) -> GateResult:
    wrapping = trial.file.interface.wrapping
    assert wrapping is not None
    return answers_gate(trial.pictured, wrapping.answers, trial.judged.classifier.error_allowed)


ANSWERS = Gate(
    name="answers",
    title="the whole file, against its network and its own logits",
    applies=lambda trial: trial.wrapped and trial.reference.gives_logits,
    judge=_judge,
    counts="image",
)
