"""Answers: the whole file gives what its network gives, and probabilities and classes that follow from the logits."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from efficientvit.images.labels import probabilities_of
from runtimes.interface import BEST_CLASSES, BEST_SCORES, OUTPUT, PROBABILITIES
from runtimes.wrapping import Answers, Gives
from validation.gates.gate import Gate
from validation.gates.result import GateResult, some
from validation.metrics import Float64, relative_error
from validation.picture_run import Pictured
from validation.trial import Trial

_MORE: Mapping[Gives, tuple[str, ...]] = {
    Gives.LOGITS: (),
    Gives.PROBABILITIES: ("probabilities",),
    Gives.TOPK: ("classes",),
}

_TOLERANCE = 2.0**-16
"""Of a probability: a hundred units in the last place of 1."""


def answers_gate(
    seen: Sequence[Pictured], answers: Answers, allowed: Mapping[str, float], otherwise: str = ""
) -> GateResult:
    """Images of which an output is off the network's by more than is `allowed`, or the answers off the logits.

    Budget 0. `allowed`: the relative error of each of the network's outputs, by name. Probabilities are the softmax of
    the logits, or the sigmoid of a single one. `otherwise`: in what the file did not run as its network, whose verdict
    then says nothing of it: all images count.
    """
    if not seen:
        return GateResult("answers", float("nan"), 0.0, "no image to judge on")
    if otherwise:
        return GateResult("answers", float(len(seen)), 0.0, f"the whole file ran otherwise: {otherwise}")
    off = {name: _off(seen, name) for name in allowed}
    wrong = []
    for row, each in enumerate(seen):
        faults = [
            f"{name} off by {errors[row]:.1e} of at most {allowed[name]:.1e}"
            for name, errors in off.items()
            if not errors[row] <= allowed[name]
        ]
        if fault := "; ".join(faults) or _misstated(each.given, answers):
            wrong.append(f"{each.name}: {fault}")
    said = " and ".join([", ".join(allowed), *_MORE[answers.gives]])
    detail = some(wrong) or f"{said} as the network's on {len(seen)} images"
    return GateResult("answers", float(len(wrong)), 0.0, detail)


def _off(seen: Sequence[Pictured], name: str) -> Float64:
    """(images,): the relative error of one output."""
    given, own = (
        np.stack([each[name].reshape(-1) for each in outputs]).astype(np.float64)
        for outputs in ([each.given for each in seen], [each.own for each in seen])
    )
    return relative_error(given, own)


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
    allowed = {name: each.error_allowed for name, each in trial.judged.outputs.items()}
    run = trial.pictured
    return answers_gate(run.seen, wrapping.answers, allowed, run.ran_otherwise)


ANSWERS = Gate(
    name="answers",
    title="the whole file, against its network and its own logits",
    applies=lambda trial: trial.wrapped,
    judge=_judge,
    counts="image",
)
