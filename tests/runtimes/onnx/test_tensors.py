"""Every tensor of an ONNX file, as it is computed without any optimization."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from runtimes.onnx.tensors import OnnxTensors

IMAGES = np.random.default_rng(0).standard_normal((5, 1, 2, 2)).astype(np.float32)


def _model(batch: int | str = 1) -> onnx.ModelProto:
    """image -> a = 2 image -> b = relu a -> h in float16 -> logits; and a shape, which is no float."""
    nodes = [
        helper.make_node("Mul", ["image", "two"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Cast", ["b"], ["h"], to=onnx.TensorProto.FLOAT16),
        helper.make_node("Shape", ["b"], ["s"]),
        helper.make_node("Cast", ["h"], ["logits"], to=onnx.TensorProto.FLOAT),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "some tensors",
        [value("image", onnx.TensorProto.FLOAT, (batch, 1, 2, 2))],
        [value("logits", onnx.TensorProto.FLOAT, (batch, 1, 2, 2))],
        [numpy_helper.from_array(np.array(2, np.float32), "two")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def test_every_tensor_is_shown_in_its_own_type() -> None:
    shown = OnnxTensors(_model())(IMAGES[:1])
    assert list(shown) == ["a", "b", "h", "s", "logits"]
    assert np.array_equal(shown["a"], 2 * IMAGES[:1])
    assert np.array_equal(shown["b"], np.maximum(2 * IMAGES[:1], 0))
    assert shown["h"].dtype == np.float16
    assert np.array_equal(shown["h"], shown["b"].astype(np.float16))
    assert shown["s"].tolist() == [1, 1, 2, 2]


def test_a_file_and_a_model_in_memory_are_alike_and_stay_as_they_are(tmp_path: Path) -> None:
    model = _model()
    before = model.SerializeToString()
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    from_memory, from_file = OnnxTensors(model)(IMAGES[:1]), OnnxTensors(path)(IMAGES[:1])
    assert from_memory.keys() == from_file.keys()
    assert all(np.array_equal(from_memory[name], from_file[name]) for name in from_memory)
    assert model.SerializeToString() == before


def test_peaks_are_of_all_images_and_of_floats_alone() -> None:
    peaks = OnnxTensors(_model()).peaks(IMAGES, 1)
    assert set(peaks) == {"a", "b", "h", "logits"}
    assert peaks["a"] == pytest.approx(2 * np.abs(IMAGES).max())
    assert peaks["b"] == pytest.approx(2 * IMAGES.max())


def test_a_last_batch_is_filled_up() -> None:
    """Five images in threes: the images that fill up are images too."""
    assert OnnxTensors(_model(3)).peaks(IMAGES, 3) == OnnxTensors(_model()).peaks(IMAGES, 1)


def test_the_largest_may_be_in_the_last_image() -> None:
    images = IMAGES.copy()
    images[4, 0, 1, 1] = -77
    peaks = OnnxTensors(_model("batch")).peaks(images, 2)
    assert peaks["a"] == 154


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_infinitely_large(value: float) -> None:
    images = IMAGES.copy()
    images[2, 0, 0, 0] = value
    assert OnnxTensors(_model()).peaks(images, 1)["a"] == np.inf
