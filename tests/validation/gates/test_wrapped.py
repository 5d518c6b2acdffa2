"""The gates of what is around a network: at their limits, and just beyond."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from runtimes.precision import Dtype
from runtimes.runtime import Attestation
from runtimes.wrapping import Answers
from validation.gates.wrapped.answers import answers_gate
from validation.gates.wrapped.pixels import LIMITS, pixels_gate
from validation.picture_run import Pictured, PictureRun, Preprocessed

LOGITS = np.array([2.0, -1.0, 0.5, 0.0, 1.0, -3.0], np.float32)


def _pictured(
    own: NDArray[np.int64] | None = None, off: float = 0.0, given: Mapping[str, object] | None = None
) -> Pictured:
    pillow = np.full((20, 50, 3), 100, np.int64)
    preprocessed = Preprocessed(pillow if own is None else own, pillow, off)
    answers = {name: np.asarray(value, np.float32) for name, value in {"logits": LOGITS, **(given or {})}.items()}
    return Pictured("photo", preprocessed, answers, {"logits": LOGITS}, {"logits": LOGITS})


def _with_differing(count: int, by: int) -> NDArray[np.int64]:
    pixels = np.full((20, 50, 3), 100, np.int64)
    pixels.reshape(-1)[:count] += by
    return pixels


@pytest.mark.parametrize(
    ("count", "by", "interpolation", "error"),
    [
        (0, 0, "", 0),
        (1, 1, "", 1),  # nothing is resized: every value is the same
        (15, 1, "bicubic", 0),
        (16, 1, "bicubic", 1),
        (15, 2, "bicubic", 0),
        (1, 3, "bicubic", 1),
        (300, 1, "bilinear", 0),
        (301, 1, "bilinear", 1),
    ],
)
def test_pixels(count: int, by: int, interpolation: str, error: int) -> None:
    assert LIMITS["bicubic"].differing == 0.005
    result = pixels_gate([_pictured(_with_differing(count, by)), _pictured()], interpolation)
    assert result.worst == error, result.detail
    assert result.passed == (error == 0)


@pytest.mark.parametrize(("off", "error"), [(2.0**-18, 0), (2.0**-17, 1), (float("nan"), 1)])
def test_normalization(off: float, error: int) -> None:
    assert pixels_gate([_pictured(off=off)], "bicubic").worst == error


def test_of_many_images_that_are_off_three_are_named() -> None:
    result = pixels_gate([_pictured(_with_differing(500, 9))] * 5, "bicubic")
    assert result.worst == 5
    assert result.detail.count("photo: ") == 3
    assert result.detail.endswith("; and 2 more")


def test_a_class_that_pillow_does_not_give_is_named() -> None:
    flipped = _pictured()
    other = Pictured("the other", flipped.preprocessed, flipped.given, {"logits": LOGITS}, {"logits": -LOGITS})
    result = pixels_gate([flipped, other], "bicubic")
    assert result.passed
    assert "the same class on 1 of 2 images, not on the other" in result.detail


def _shares() -> NDArray[np.float64]:
    shares = np.exp(LOGITS.astype(np.float64))
    result: NDArray[np.float64] = shares / shares.sum()
    return result


@pytest.mark.parametrize(
    ("given", "asked", "error"),
    [
        ({}, "logits", 0),
        ({"logits": LOGITS * 1.001}, "logits", 0),
        ({"logits": LOGITS * 1.1}, "logits", 1),
        ({"logits": LOGITS * np.nan}, "logits", 1),
        ({"probabilities": _shares()}, "probabilities", 0),
        ({"probabilities": _shares() + 2e-5}, "probabilities", 1),
        ({"scores": np.sort(_shares())[::-1][:2], "classes": [0, 4]}, "topk:2", 0),
        ({"scores": np.sort(_shares())[::-1][:2], "classes": [4, 0]}, "topk:2", 1),
        ({"scores": np.sort(_shares())[::-1][:2], "classes": [0, 0]}, "topk:2", 1),
        ({"scores": np.sort(_shares())[::-1][:2], "classes": [0, 6]}, "topk:2", 1),
        ({"scores": np.sort(_shares())[:2], "classes": [5, 1]}, "topk:2", 1),
    ],
)
def test_answers(given: Mapping[str, object], asked: str, error: int) -> None:
    result = answers_gate([_pictured(given=given), _pictured(given=given)], Answers.parse(asked), {"logits": 0.01})
    assert result.worst == 2 * error, result.detail


@pytest.mark.parametrize(("factor", "wrong"), [(1.0, 0), (1.001, 0), (1.1, 1)])
def test_each_map_is_compared_with_the_networks(factor: float, wrong: int) -> None:
    maps = {name: np.random.default_rng(0).normal(size=(8, 2, 2)).astype(np.float32) for name in ("stage1", "stage2")}
    given = {**maps, "stage2": (maps["stage2"] * factor).astype(np.float32)}
    result = answers_gate([Pictured("photo", None, given, maps, maps)], Answers(), dict.fromkeys(maps, 0.01))
    assert result.worst == wrong
    assert ("stage2 off by" in result.detail) == bool(wrong)
    assert wrong or "stage1, stage2 as the network's" in result.detail


def test_no_class_is_said_of_maps() -> None:
    maps = {"stage1": np.ones((8, 2, 2), np.float32)}
    photo = _pictured()
    result = pixels_gate([Pictured("photo", photo.preprocessed, maps, maps, maps)], "bicubic")
    assert result.passed
    assert "class" not in result.detail


def test_a_file_that_runs_otherwise_than_its_network_is_rejected() -> None:
    whole = Attestation("onnxruntime", "1.32", Dtype.FP32, 1, "avx2")
    assert not PictureRun([_pictured()], whole, whole).ran_otherwise
    run = PictureRun([_pictured()], whole, replace(whole, precision=Dtype.BF16))
    result = answers_gate(run.seen, Answers(), {"logits": 0.01}, run.ran_otherwise)
    assert not result.passed
    assert result.detail == "the whole file ran otherwise: precision fp32, of its network bf16"


def test_a_single_logit_has_a_sigmoid() -> None:
    seen = []
    for logit in (0.3, -2.0):
        own = np.array([logit], np.float32)
        given: dict[str, NDArray[np.float32]] = {
            "logits": own,
            "probabilities": (1 / (1 + np.exp(-own))).astype(np.float32),
        }
        seen.append(Pictured(str(logit), None, given, {"logits": own}, {"logits": own}))
    assert answers_gate(seen, Answers.parse("probabilities"), {"logits": 1e-3}).passed
