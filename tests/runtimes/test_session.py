import re
from typing import Any

import numpy as np
import pytest

from efficientvit.errors import BadInput, StageFailed, VitExportError
from runtimes.precision import Dtype
from runtimes.runtime import Array, Attestation, Values
from runtimes.session import OpenSession, Shape, refused_by

ATTESTATION = Attestation("test", "1", Dtype.FP32, 1, "none")


def sums(images: Array) -> Values:
    assert images.flags.c_contiguous
    return {"logits": np.asarray(images.sum(axis=(2, 3)))}


def opened(takes: Shape = (None, 3, 8, 8)) -> OpenSession:
    return OpenSession(ATTESTATION, takes, sums)


def test_images_that_fit_are_run() -> None:
    assert opened()(np.ones((2, 3, 8, 8), np.float32))["logits"].tolist() == [[64, 64, 64]] * 2


def test_the_runtime_gets_contiguous_memory_and_the_right_values() -> None:
    images = np.arange(2 * 3 * 8 * 8, dtype=np.float32).reshape(2, 8, 8, 3).transpose(0, 3, 1, 2)
    assert np.array_equal(opened()(images)["logits"], images.sum(axis=(2, 3)))


def test_logits_are_float32_whatever_the_runtime_returns() -> None:
    def halves(images: Array) -> dict[str, Any]:
        return {"logits": images.astype(np.float16)}

    session = OpenSession(ATTESTATION, (None, 3, 8, 8), halves)
    assert session(np.ones((1, 3, 8, 8), np.float32))["logits"].dtype == np.float32


@pytest.mark.parametrize(
    ("takes", "shape", "dtype", "says"),
    [
        ((1, 3, 8, 8), (3, 3, 8, 8), "float32", "float32 (1, 3, 8, 8)"),
        ((None, 3, 8, 8), (1, 3, 16, 16), "float32", "float32 (any, 3, 8, 8)"),
        ((None, 3, 8, 8), (1, 1, 8, 8), "float32", "float32 (any, 3, 8, 8)"),
        ((None, 3, 8, 8), (3, 8, 8), "float32", "float32 (any, 3, 8, 8)"),
        ((None, 3, 8, 8), (0, 3, 8, 8), "float32", "float32 (any, 3, 8, 8)"),
        ((None, 3, 8, 8), (1, 3, 8, 8), "float64", "float32 (any, 3, 8, 8)"),
        ((None, 3, 8, 8), (1, 3, 8, 8), "uint8", "float32 (any, 3, 8, 8)"),
    ],
)
def test_images_that_do_not_fit_are_refused(takes: Shape, shape: tuple[int, ...], dtype: str, says: str) -> None:
    with pytest.raises(BadInput, match="don't fit") as caught:
        opened(takes)(np.zeros(shape, dtype))
    assert caught.value.expected == says
    assert caught.value.got == f"{dtype} {shape}"


def test_the_next_step_names_the_batch() -> None:
    with pytest.raises(BadInput, match="batches of 1"):
        opened((1, 3, 8, 8))(np.zeros((2, 3, 8, 8), np.float32))


def test_a_closed_session_says_so() -> None:
    session = opened()
    session.close()
    with pytest.raises(VitExportError, match="session is closed"):
        session(np.zeros((1, 3, 8, 8), np.float32))


def test_the_runtimes_own_errors_become_ours_with_their_cause() -> None:
    with (
        pytest.raises(StageFailed, match=re.escape("X refuses file.x")) as caught,
        refused_by("X", "file.x", [KeyError]),
    ):
        raise KeyError("tag")
    assert isinstance(caught.value.__cause__, KeyError)
    assert caught.value.got == "'tag'"


def test_other_errors_pass_through() -> None:
    with pytest.raises(ZeroDivisionError), refused_by("X", "file.x", [KeyError]):
        raise ZeroDivisionError
