"""What is taken out of a Q/DQ file and what becomes symmetric."""

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from export.targets.onnx.qdq_pairs import behind_each_relu_alone, rounded_once, without_pairs, without_zero_points
from runtimes.onnx.qdq import activation_quantizers
from runtimes.onnx.tensors import OnnxTensors
from tests.quantized_onnx import model_of, pair

IMAGE = np.random.default_rng(0).uniform(-1, 2, (1, 4, 2)).astype(np.float32)


def _model() -> onnx.ModelProto:
    """image -> Transpose -> MatMul + addend -> Softmax, and a Relu of the sum, with a pair everywhere."""
    made = [
        *pair("image", zero="image_zero_point"),
        helper.make_node("Transpose", ["image_dq"], ["moved"], perm=[0, 2, 1]),
        *pair("moved", "image_scale", "image_zero_point"),
        helper.make_node("MatMul", ["moved_dq", "image_dq"], ["product"]),
        *pair("product", zero="product_zero_point"),
        helper.make_node("Add", ["product_dq", "addend"], ["sum"]),
        *pair("sum", zero="sum_zero_point"),
        helper.make_node("Relu", ["sum_dq"], ["relu"]),
        *pair("relu", zero="relu_zero_point"),
        helper.make_node("Softmax", ["relu_dq"], ["logits"], axis=-1),
    ]
    zeros = {"image": 85, "product": 100, "sum": 128, "relu": 0}
    held: dict[str, NDArray[Any]] = {"addend": np.array([[0.5, -2.0], [0.25, 1.0]], np.float32)}
    for name, zero in zeros.items():
        held[f"{name}_scale"] = np.array(0.02, np.float32)
        held[f"{name}_zero_point"] = np.array(zero, np.uint8)
    return model_of(made, held, IMAGE.shape, (1, 2, 2))


def _quantized(model: onnx.ModelProto) -> list[str]:
    onnx.checker.check_model(model, full_check=True)
    return [quantizer.tensor for quantizer in activation_quantizers(model)]


def test_before_a_relu() -> None:
    model = _model()
    without_pairs(model, behind_each_relu_alone)
    assert _quantized(model) == ["image", "moved", "product", "relu"]
    assert "sum_scale" not in {tensor.name for tensor in model.graph.initializer}


def test_what_would_round_twice() -> None:
    model = _model()
    without_pairs(model, rounded_once)
    assert _quantized(model) == ["image"]


def test_behind_a_move_nothing_changes() -> None:
    model = _model()
    without_pairs(model, lambda pair: pair.repeated)
    assert _quantized(model) == ["image", "product", "sum", "relu"]
    before, after = OnnxTensors(_model())(IMAGE), OnnxTensors(model)(IMAGE)
    np.testing.assert_array_equal(after["logits"], before["logits"])


def test_ranges_become_symmetric_where_anything_is_negative() -> None:
    model = _model()
    without_zero_points(model)
    assert len(_quantized(model)) == 5
    found = {each.tensor: each for each in activation_quantizers(model)}
    assert all(quantizer.zero == 0 for quantizer in found.values())
    assert found["relu"].least == 0
    assert found["relu"].scale == np.float32(0.02)
    for tensor, zero in (("image", 85), ("product", 100), ("sum", 128)):
        assert found[tensor].symmetric
        largest = max(zero, 255 - zero) * 0.02
        np.testing.assert_allclose(found[tensor].range, (-largest, largest), rtol=1e-6)
    image = OnnxTensors(model)(IMAGE)["image_dq"]
    np.testing.assert_allclose(image, IMAGE, atol=found["image"].scale / 2 * 1.001)
