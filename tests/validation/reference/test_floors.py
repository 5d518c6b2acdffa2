"""Budgets that follow from the answers."""

import numpy as np
import pytest

from efficientvit.images.preprocessing import Preprocessing
from efficientvit.size import square
from validation.inputs.synthetic import synthetic
from validation.metrics import FEW, ignoring_error, root_mean_square, scale_of
from validation.reference.floors import default_quality_budget


@pytest.mark.parametrize("classes", [1, 2, FEW, FEW + 1, 100])
@pytest.mark.parametrize("far", [1, 5, 20, 1000])
def test_an_answer_that_ignores_the_image_is_over_the_quality_budget(classes: int, far: float) -> None:
    """However far one image lies from all others."""
    golden = synthetic(Preprocessing(square(64)))
    answers = np.random.default_rng(0).standard_normal((len(golden.members), classes))
    answers[5] *= far
    judged = np.ones(len(answers), bool)
    budget = default_quality_budget(answers, judged, golden)
    rows = golden.ordinary_rows
    ignoring = root_mean_square(ignoring_error(answers[rows], scale_of(answers, rows)[rows]))
    assert 0.1 < budget <= ignoring / 1.5
    if classes <= FEW and far <= 5:
        assert budget == pytest.approx(1 / 3)
    assert default_quality_budget(answers, ~judged, golden) == float("inf")
