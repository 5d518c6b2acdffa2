"""A Q/DQ file taken apart between its quantisers."""

from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from runtimes.onnx_apart import OnnxApart
from runtimes.onnx_tensors import OnnxTensors

IMAGE = np.random.default_rng(0).standard_normal((1, 2, 3, 3)).astype(np.float32)


def _pair(tensor: str) -> list[onnx.NodeProto]:
    operands = [f"{tensor}_scale", "zero"]
    return [
        helper.make_node("QuantizeLinear", [tensor, *operands], [f"{tensor}_q"]),
        helper.make_node("DequantizeLinear", [f"{tensor}_q", *operands], [f"{tensor}_dq"]),
    ]


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
        *_pair("image"),
        helper.make_node("DequantizeLinear", ["weight", "weight_scale", "zeros"], ["weight_dq"], axis=0),
        helper.make_node("Conv", ["image_dq", "weight_dq"], ["c"]),
        helper.make_node("Relu", ["c"], ["r"]),
        *_pair("r"),
        helper.make_node("Conv", ["r_dq", "weight_dq"], ["logits"]),
    ]
    value, shape = helper.make_tensor_value_info, (batch, 2, 3, 3)
    graph = helper.make_graph(
        made,
        "quantised",
        [value("image", onnx.TensorProto.FLOAT, shape)],
        [value("logits", onnx.TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(array, name) for name, array in held.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


@pytest.mark.parametrize("batch", [1, "batch"])
def test_each_stretch_gives_what_it_gave_in_the_whole(batch: int | str) -> None:
    right = OnnxTensors(_model(batch))(IMAGE)
    apart = OnnxApart(_model(batch))
    assert apart.integers == ("image_q", "r_q")
    found = apart({**right, "image": IMAGE})
    assert set(found) == {"image_q", "r_q", "logits"}
    for name in ("image_q", "r_q"):
        assert found[name].dtype == np.uint8
        assert np.abs(found[name].astype(int) - right[name].astype(int)).max() <= 1
    np.testing.assert_allclose(found["logits"], right["logits"], rtol=1e-5, atol=1e-6)


def test_what_one_stretch_gets_wrong_does_not_reach_the_next() -> None:
    right = dict(OnnxTensors(_model())(IMAGE))
    spoilt = {**right, "image": IMAGE, "image_q": np.zeros_like(right["image_q"])}
    found = OnnxApart(_model())(spoilt)
    assert (found["r_q"] != right["r_q"]).any()
    np.testing.assert_allclose(found["logits"], right["logits"], rtol=1e-5, atol=1e-6)
