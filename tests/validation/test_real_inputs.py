"""Photos on which a model gives one answer for everything show that something before it is wrong."""

import numpy as np
import pytest

from validation.real_inputs import FEWEST, RealInputs


def logits(spread: float, count: int = 12, classes: int = 5) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.linspace(-3, 3, classes) + spread * rng.standard_normal((count, classes))


@pytest.mark.parametrize("classes", [1, 2, 5])
def test_answers_that_hardly_differ_are_a_failure(classes: int) -> None:
    found = RealInputs("--golden", 4 + logits(0.001, classes=classes))
    assert found.share is not None
    assert found.share < 0.01
    assert "Check --mean, --std and --image-size" in str(found.failure)
    assert "the 12 photos of --golden" in str(found.failure)


@pytest.mark.parametrize("spread", [0.2, 1.0])
def test_answers_that_differ_are_none(spread: float) -> None:
    assert RealInputs("--eval", logits(spread)).failure is None


def test_a_few_photos_may_show_one_thing() -> None:
    few = RealInputs("--calibrate", logits(0.0, FEWEST - 1))
    assert (few.share, few.failure) == (None, None)
    assert RealInputs("--calibrate", logits(0.0, FEWEST)).failure is not None


def test_a_constant_answer_without_preference() -> None:
    assert RealInputs("--golden", np.zeros((10, 3))).share == 0.0
