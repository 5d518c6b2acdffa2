"""What is wrong with a tensor, in words: each cause from values that have it, and silence where none explains them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from runtimes.precision import Dtype
from validation.blame.causes import cause_of_constant, cause_of_values

Array = NDArray[np.float64]
RIGHT = np.random.default_rng(0).normal(size=(2, 8, 6, 6)) * 4
SOFT = np.exp(RIGHT[:, :6, :, 0]) / np.exp(RIGHT[:, :6, :, 0]).sum(axis=1, keepdims=True)


def swapped(x: Array) -> Array:
    y = x.copy()
    y[:, [2, 5]] = y[:, [5, 2]]
    return y


def some_channels(x: Array) -> Array:
    y = x.copy()
    y[:, 3] += 0.01
    return y


def edges(x: Array) -> Array:
    y = x.copy()
    y[:, :, 0] = np.random.default_rng(1).normal(size=y[:, :, 0].shape)
    return y


def each_channel(x: Array) -> Array:
    return x * np.linspace(1.01, 1.3, 8).reshape(1, 8, 1, 1)


def shifted(x: Array) -> Array:
    y = np.zeros_like(x)
    y[:, :, 1:, :] = x[:, :, :-1, :]
    return y


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda x: np.minimum(x, 3.0), "clipped at 3"),
        (lambda x: np.maximum(x, 0), "a ReLU too many"),
        (swapped, "channels permuted: 2 is 5, 5 is 2"),
        (lambda x: x.swapaxes(2, 3), "axes 2 and 3 exchanged"),
        (lambda x: x * 4, "scaled by 4"),
        (lambda x: x * (1 + 1e-6), "scaled by"),
        (some_channels, r"1 of 8 channels are off (3), by a constant each"),
        (each_channel, "8 of 8 channels are off by a factor each"),
        (lambda x: x + np.random.default_rng(2).normal(size=x.shape[1:]), "off by the same on every image"),
        (edges, "padding"),
        (shifted, "shifted by (1, 0) pixels"),
        (lambda x: np.where(x > 5, np.inf, x), "overflow: it reaches infinity"),
        (lambda x: np.where(x > 1, np.nan, x), "gives NaN"),
    ],
)
def test_what_a_tensor_shows(change: Callable[[Array], Array], says: str) -> None:
    assert says in (cause_of_values([change(RIGHT)], [RIGHT], Dtype.FP32) or "")


def test_a_relu_that_is_missing() -> None:
    assert cause_of_values([RIGHT], [np.maximum(RIGHT, 0)], Dtype.FP32) == "a ReLU is missing"


def test_a_softmax_of_the_wrong_axis() -> None:
    other = np.exp(RIGHT[:, :6, :, 0]) / np.exp(RIGHT[:, :6, :, 0]).sum(axis=2, keepdims=True)
    assert "axis 2 in place of axis 1" in (cause_of_values([other], [SOFT], Dtype.FP32) or "")


def test_what_only_float16_cannot_hold() -> None:
    assert cause_of_values([RIGHT * 1e5], None, Dtype.FP32) is None
    assert "65504" in (cause_of_values([RIGHT * 1e5], None, Dtype.FP16) or "")


def test_noise_has_no_cause() -> None:
    noise = np.random.default_rng(3).normal(size=RIGHT.shape)
    for scale in (1e-6, 1e-2, 1.0):
        assert cause_of_values([RIGHT + scale * noise], [RIGHT], Dtype.FP32) is None


WEIGHT = np.random.default_rng(4).normal(size=(6, 6, 3, 3)).astype(np.float32)
OTHER = np.random.default_rng(5).normal(size=(6, 6, 3, 3)).astype(np.float32)
ALL = {"a.weight": WEIGHT, "b.weight": OTHER}


def bumped(x: NDArray[Any]) -> NDArray[Any]:
    y = x.copy()
    y.flat[7] = np.nextafter(y.flat[7], np.float32(np.inf))
    return y


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (OTHER, "holds 'b.weight'"),
        (np.zeros_like(WEIGHT), "is all zeros"),
        (WEIGHT[..., ::-1], "is reversed along axis 3"),
        (WEIGHT.swapaxes(0, 1), "has axes 0 and 1 exchanged"),
        (WEIGHT[[0, 2, 1, 3, 4, 5]], "has axis 0 in another order: 1 is 2, 2 is 1"),
        (WEIGHT * np.float32(1.5), "is 1.5 times what it should be"),
        (WEIGHT[:5], "has shape (5, 6, 3, 3) in place of (6, 6, 3, 3)"),
        (WEIGHT.astype(np.float16), "is stored as float16 in place of float32"),
        (np.random.default_rng(6).permutation(WEIGHT.reshape(-1)).reshape(WEIGHT.shape), "has its values in another"),
        (bumped(WEIGHT), "1 of 324 values differ"),
    ],
)
def test_what_a_constant_shows(value: NDArray[Any], says: str) -> None:
    assert says in cause_of_constant(value, WEIGHT, ALL)


def test_a_constant_of_nobody() -> None:
    assert cause_of_constant(WEIGHT + 1, None, ALL) == "is no tensor of the model"
