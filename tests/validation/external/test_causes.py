"""Each mistake about the input is told from the answers, and a file without one has none."""

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
