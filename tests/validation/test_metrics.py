"""Errors by hand."""

import numpy as np
import pytest

from efficientvit.errors import VitExportError
from validation.metrics import centered_cosine, kl_divergence, relative_error, scale_of, snr_db, top1_agreement

RIGHT = np.array([[3.0, 1.0, -1.0, 1.0, 1.0, 1.0], [0.0, 2.0, 1.0, 1.0, 1.0, 1.0]])
FEW = RIGHT[:, :3]


def test_the_relative_error_of_each_image() -> None:
    wrong = RIGHT + np.array([[0.0, 0.3, 0.4, 0, 0, 0], [0] * 6])
    assert relative_error(wrong, RIGHT) == pytest.approx([0.5 / np.sqrt(8), 0.0])


def test_a_shift_of_all_logits_is_an_error_and_flatters_none() -> None:
    assert relative_error(RIGHT + 1, RIGHT)[0] == pytest.approx(np.sqrt(6 / 8))
    assert relative_error(RIGHT + 1000.5, RIGHT + 1000)[0] == pytest.approx(0.5 * np.sqrt(6 / 8))


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_stays_visible_on_its_image(poison: float) -> None:
    wrong = RIGHT.copy()
    wrong[1, 0] = poison
    error = relative_error(wrong, RIGHT)
    assert error[0] == 0
    assert not error[1] < np.inf


def test_a_reference_without_a_scale_is_an_error_that_says_so() -> None:
    with pytest.raises(VitExportError, match="all equal"):
        relative_error(RIGHT, np.ones((2, 6)))
    with pytest.raises(VitExportError, match="all equal"):
        relative_error(FEW, np.ones((2, 3)))
    infinite = RIGHT.copy()
    infinite[0, 0] = np.nan
    with pytest.raises(VitExportError, match="not finite"):
        relative_error(RIGHT, infinite)


def test_float32_logits_are_compared_in_float64() -> None:
    assert relative_error(RIGHT.astype(np.float32) + np.float32(2**-20), RIGHT).dtype == np.float64


def test_cosine_divergence_and_signal_to_noise() -> None:
    assert centered_cosine(2 * RIGHT + 7, RIGHT) == pytest.approx([1, 1])
    assert centered_cosine(-RIGHT, RIGHT) == pytest.approx([-1, -1])
    assert kl_divergence(RIGHT + 5, RIGHT) == pytest.approx([0, 0], abs=1e-12)
    p, q = np.array([0.75, 0.25]), np.array([0.5, 0.5])
    expected = float((p * np.log(p / q)).sum())
    assert kl_divergence(np.log(q)[None], np.log(p)[None]) == pytest.approx([expected])
    assert snr_db(0.01) == pytest.approx(40)
    assert snr_db(0) == np.inf


def test_flips_count_against_the_margin() -> None:
    """The first image's winner leads by 2 with a norm of sqrt(8): an error of half the norm can't explain a flip."""
    flipped = RIGHT[:, [1, 0, 2, 3, 4, 5]]
    least = 2 / (np.sqrt(2) * np.sqrt(8))
    inside = top1_agreement(flipped, RIGHT, np.array([least * 1.001, 9.0]))
    outside = top1_agreement(flipped, RIGHT, np.array([least * 0.999, 9.0]))
    assert (inside.agree, inside.of, inside.outside_margin) == (0, 2, 0)
    assert outside.outside_margin == 1
    assert top1_agreement(RIGHT, RIGHT, np.zeros(2)).agree == 2


def test_a_few_logits_are_compared_by_how_far_they_lie_from_the_mean_and_at_least_by_the_spread() -> None:
    """On the second image the two are equal, by chance: an error there is none the larger for it."""
    right = np.array([[4.0, 0.0], [2.0, 2.0], [0.0, 4.0]])
    far, spread = np.sqrt(8), np.sqrt((8 + 0 + 8) / 3)
    assert scale_of(right) == pytest.approx([far, spread, far])
    assert relative_error(right + np.array([[0.1, 0.0]]), right) == pytest.approx([0.1 / far, 0.1 / spread, 0.1 / far])
    assert scale_of(right, among=[0, 2]) == pytest.approx([far] * 3)


def test_one_image_far_from_all_others_is_held_to_its_own_distance() -> None:
    """Of a few logits; against the spread of the others an answer that is half as large was three times wrong."""
    right = np.array([[1.0, -1.0], [-1.0, 1.0], [12.0, -12.0]])
    half = right * np.array([[1.0], [1.0], [0.5]])
    mean = right[:2].mean(axis=0)
    assert relative_error(half, right, scale_of(right, among=[0, 1]))[2] == pytest.approx(0.5)
    assert np.linalg.norm(right[2] - mean) > 5 * scale_of(right[:2])[0]


def test_a_single_logit_has_errors_and_answers() -> None:
    right = np.array([[2.0], [-1.0], [0.5]])
    given = np.array([[2.1], [-1.0], [-0.1]])
    far = np.maximum(np.abs(right - right.mean())[:, 0], right.std())
    assert relative_error(given, right) == pytest.approx(np.abs(given - right)[:, 0] / far)
    assert scale_of(right[:1]) == pytest.approx([np.sqrt(2)])
    found = top1_agreement(given, right, np.full(3, 1e-3))
    assert (found.agree, found.of, found.outside_margin) == (2, 3, 1)
    assert centered_cosine(given, right) == pytest.approx([1, 1, -1])
    assert kl_divergence(right, right) == pytest.approx([0, 0, 0], abs=1e-12)
    with pytest.raises(VitExportError, match="all equal"):
        relative_error(given, np.ones((3, 1)))
