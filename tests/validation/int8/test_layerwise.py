"""A quantized network layer by layer, each on the oracle's own inputs: only the layer with the fault is off."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from efficientvit.spec import model_spec
from runtimes.artifact import Artifact, Format
from runtimes.evaluator.program import Constant, Program
from runtimes.onnx.tensors import OnnxTensors
from runtimes.precision import Dtype, Precision
from runtimes.tensorrt import reader
from runtimes.tensorrt.evaluated import load_network
from validation.gates.execution import execution_gate
from validation.int8.layerwise import LayerDeviation, compare_layers

pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is made for Linux and Windows")

RNG = np.random.default_rng(0)
IMAGES = RNG.standard_normal((4, 2, 4, 4)).astype(np.float32)
INT8 = Precision(Dtype.INT8, Dtype.INT8, Dtype.INT8)


def _model(batch: int) -> onnx.ModelProto:
    """image -> pair -> convolution c -> relu r -> pair -> convolution d -> logits."""
    held: Mapping[str, NDArray[Any]] = {
        "zero": np.array(0, np.int8),
        "zeros": np.zeros(3, np.int8),
        "image_scale": np.array(0.03, np.float32),
        "r_scale": np.array(0.05, np.float32),
        "first": RNG.integers(-127, 128, (3, 2, 3, 3)).astype(np.int8),
        "second": RNG.integers(-127, 128, (3, 3, 1, 1)).astype(np.int8),
        "scales": np.array([0.01, 0.02, 0.03], np.float32),
    }
    nodes = []
    for tensor in ("image", "r"):
        nodes += [
            helper.make_node("QuantizeLinear", [tensor, f"{tensor}_scale", "zero"], [f"{tensor}_q"]),
            helper.make_node("DequantizeLinear", [f"{tensor}_q", f"{tensor}_scale", "zero"], [f"{tensor}_dq"]),
        ]
    for weight in ("first", "second"):
        operands = [weight, "scales", "zeros"]
        nodes.append(helper.make_node("DequantizeLinear", operands, [f"{weight}_dq"], axis=0, name=f"{weight}/DQ"))
    nodes[2:2] = [  # in the order in which they run
        nodes.pop(4),
        helper.make_node("Conv", ["image_dq", "first_dq"], ["c"], pads=[1, 1, 1, 1], name="first/Conv"),
        helper.make_node("Relu", ["c"], ["r"], name="relu/Relu"),
    ]
    nodes.append(helper.make_node("Conv", ["r_dq", "second_dq"], ["logits"], name="second/Conv"))
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "quantized",
        [value("image", onnx.TensorProto.FLOAT, (batch, 2, 4, 4))],
        [value("logits", onnx.TensorProto.FLOAT, (batch, 3, 4, 4))],
        [numpy_helper.from_array(array, name) for name, array in held.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


def _artifact(folder: Path, batch: int = 1) -> Artifact:
    path = folder / "model.onnx"
    onnx.save(_model(batch), path)
    return Artifact.on_disk(path, Format.NETWORK, model_spec("m0"), made_by="parse", batch=batch, precision=INT8)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return _artifact(tmp_path_factory.mktemp("network"))


def _by_name(deviations: tuple[LayerDeviation, ...]) -> dict[str, LayerDeviation]:
    return {deviation.tensor: deviation for deviation in deviations}


def test_a_healthy_network_is_off_nowhere(network: Artifact) -> None:
    found = _by_name(compare_layers(network, IMAGES).layers)
    assert set(found) == {"image_q", "image_dq", "first_dq", "c", "r", "r_q", "r_dq", "second_dq", "logits"}
    assert {name for name, layer in found.items() if layer.integer} == {"image_q", "r_q"}
    assert all(layer.off == 0 for layer in found.values())
    assert all(layer.worst <= (1 if layer.integer else 1e-6) for layer in found.values())
    assert execution_gate(tuple(found.values())).passed


def _with(monkeypatch: pytest.MonkeyPatch, network: Artifact, **constants: Any) -> None:
    """The network, as parsed, with other values of some of its constants."""
    program = load_network(network)
    changed = {
        name: Constant(np.asarray(value, np.asarray(program.constants[name].value).dtype), program.constants[name].type)
        for name, value in constants.items()
    }
    spoiled: Program = replace(program, constants={**program.constants, **changed})
    monkeypatch.setattr(reader, "load_network", lambda _: spoiled)


def _scale_of(network: Artifact, tensor: str) -> str:
    """The constant that a quantizer of the network reads."""
    (operation,) = [o for o in load_network(network).operations if o.name == tensor]
    name = operation.inputs["scale"]
    assert isinstance(name, str)
    return name


def test_only_the_layer_with_the_fault_is_off(network: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    """End to end everything behind it would be."""
    _with(monkeypatch, network, **{_scale_of(network, "image_q"): 0.06})
    found = compare_layers(network, IMAGES).layers
    off = {layer.tensor for layer in found if layer.off > 0 or (not layer.integer and layer.worst > 1e-6)}
    # Both of the pair read the one constant; the convolution behind them is fed the oracle's.
    assert off == {"image_q", "image_dq"}
    gate = execution_gate(found)
    assert not gate.passed
    assert gate.gate == "execution"
    assert "'image_q'" in gate.detail or "'image_dq'" in gate.detail


def test_a_float_layer_is_off_by_its_own_doing(network: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    _with(monkeypatch, network, **{_scale_of(network, "first_dq"): [0.01, 0.02, 0.0301]})
    found = _by_name(compare_layers(network, IMAGES).layers)
    assert found["first_dq"].worst == pytest.approx(0.0001 / 0.03, rel=0.3)
    assert found["c"].worst <= 1e-6
    assert not execution_gate(tuple(found.values())).passed


class _Scripted(OnnxTensors):
    """An oracle that says something else of one tensor."""

    tensor = "r_q"

    def __call__(self, images: Any) -> dict[str, Any]:
        shown = dict(super().__call__(images))
        shown[self.tensor] = self.other(shown[self.tensor].copy())
        return shown

    def other(self, value: NDArray[Any]) -> NDArray[Any]:
        return value


def _told(monkeypatch: pytest.MonkeyPatch, network: Artifact, tensor: str, other: Any) -> LayerDeviation:
    kind = type("Told", (_Scripted,), {"tensor": tensor, "other": lambda self, value: other(value)})
    monkeypatch.setattr(reader, "OnnxTensors", kind)
    return _by_name(compare_layers(network, IMAGES).layers)[tensor]


def _moved(by: int, every: int) -> Any:
    def moved(value: NDArray[np.int8]) -> NDArray[np.int8]:
        flat = value.reshape(-1)
        flat[::every] = np.where(flat[::every] > 0, flat[::every] - by, flat[::every] + by)
        return value

    return moved


def test_one_unit_is_a_tie_and_two_are_a_fault(network: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    tie = _told(monkeypatch, network, "image_q", _moved(1, 1))
    assert (tie.off, tie.worst) == (0, 1)
    fault = _told(monkeypatch, network, "image_q", _moved(2, 4))
    assert (fault.off, fault.worst) == pytest.approx((0.25, 2))


def test_the_share_is_over_all_images(network: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault in one image of four counts a quarter."""
    calls: list[int] = []

    def first_only(value: NDArray[np.int8]) -> NDArray[np.int8]:
        calls.append(1)
        return np.where(value > 0, value - 5, value + 5).astype(np.int8) if len(calls) == 1 else value

    found = _told(monkeypatch, network, "image_q", first_only)
    assert len(calls) == len(IMAGES)
    assert found.off == pytest.approx(0.25)


