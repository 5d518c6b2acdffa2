"""An int8 IR without its quantizers, with its roundings spelled out, and taken apart between them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from runtimes.onnx.tensors import OnnxTensors
from runtimes.openvino import subgraphs
from runtimes.openvino.fake_quantize import fakes, left_out, not_ours, quantizer_of, readers_of, without_quantizers
from runtimes.openvino.package import import_openvino
from runtimes.openvino.runtime import compiled_as_shipped, executed_layers
from runtimes.openvino.subgraphs import OpenVinoSubgraphs
from runtimes.openvino.tensors import bare_quantizers, integer_tensors
from tests.integer_cpu import needs_exact_int8
from tests.quantized_onnx import model_of, pair

IMAGE = np.random.default_rng(0).standard_normal((1, 8, 6, 6)).astype(np.float32)
UNIT = np.float32(0.03125)


def _model(batch: int | str = 1) -> onnx.ModelProto:
    """image -> int8 pair -> Conv -> Relu -> uint8 pair -> Conv -> logits."""
    rng = np.random.default_rng(1)
    held: dict[str, NDArray[Any]] = {
        "weight_quantized": rng.integers(-127, 128, (8, 8, 1, 1)).astype(np.int8),
        "weight_scale": rng.uniform(0.001, 0.01, 8).astype(np.float32),
        "bias": rng.standard_normal(8).astype(np.float32),
        "zeros": np.zeros(8, np.int8),
        "signed": np.array(0, np.int8),
        "unsigned": np.array(0, np.uint8),
        "image_scale": np.array(UNIT),
        "r_scale": np.array(0.0625, np.float32),
    }
    made = [
        *pair("image", "image_scale", "signed"),
        helper.make_node(
            "DequantizeLinear",
            ["weight_quantized", "weight_scale", "zeros"],
            ["weight_dq"],
            axis=0,
            name="weight_DequantizeLinear",
        ),
        helper.make_node("Conv", ["image_dq", "weight_dq", "bias"], ["c"], name="first/Conv"),
        helper.make_node("Relu", ["c"], ["r"], name="first/Relu"),
        *pair("r", "r_scale", "unsigned"),
        helper.make_node("Conv", ["r_dq", "weight_dq"], ["logits"], name="second/Conv"),
    ]
    return model_of(made, held, (batch, 8, 6, 6))


def _saved(folder: Path, batch: int | str = 1, change: Callable[[Any], None] = lambda _: None) -> Path:
    openvino = import_openvino()
    onnx.save(_model(batch), folder / "model.onnx")
    model = openvino.convert_model(folder / "model.onnx")
    change(model)
    openvino.save_model(model, folder / "model.xml", compress_to_fp16=False)
    return folder / "model.xml"


def _exchange(constant: Any, value: NDArray[np.float32]) -> None:
    from openvino import opset13

    constant.output(0).replace(opset13.constant(value).output(0))


def _read(path: Path) -> Any:
    return import_openvino().Core().read_model(path)


def test_a_quantizer_says_its_range_and_its_integers(tmp_path: Path) -> None:
    image, relu = map(quantizer_of, fakes(_read(_saved(tmp_path))))
    assert (image.tensor, image.symmetric, image.scale, image.dtype) == ("image", True, UNIT, np.int8)
    assert (image.low, image.high) == (np.float32(-128) * UNIT, np.float32(127) * UNIT)
    assert (relu.tensor, relu.symmetric, relu.scale, relu.dtype) == ("r", False, np.float32(0.0625), np.uint8)
    assert image.ours
    assert relu.ours


def test_without_quantizers_it_is_the_graph_with_the_relu_and_decoded_weights(tmp_path: Path) -> None:
    model = _read(_saved(tmp_path))
    without_quantizers(model)
    assert {op.get_type_name() for op in model.get_ops()} == {
        "Add", "Constant", "Convolution", "Parameter", "Relu", "Result",
    }  # fmt: skip
    held = {tensor.name: numpy_helper.to_array(tensor) for tensor in _model().graph.initializer}
    weight = held["weight_quantized"][:, :, 0, 0].astype(np.float32) * held["weight_scale"][:, None]
    hidden = np.maximum(np.einsum("oc,bchw->bohw", weight, IMAGE) + held["bias"][:, None, None], 0)
    expected = np.einsum("oc,bchw->bohw", weight, hidden)
    np.testing.assert_allclose(compiled_as_shipped(model)(IMAGE)[0], expected, rtol=1e-4, atol=1e-5)
    bare = bare_quantizers(tmp_path / "model.xml").run(IMAGE)
    np.testing.assert_allclose(bare["r"], hidden, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(bare["image"], IMAGE)


def test_spelled_out_it_gives_the_integers_of_the_file_that_it_was_made_from(tmp_path: Path) -> None:
    right, found = OnnxTensors(_model())(IMAGE), integer_tensors(_saved(tmp_path))(IMAGE)
    for tensor in ("image", "r"):
        assert found[tensor].dtype == right[f"{tensor}_q"].dtype
        assert np.abs(found[tensor].astype(int) - right[f"{tensor}_q"].astype(int)).max() <= 1
    assert found["r"].max() > 20
    np.testing.assert_allclose(found["logits"], right["logits"], rtol=1e-4, atol=float(UNIT))


@needs_exact_int8
@pytest.mark.parametrize("batch", [1, "batch"])
def test_each_stretch_gives_what_it_gave_in_the_whole(batch: int | str, tmp_path: Path) -> None:
    path = _saved(tmp_path, batch)
    right, apart = integer_tensors(path)(IMAGE), OpenVinoSubgraphs(path)
    assert apart.tensors == ("image", "r")
    assert apart.other_kernels == ()
    found = apart(IMAGE, right)
    assert set(found) == {"image", "r", "logits"}
    for name in apart.tensors:
        assert found[name].dtype == right[name].dtype
        assert np.abs(found[name].astype(int) - right[name].astype(int)).max() <= 1
    np.testing.assert_allclose(found["logits"], right["logits"], rtol=1e-5, atol=1e-5)


def test_fed_with_an_offset_it_gives_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As CPUs want it that multiply only unsigned by signed integers, on whatever CPU this is."""
    path = _saved(tmp_path)
    right, kernels = integer_tensors(path)(IMAGE), subgraphs._kernels

    def apart(kernel: str) -> OpenVinoSubgraphs:
        monkeypatch.setattr(subgraphs, "_kernels", lambda compiled: dict.fromkeys(kernels(compiled), kernel))
        return OpenVinoSubgraphs(path)

    plain, offset = apart("brgconv_avx512_1x1_i8"), apart("brgconv_avx512_1x1_I8")
    assert [plain._offsets["image"], plain._offsets["r"]] == [0, 0]
    kinds = {port.get_any_name(): port.get_element_type().get_type_name() for port in offset._compiled.inputs}
    assert kinds == {"image": "f32", "image.fed": "u8", "r.fed": "u8"}
    for name, found in offset(IMAGE, right).items():
        expected = plain(IMAGE, right)[name]
        assert found.dtype == expected.dtype
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_what_openvino_adds_of_its_own_hides_no_cut(tmp_path: Path) -> None:
    model = _read(_saved(tmp_path))
    image, relu = (fake.get_friendly_name() for fake in fakes(model))
    products = [op.get_friendly_name() for op in model.get_ops() if op.get_type_name() == "Convolution"]
    layers = [
        {"originalLayersNames": f"{products[0]},{image},FakeQuantize_7,", "primitiveType": "a_I8"},
        {"originalLayersNames": f"{relu},{products[1]}/DequantizationMultiply", "primitiveType": "b_i8"},
        {"originalLayersNames": f"{products[0]}/DequantizationMultiply", "primitiveType": "c_f32"},
    ]
    assert subgraphs._inside(layers, model) == {products[0], relu}
    kernels = subgraphs._kernels(layers)
    assert [kernels[name] for name in products] == ["a_I8", "b_i8"]


