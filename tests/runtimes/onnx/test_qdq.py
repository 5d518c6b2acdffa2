"""Where the quantizers of a Q/DQ file stand, and the file without those between its operators."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import helper

from runtimes.onnx.qdq import (
    Quantizer,
    activation_quantizers,
    is_quantized,
    left_out,
    unlike_their_quantizer,
    without_quantizers,
)
from tests.quantized_onnx import model_of, pair

Array = NDArray[Any]

WEIGHT = np.array([[[[3]], [[-5]]], [[[127]], [[1]]]], np.int8)  # (2, 2, 1, 1)
SCALES = np.array([0.25, 0.5], np.float32)
DECODED = (WEIGHT * SCALES.reshape(2, 1, 1, 1)).astype(np.float32)
IMAGE = np.random.default_rng(0).standard_normal((1, 2, 3, 3)).astype(np.float32)


WEIGHTS = helper.make_node("DequantizeLinear", ["weight", "weight_scale", "zeros"], ["weight_dq"], axis=0)
CONVOLUTION = helper.make_node("Conv", ["image_dq", "weight_dq"], ["c"])
TWICE = [
    *pair("image"),
    WEIGHTS,
    CONVOLUTION,
    helper.make_node("Relu", ["c"], ["r"]),
    *pair("r"),
    helper.make_node("Conv", ["r_dq", "weight_dq"], ["logits"]),
]


def _model(nodes: Sequence[onnx.NodeProto], **more: Array) -> onnx.ModelProto:
    """`image` (1, 2, 3, 3) -> `logits`."""
    held: dict[str, Array] = {
        "weight": WEIGHT,
        "weight_scale": SCALES,
        "zeros": np.zeros(2, np.int8),
        "zero": np.array(0, np.int8),
        "image_scale": np.array(0.03125, np.float32),
        "r_scale": np.array(0.125, np.float32),
        **more,
    }
    return model_of(nodes, held, IMAGE.shape)


def _run(model: onnx.ModelProto) -> Array:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    result: Array = session.run(["logits"], {"image": IMAGE})[0]
    return result


def _convolved(image: Array) -> Array:
    result: Array = np.einsum("oi,nihw->nohw", DECODED[:, :, 0, 0], image)
    return result


def test_the_quantizers_between_operators_are_listed() -> None:
    assert list(activation_quantizers(_model(TWICE))) == [
        Quantizer("image", "image_scale", 0.03125, "zero"),
        Quantizer("r", "r_scale", 0.125, "zero"),
    ]


def test_a_scale_for_each_channel_of_an_activation_is_no_number() -> None:
    """TensorRT takes one for the tensor; what no number is compares as wrong."""
    model = _model(TWICE, r_scale=np.array([0.1, 0.2], np.float32))
    (_, second) = activation_quantizers(model)
    assert np.isnan(second.scale)


def test_a_file_with_a_quantizer_is_quantized() -> None:
    assert is_quantized(_model(TWICE))
    assert is_quantized(_model([WEIGHTS]))
    assert not is_quantized(_model([helper.make_node("Relu", ["image"], ["logits"])]))


def test_without_them_the_weights_stay_decoded_and_nothing_else_is_rounded() -> None:
    with_them, model = _run(_model(TWICE)), without_quantizers(_model(TWICE))
    onnx.checker.check_model(model, full_check=True)
    exact = _convolved(np.maximum(_convolved(IMAGE), 0))
    np.testing.assert_allclose(_run(model), exact, rtol=1e-5)
    assert np.abs(with_them - exact).max() > 0.01  # the rounding that was taken out
    assert [node.op_type for node in model.graph.node] == ["DequantizeLinear", "Conv", "Relu", "Conv"]


def test_pairs_in_a_row_go_together() -> None:
    nodes = [
        *pair("image"),
        helper.make_node("QuantizeLinear", ["image_dq", "r_scale", "zero"], ["again"]),
        helper.make_node("DequantizeLinear", ["again", "r_scale", "zero"], ["back"]),
        WEIGHTS,
        helper.make_node("Conv", ["back", "weight_dq"], ["logits"]),
    ]
    np.testing.assert_allclose(_run(without_quantizers(_model(nodes))), _convolved(IMAGE), rtol=1e-5)


def test_one_tensor_quantized_for_two_readers() -> None:
    nodes = [
        *pair("image"),
        WEIGHTS,
        CONVOLUTION,
        helper.make_node("Add", ["c", "image_dq"], ["logits"]),
    ]
    np.testing.assert_allclose(_run(without_quantizers(_model(nodes))), _convolved(IMAGE) + IMAGE, rtol=1e-5)


def test_weights_that_are_quantized_in_the_graph_stay_as_they_are() -> None:
    """From a float constant: what they are rounded to is the weights' value."""
    nodes = [
        helper.make_node("QuantizeLinear", ["plain", "weight_scale", "zeros"], ["weight_q"], axis=0),
        helper.make_node("DequantizeLinear", ["weight_q", "weight_scale", "zeros"], ["weight_dq"], axis=0),
        *pair("image"),
        helper.make_node("Conv", ["image_dq", "weight_dq"], ["logits"]),
    ]
    model = without_quantizers(_model(nodes, plain=(DECODED + np.float32(0.05))))
    np.testing.assert_allclose(_run(model), _convolved(IMAGE), rtol=1e-5)