@pytest.mark.parametrize("tensor", ["c", "image_q"])
@pytest.mark.parametrize(
    "other",
    [lambda value: value[:, :1], lambda value: value.astype(np.float64 if value.dtype == np.float32 else np.int32)],
    ids=["shape", "dtype"],
)
def test_another_shape_or_dtype_is_as_far_off_as_can_be(
    tensor: str, other: Any, network: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = _told(monkeypatch, network, tensor, other)
    assert (found.off, found.worst) == (np.inf, np.inf)
    assert not execution_gate([found]).passed


def test_what_is_no_number_is_as_far_off_as_can_be(network: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    found = _told(monkeypatch, network, "c", lambda value: np.full_like(value, np.nan))
    assert found.worst == np.inf
    assert not execution_gate([found]).passed


def test_a_tensor_of_zeros_has_no_scale_to_divide_by(network: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    found = _told(monkeypatch, network, "r", np.zeros_like)
    assert 0 < found.worst < np.inf


def test_images_go_in_batches_of_the_artifacts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what does not fill one is left out."""
    network, shapes = _artifact(tmp_path, batch=3), list[Any]()

    def seen(value: NDArray[Any]) -> NDArray[Any]:
        shapes.append(value.shape)
        return value

    assert _told(monkeypatch, network, "image_q", seen).off == 0
    assert shapes == [(3, 2, 4, 4)]


def _layer(integer: bool, off: float, worst: float) -> LayerDeviation:
    return LayerDeviation("some", integer, off, worst)


@pytest.mark.parametrize(
    ("layers", "passed", "says"),
    [
        ([_layer(True, 1e-3, 127)], True, "0.10% over one unit"),
        ([_layer(True, 1.01e-3, 2)], False, "over one unit"),
        ([_layer(False, 0, 1e-5)], True, "off by 1.0e-05"),
        ([_layer(False, 0, 1.01e-5)], False, "off by"),
        ([_layer(True, 0, 0), _layer(False, 0, 0)], True, "1 quantized and 1 other"),
        (
            [_layer(True, 5e-4, 2), _layer(False, 0, 2e-5), _layer(True, 0, 0)],
            False,
            "off by 2.0e-05; 2 quantized and 1",
        ),
        ([], False, "no tensor to compare"),
    ],
)
def test_the_gate(layers: list[LayerDeviation], passed: bool, says: str) -> None:
    gate = execution_gate(layers)
    assert gate.passed is passed
    assert says in gate.detail
