"""Each mistake about the input is told from the answers, and a file without one has none."""

import copy

import numpy as np
import pytest
import torch

from validation.external.causes import MISTAKES, cause_of
from validation.external.input_format import Range, Scores, Taken
from validation.metrics import Float64
from validation.reference.emulation import evaluate
from validation.reference.model import ReferenceModel

TAKEN = Taken(Range.NORMALIZED, Scores.LOGITS, recognized=True)


@pytest.mark.parametrize("said", [None, *list(MISTAKES)[:3], list(MISTAKES)[-1]])
def test_the_mistake_is_said(said: str | None, model_reference: ReferenceModel) -> None:
    contract = model_reference.golden.preprocessing
    std, mean = (np.array(x).reshape(1, 3, 1, 1) for x in (contract.std, contract.mean))

    def run(images: np.ndarray) -> Float64:
        fed = images.astype(np.float64)
        if said is not None:
            fed = np.ascontiguousarray(MISTAKES[said](fed * std + mean, mean, std))
        answers: Float64 = evaluate(model_reference.exact, torch.tensor(fed)).numpy()
        return answers

    assert cause_of(run, model_reference, TAKEN, None) == said


@pytest.mark.parametrize("place", [2, 5, 9])
def test_a_lost_bias_is_no_mistake_about_the_input(place: int, model_reference: ReferenceModel) -> None:
    """On values up to 255 it is next to nothing: there the file answers as a network that is fed just these."""
    spoiled = copy.deepcopy(model_reference.exact)
    biases = [value for name, value in spoiled.named_parameters() if name.endswith("bias")]
    with torch.no_grad():
        biases[place * len(biases) // 10].zero_()

    def run(images: np.ndarray) -> Float64:
        answers: Float64 = evaluate(spoiled, torch.tensor(images.astype(np.float64))).numpy()
        return answers

    assert cause_of(run, model_reference, TAKEN, None) is None
