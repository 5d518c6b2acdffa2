"""A Q/DQ file split into subgraphs at its quantizers."""

from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper

from runtimes.onnx.subgraphs import OnnxSubgraphs
from runtimes.onnx.tensors import OnnxTensors
from tests.quantized_onnx import model_of, pair

IMAGE = np.random.default_rng(0).standard_normal((1, 2, 3, 3)).astype(np.float32)


def _model(batch: int | str = 1) -> onnx.ModelProto:
    """image -> pair -> Conv -> Relu -> pair -> Conv -> logits, with unsigned activations."""
    held: dict[str, NDArray[Any]] = {
        "weight": np.array([[[[3]], [[-5]]], [[[127]], [[1]]]], np.int8),
        "weight_scale": np.array([0.25, 0.01], np.float32),
        "zeros": np.zeros(2, np.int8),
        "zero": np.array(128, np.uint8),
        "image_scale": np.array(0.03125, np.float32),
        "r_scale": np.array(0.125, np.float32),
    }
    made = [
        *pair("image"),
        helper.make_node("DequantizeLinear", ["weight", "weight_scale", "zeros"], ["weight_dq"], axis=0),
        helper.make_node("Conv", ["image_dq", "weight_dq"], ["c"]),
        helper.make_node("Relu", ["c"], ["r"]),
        *pair("r"),
        helper.make_node("Conv", ["r_dq", "weight_dq"], ["logits"]),
    ]
    return model_of(made, held, (batch, 2, 3, 3))


@pytest.mark.parametrize("batch", [1, "batch"])
def test_each_stretch_gives_what_it_gave_in_the_whole(batch: int | str) -> None:
    right = OnnxTensors(_model(batch))(IMAGE)
    apart = OnnxSubgraphs(_model(batch))
    assert apart.integers == ("image_q", "r_q")
    found = apart({**right, "image": IMAGE})
    assert set(found) == {"image_q", "r_q", "logits"}
    for name in ("image_q", "r_q"):
        assert found[name].dtype == np.uint8
        assert np.abs(found[name].astype(int) - right[name].astype(int)).max() <= 1
    np.testing.assert_allclose(found["logits"], right["logits"], rtol=1e-5, atol=1e-6)


def test_what_one_stretch_gets_wrong_does_not_reach_the_next() -> None:
    right = dict(OnnxTensors(_model())(IMAGE))
    spoiled = {**right, "image": IMAGE, "image_q": np.zeros_like(right["image_q"])}
    found = OnnxSubgraphs(_model())(spoiled)
    assert (found["r_q"] != right["r_q"]).any()
    np.testing.assert_allclose(found["logits"], right["logits"], rtol=1e-5, atol=1e-6)
