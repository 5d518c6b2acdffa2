"""What activations were calibrated to beside what they reach."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from efficientvit.digests import tensor_digest
from efficientvit.spec import model_spec
from runtimes.artifact import Artifact, Format
from runtimes.onnx.qdq import Quantizer
from runtimes.precision import Dtype, Precision
from validation.gates.ranges import RANGE_FACTOR, range_ratio, ranges_gate
from validation.int8.ranges import _lengths, calibrated_ranges, calibration_digests, is_calibrated

IMAGES = np.random.default_rng(0).standard_normal((3, 2, 4, 4)).astype(np.float32)
SCALES = {"image": np.array(0.02, np.float32), "r": np.array(0.5, np.float32)}
WEIGHT_SCALES = np.array([1.0, 2.0], np.float32)


def _artifact(folder: Path, batch: int | None = 1, **scales: NDArray[Any]) -> Artifact:
    """image -> pair -> convolution (weights 1 and -2 on the diagonal) -> relu r -> pair -> logits."""
    held: dict[str, NDArray[Any]] = {
        "zero": np.array(0, np.int8),
        "zeros": np.zeros(2, np.int8),
        "weight": np.array([[[[1]], [[0]]], [[[0]], [[-1]]]], np.int8),
        "weight_scale": WEIGHT_SCALES,
        **{f"{tensor}_scale": scale for tensor, scale in {**SCALES, **scales}.items()},
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["image", "image_scale", "zero"], ["image_q"]),
        helper.make_node("DequantizeLinear", ["image_q", "image_scale", "zero"], ["image_dq"]),
        helper.make_node("DequantizeLinear", ["weight", "weight_scale", "zeros"], ["weight_dq"], axis=0),
        helper.make_node("Conv", ["image_dq", "weight_dq"], ["c"]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("QuantizeLinear", ["r", "r_scale", "zero"], ["r_q"]),
        helper.make_node("DequantizeLinear", ["r_q", "r_scale", "zero"], ["r_dq"]),
        helper.make_node("Identity", ["r_dq"], ["logits"]),
    ]
    value, shape = helper.make_tensor_value_info, ("batch" if batch is None else batch, 2, 4, 4)
    graph = helper.make_graph(
        nodes,
        "quantized",
        [value("image", onnx.TensorProto.FLOAT, shape)],
        [value("logits", onnx.TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(array, name) for name, array in held.items()],
    )
    path = folder / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    precision = Precision(Dtype.INT8, Dtype.INT8, Dtype.INT8)
    return Artifact.on_disk(path, Format.ONNX, model_spec("m0"), made_by="quantize", batch=batch, precision=precision)


@pytest.mark.parametrize("batch", [1, 2, None])
def test_a_range_is_set_beside_what_is_reached_without_quantizers(batch: int | None, tmp_path: Path) -> None:
    found = calibrated_ranges(_artifact(tmp_path, batch), IMAGES)
    reached = max(IMAGES[:, 0].max(), (-2 * IMAGES[:, 1]).max())
    assert set(found) == {"image", "r"}
    assert found["image"] == pytest.approx((127 * 0.02, np.abs(IMAGES).max()))
    assert found["r"] == pytest.approx((127 * 0.5, reached))


def test_a_scale_for_each_channel_of_an_activation_fails(tmp_path: Path) -> None:
    artifact = _artifact(tmp_path, r=np.array([0.5, 0.5], np.float32))
    gate = ranges_gate(calibrated_ranges(artifact, IMAGES))
    assert not gate.passed
    assert "'r'" in gate.detail


def test_the_scales_of_activations_bind_later_stages_bit_for_bit(tmp_path: Path) -> None:
    """Those of weights are compared with our own quantization."""
    before = calibration_digests(_artifact(tmp_path))
    assert before == {f"{tensor}_scale": tensor_digest(scale) for tensor, scale in SCALES.items()}
    after = calibration_digests(_artifact(tmp_path, r=np.nextafter(SCALES["r"], np.float32(1))))
    assert after["image_scale"] == before["image_scale"]
    assert after["r_scale"] != before["r_scale"]


def test_an_engines_scales_are_those_of_the_file_beside_it(tmp_path: Path) -> None:
    source = _artifact(tmp_path)
    engine = tmp_path / "model.engine"
    engine.write_bytes(b"an engine")
    built = Artifact.on_disk(engine, Format.ENGINE, source.model, made_by="build", precision=source.precision)
    assert calibration_digests(built) == calibration_digests(source)


@pytest.mark.parametrize(
    ("reached", "passed"),
    [
        ((1.0, 1.0), True),
        ((1.0, RANGE_FACTOR), True),
        ((RANGE_FACTOR, 1.0), True),
        ((1.0, 1.01 * RANGE_FACTOR), False),  # clips
        ((1.01 * RANGE_FACTOR, 1.0), False),  # wastes its integers
        ((1.0, 0.0), True),  # nothing is reached: any range will do
        ((0.0, 1.0), False),
        ((-1.0, 1.0), False),
        ((np.nan, 1.0), False),
        ((np.inf, 1.0), False),
        ((1.0, np.nan), False),
        ((1.0, np.inf), False),
    ],
)
def test_a_range_may_be_so_much_too_wide_or_too_narrow(reached: tuple[float, float], passed: bool) -> None:
    gate = ranges_gate({"fine": (1.0, 1.0), "odd": reached})
    assert gate.gate == "ranges"
    assert gate.passed is passed
    assert passed or "'odd'" in gate.detail


def test_a_quantized_file_without_quantized_activations_fails() -> None:
    assert not ranges_gate({}).passed


@pytest.mark.parametrize(
    ("low", "high", "ratio"),
    [
        (0.0, 1.0, 1.0),
        (0.0, 0.5, 2.0),  # wastes half of its integers
        (0.0, 4.0, 4.0),  # clips
        (-1.0, 1.0, 2.0),
        (-1.0, 0.0, np.inf),  # nothing in common
        (0.0, 0.0, 1.0),  # nothing is reached
        (np.nan, np.nan, np.inf),
    ],
)
def test_with_a_zero_point_ranges_are_compared_by_what_they_share(low: float, high: float, ratio: float) -> None:
    quantizer = Quantizer("r", "r_scale", 1 / 255, "zero", 0, 0, 255)
    assert range_ratio(_lengths(quantizer, (low, high))) == pytest.approx(ratio)


def test_a_zero_point_is_calibrations_to_say_among_unsigned_activations_alone() -> None:
    unsigned = Precision(Dtype.INT8, Dtype.UINT8, Dtype.INT8)
    signed = Precision(Dtype.INT8, Dtype.INT8, Dtype.INT8)
    assert [is_calibrated("r_zero_point", each) for each in (unsigned, signed, Precision())] == [True, False, False]
    assert [is_calibrated("r_scale", each) for each in (unsigned, signed, Precision())] == [True, True, False]
    assert not is_calibrated("stem.conv1.weight", unsigned)