def test_an_output_keeps_its_name() -> None:
    nodes = [*pair("image")[:1], helper.make_node("DequantizeLinear", ["image_q", "image_scale", "zero"], ["logits"])]
    model = without_quantizers(_model(nodes))
    onnx.checker.check_model(model, full_check=True)
    assert np.array_equal(_run(model), IMAGE)


GROUPED = helper.make_node("Conv", ["image", "single"], ["logits"], group=2)


@pytest.mark.parametrize(
    ("nodes", "found"),
    [
        (TWICE, {}),
        ([GROUPED], {}),  # depthwise: left in float32 on purpose
        ([helper.make_node("Relu", ["image"], ["logits"])], {}),
        ([WEIGHTS, helper.make_node("Conv", ["image", "weight_dq"], ["logits"])], {"Conv": 1}),
        ([*pair("image"), helper.make_node("Conv", ["image_dq", "plain"], ["logits"])], {"Conv": 1}),
        ([helper.make_node("MatMul", ["image", "image"], ["m"]), helper.make_node("Gemm", ["m", "m"], ["logits"])],
         {"MatMul": 1, "Gemm": 1}),
        ([helper.make_node("MatMul", ["image", "image"], [name]) for name in ("m", "logits")], {"MatMul": 2}),
    ],
)  # fmt: skip
def test_what_was_left_out_is_counted(nodes: list[onnx.NodeProto], found: dict[str, int]) -> None:
    model = _model(nodes, plain=DECODED, single=DECODED[:, :1])
    assert left_out(model) == found


def test_a_bias_need_not_be_quantized() -> None:
    nodes = [*pair("image"), WEIGHTS, helper.make_node("Conv", ["image_dq", "weight_dq", "bias"], ["logits"])]
    assert not left_out(_model(nodes, bias=np.zeros(2, np.float32)))


def test_unsigned_ones_have_a_zero_point_and_a_range_about_it() -> None:
    zero = np.array(64, np.uint8)
    (first, _) = activation_quantizers(_model(TWICE, zero=zero))
    assert first == Quantizer("image", "image_scale", 0.03125, "zero", 64, 0, 255)
    assert not first.symmetric
    assert first.range == (-64 * 0.03125, 191 * 0.03125)
    assert Quantizer("r", "r_scale", 0.5).range == (-63.5, 63.5)


def test_a_dequantizer_goes_by_its_quantizers_operands() -> None:
    assert unlike_their_quantizer(_model(TWICE)) == 0
    model = _model(TWICE)
    (inverse,) = [node for node in model.graph.node if node.output[0] == "r_dq"]
    inverse.input[1] = "image_scale"
    assert unlike_their_quantizer(model) == 1
    assert unlike_their_quantizer(_model(list(model.graph.node), image_scale=np.array(0.125, np.float32))) == 0