def test_readers_are_found_behind_what_moves_values_and_as_first_operands() -> None:
    import_openvino()
    import openvino
    from openvino import opset13 as opset

    given = opset.parameter([1, 4, 6, 6], np.float32, "given")
    other = opset.parameter([1, 2, 6, 6], np.float32, "other")
    parts = opset.split(given, 1, 2)
    first = opset.matmul(opset.reshape(parts.output(1), [1, 2, 6, 6], False), other, False, False)
    second = opset.matmul(other, parts.output(0), False, False)
    model = openvino.Model([opset.result(first), opset.result(second)], [given, other])
    names = {op.get_friendly_name() for op in model.get_ops() if op.get_type_name() == "MatMul"}
    assert names == {first.get_friendly_name(), second.get_friendly_name()}
    assert readers_of(given, ("MatMul",)) == [first.get_friendly_name()]
    assert readers_of(other, ("MatMul",)) == [second.get_friendly_name()]


def test_stretches_run_in_integer_kernels(tmp_path: Path) -> None:
    compiled = compiled_as_shipped(_read(_saved(tmp_path)))
    kernels = [each["primitiveType"] for each in executed_layers(compiled) if each["layerType"] == "Convolution"]
    assert len(kernels) == 2
    assert all(kernel.lower().endswith("_i8") for kernel in kernels)


def test_what_one_stretch_gets_wrong_does_not_reach_the_next(tmp_path: Path) -> None:
    path = _saved(tmp_path)
    right = integer_tensors(path)(IMAGE)
    found = OpenVinoSubgraphs(path)(IMAGE, {**right, "image": np.zeros_like(right["image"])})
    assert (found["r"] != right["r"]).any()
    np.testing.assert_allclose(found["logits"], right["logits"], rtol=1e-5, atol=1e-5)


def test_a_layer_that_computes_something_else_leaves_the_oracle(tmp_path: Path) -> None:
    """The only stand-in for a wrong kernel: the same file with another bias, compared with the right file's oracle."""

    def heavier(model: Any) -> None:
        (bias,) = (op for op in model.get_ops() if op.get_type_name() == "Constant" and op.data.shape == (1, 8, 1, 1))
        _exchange(bias, np.array(bias.data) + 1)

    (tmp_path / "other").mkdir()
    right = integer_tensors(_saved(tmp_path))(IMAGE)
    found = OpenVinoSubgraphs(_saved(tmp_path / "other", change=heavier))(IMAGE, right)
    assert (np.abs(found["r"].astype(int) - right["r"].astype(int)) > 1).mean() > 0.1


def test_a_product_that_reads_floats_and_a_range_with_a_zero_point_are_told(tmp_path: Path) -> None:
    model = _read(_saved(tmp_path))
    assert not left_out(model)
    assert not_ours(model) == 0
    first, _ = fakes(model)
    (reader,) = first.output(0).get_target_inputs()
    reader.replace_source_output(first.input_value(0))
    assert left_out(model) == {"Convolution": 1}

    def shifted(model: Any) -> None:
        for place in range(1, 5):
            limit = fakes(model)[0].input_value(place).get_node()
            _exchange(limit, np.array(limit.data) + UNIT)

    assert not_ours(_read(_saved(tmp_path, change=shifted))) == 1
