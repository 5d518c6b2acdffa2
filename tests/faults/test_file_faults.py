"""Faults planted in the file that a stage made. Each must be rejected, with exit 1, at the stage that has it.

A fault is data (where it is planted, which gate is expected to see it) and a function that spoils the file.
Magnitudes and places are drawn at random from a seed that the test's name shows.
"""

import json
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from efficientvit.errors import ArtifactChanged
from export import cli
from export.outcome import Exit
from runtimes.base import Evidence
from runtimes.ort import OnnxRuntime
from validation.gates import Gate
from validation.timing import TimingPlan, benchmark
from validation.verdict import Rejected, VerifiedArtifact

SIZE = 128  # as conftest.py exports it

Rng = np.random.Generator
Plant = Callable[[onnx.ModelProto, Rng], None]


def _initializers(model: onnx.ModelProto, ending: str) -> list[onnx.TensorProto]:
    return [tensor for tensor in model.graph.initializer if tensor.name.endswith(ending)]


def _pick(rng: Rng, items: list[Any]) -> Any:
    assert items, "the fault has nothing to be planted in"
    return items[int(rng.integers(len(items)))]


def _change(tensor: onnx.TensorProto, change: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]) -> None:
    value = change(numpy_helper.to_array(tensor).copy())
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(value), tensor.name))


def _nodes(model: onnx.ModelProto, kind: str) -> list[onnx.NodeProto]:
    return [node for node in model.graph.node if node.op_type == kind]


def last_bit(model: onnx.ModelProto, rng: Rng) -> None:
    """One weight off by a unit in the last place."""

    def flip(value: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        flat = value.reshape(-1)
        i = int(rng.integers(flat.size))
        flat[i] = np.nextafter(flat[i], flat.dtype.type(np.inf))
        return value

    _change(_pick(rng, _initializers(model, ".weight")), flip)


def zeroed_bias(model: onnx.ModelProto, rng: Rng) -> None:
    """A convolution without its bias."""
    _change(_pick(rng, _initializers(model, "project.bias")), np.zeros_like)


def scaled_weight(model: onnx.ModelProto, rng: Rng) -> None:
    """A weight tensor off by up to two per cent."""
    factor = 1 + rng.uniform(0.001, 0.02)
    _change(_pick(rng, _initializers(model, "expand.weight")), lambda value: (value * factor).astype(value.dtype))


def swapped_biases(model: onnx.ModelProto, rng: Rng) -> None:
    """Two attention heads with each other's bias: every tensor is still there."""
    first, second = _initializers(model, "attention.bias.0")[0], _initializers(model, "attention.bias.1")[0]
    one, other = numpy_helper.to_array(first), numpy_helper.to_array(second)
    first.CopyFrom(numpy_helper.from_array(other, first.name))
    second.CopyFrom(numpy_helper.from_array(one, second.name))


def rewired_biases(model: onnx.ModelProto, rng: Rng) -> None:
    """The same by the wires: constants and names are right, only the graph is wrong."""
    names = [_initializers(model, "attention.bias.0")[0].name, _initializers(model, "attention.bias.1")[0].name]
    for node in model.graph.node:
        for i, name in enumerate(node.input):
            if name in names:
                node.input[i] = names[1 - names.index(name)]


def flipped_kernel(model: onnx.ModelProto, rng: Rng) -> None:
    """A depthwise kernel left to right."""
    _change(_pick(rng, _initializers(model, "depthwise1.weight")), lambda value: value[..., ::-1])


def transposed_constant(model: onnx.ModelProto, rng: Rng) -> None:
    """A square matrix transposed, shape kept."""
    tensors = [t for t in _initializers(model, "project.weight") if t.dims[0] == t.dims[1]]
    _change(_pick(rng, tensors), lambda value: value.transpose(1, 0, 2, 3))


def _sees_large_values(node: onnx.NodeProto) -> bool:
    """Not the ReLUs of the gates and the attention: what seeded weights send there may stay below 6."""
    return "stem" in node.name or "merge" in node.name


def relu6(model: onnx.ModelProto, rng: Rng) -> None:
    """One of the ReLUs that sees large values clips at 6."""
    node = _pick(rng, [node for node in _nodes(model, "Relu") if _sees_large_values(node)])
    dtype = np.float16 if any(t.data_type == onnx.TensorProto.FLOAT16 for t in model.graph.initializer) else np.float32
    for name, bound in (("clip_low", 0), ("clip_high", 6)):
        model.graph.initializer.append(numpy_helper.from_array(np.array(bound, dtype), name))
    node.op_type = "Clip"
    node.input.extend(["clip_low", "clip_high"])


def softmax_axis(model: onnx.ModelProto, rng: Rng) -> None:
    """A softmax over the queries: the sizes are equal, so nothing complains."""
    node = _pick(rng, _nodes(model, "Softmax"))
    (attribute,) = [a for a in node.attribute if a.name == "axis"]
    attribute.i = -1


def stripped_padding(model: onnx.ModelProto, rng: Rng) -> None:
    """A depthwise convolution padded on the wrong side."""
    node = _pick(rng, [node for node in _nodes(model, "Conv") if "depthwise1" in node.name])
    (attribute,) = [a for a in node.attribute if a.name == "pads"]
    attribute.ints[:] = [2, 2, 0, 0]


def swapped_classes(model: onnx.ModelProto, rng: Rng) -> None:
    """Two neighbouring classes change places."""
    i = int(rng.integers(999))
    order = np.arange(1000)
    order[[i, i + 1]] = order[[i + 1, i]]
    for ending in ("head.linear.weight", "head.linear.bias"):
        _change(_initializers(model, ending)[0], lambda value: value[order])


def renamed_input(model: onnx.ModelProto, rng: Rng) -> None:
    """An app that feeds `image` finds nothing of that name; the numbers are right."""
    del rng
    for node in model.graph.node:
        node.input[:] = ["pixels" if name == "image" else name for name in node.input]
    model.graph.input[0].name = "pixels"


def half_ports(model: onnx.ModelProto, rng: Rng) -> None:
    """Inputs and outputs in fp16 though float32 was promised: the casts at the ends are lost."""
    del rng
    for port in (model.graph.input[0], model.graph.output[0]):
        port.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    for node in _nodes(model, "Cast"):
        node.op_type = "Identity"
        del node.attribute[:]


def one_class_less(model: onnx.ModelProto, rng: Rng) -> None:
    """The last class is gone."""
    del rng
    for ending in ("head.linear.weight", "head.linear.bias"):
        tensor = _initializers(model, ending)[0]
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor)[:-1].copy(), tensor.name))
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 999


def sham(model: onnx.ModelProto, rng: Rng) -> None:
    """The artifact that ignores its input."""
    del rng
    first = next(node for node in model.graph.node if "image" in node.input)
    zero = onnx.helper.make_node("Sub", ["image", "image"], ["nothing"], name="sham")
    first.input[list(first.input).index("image")] = "nothing"
    model.graph.node.insert(0, zero)


def permuted_channels(model: onnx.ModelProto, rng: Rng) -> None:
    """A Concat that joins the heads in another order."""
    node = _pick(rng, [node for node in _nodes(model, "Concat") if "mixer" in node.name and len(node.input) == 4])
    inputs = list(node.input)
    node.input[:] = [*inputs[1:], inputs[0]]


def dropped_residual(model: onnx.ModelProto, rng: Rng) -> None:
    """A residual connection that goes nowhere: the branch is all that is left."""
    node = _pick(rng, [node for node in _nodes(model, "Add") if "ffn" in node.name])
    node.op_type = "Identity"
    del node.input[0]


def subnormals_flushed(model: onnx.ModelProto, rng: Rng) -> None:
    """Small fp16 weights flushed to zero, as some converters do."""
    del rng
    changed = 0
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT16:
            value = numpy_helper.to_array(tensor)
            small = (np.abs(value) < 2.0**-12) & (value != 0)
            changed += int(small.sum())
            tensor.CopyFrom(numpy_helper.from_array(np.where(small, np.float16(0), value), tensor.name))
    assert changed


def _dtype(model: onnx.ModelProto) -> Any:
    half = any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in model.graph.initializer)
    return np.float16 if half else np.float32


def relu6_without_a_constant(model: onnx.ModelProto, rng: Rng) -> None:
    """The same by a Min with a bound that no audit of floating-point constants can see."""
    node = _pick(rng, [node for node in _nodes(model, "Relu") if _sees_large_values(node)])
    at, result = list(model.graph.node).index(node), node.output[0]
    node.output[0] = "unclipped"
    to = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(_dtype(model)))
    model.graph.initializer.append(numpy_helper.from_array(np.array(6), "six"))
    model.graph.node.insert(at + 1, onnx.helper.make_node("Cast", ["six"], ["bound"], to=to, name="cast"))
    model.graph.node.insert(at + 2, onnx.helper.make_node("Min", ["unclipped", "bound"], [result], name="clip"))


def leaky(model: onnx.ModelProto, rng: Rng) -> None:
    """A ReLU that lets a ten-thousandth or more of what is negative through."""
    node = _pick(rng, [node for node in _nodes(model, "Relu") if "expand" in node.name or "ffn" in node.name])
    node.op_type = "LeakyRelu"
    node.attribute.append(onnx.helper.make_attribute("alpha", float(10 ** rng.uniform(-3, -1))))


def hard_sigmoid(model: onnx.ModelProto, rng: Rng) -> None:
    """A squeeze-excite gate by its cheap approximation."""
    _pick(rng, _nodes(model, "Sigmoid")).op_type = "HardSigmoid"


def softmax_at_the_end(model: onnx.ModelProto, rng: Rng) -> None:
    """Probabilities in place of logits: the winners are the same."""
    del rng
    name = model.graph.output[0].name
    (last,) = [node for node in model.graph.node if name in node.output]
    last.output[0] = "before"
    model.graph.node.append(onnx.helper.make_node("Softmax", ["before"], [name], axis=1, name="probabilities"))


def scale_off_by_an_ulp(model: onnx.ModelProto, rng: Rng) -> None:
    """A whole tensor moved by one unit in its type's last place."""
    towards = _dtype(model)(np.inf)
    _change(_pick(rng, _initializers(model, "expand.weight")), lambda value: np.nextafter(value, towards))


def flushed_weight(model: onnx.ModelProto, rng: Rng) -> None:
    """The smallest weight of a tensor flushed to zero."""

    def flush(value: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        flat = value.reshape(-1)
        flat[np.where(flat == 0, np.inf, np.abs(flat)).argmin()] = 0
        return value

    _change(_pick(rng, _initializers(model, ".weight")), flush)


def nudged_logits(model: onnx.ModelProto, rng: Rng) -> None:
    """One class's bias off by 1e-6 to 1e-2 of its value: the head is the last that could be noticed."""

    def nudge(value: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        i = int(np.abs(value).argmax())
        value[i] = max(
            value[i] * (1 + 10 ** rng.uniform(-6, -2)), np.nextafter(value[i], value.dtype.type(np.inf)), key=abs
        )
        return value

    _change(_initializers(model, "head.linear.bias")[0], nudge)


def stray_constant(model: onnx.ModelProto, rng: Rng) -> None:
    """Something added to the logits that is far below any rounding."""
    name = model.graph.output[0].name
    (last,) = [node for node in model.graph.node if name in node.output]
    last.output[0] = "before"
    value = np.array(10 ** rng.uniform(-7, -6), np.float32)
    model.graph.initializer.append(numpy_helper.from_array(value, "stray"))
    model.graph.node.append(onnx.helper.make_node("Add", ["before", "stray"], [name], name="stray_add"))


def crossed_wires(model: onnx.ModelProto, rng: Rng) -> None:
    """Two convolutions of one shape fed with each other's bias: every constant is as it should be."""
    shape = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    convolutions = [node for node in _nodes(model, "Conv") if len(node.input) == 3]
    pairs = [
        (one, other)
        for i, one in enumerate(convolutions)
        for other in convolutions[:i]
        if shape[one.input[1]] == shape[other.input[1]]
    ]
    one, other = _pick(rng, pairs)
    one.input[2], other.input[2] = other.input[2], one.input[2]


@dataclass(frozen=True)
class Fault:
    """What is planted in which stage's file, and a gate that must be among those that see it."""

    plant: Plant
    target: str
    precision: str
    stage: str
    gate: Gate

    def __str__(self) -> str:
        return f"{self.plant.__name__}-{self.target}-{self.precision}-{self.stage}"


FAULTS = (
    Fault(renamed_input, "onnx", "fp32", "simplify", Gate.INTERFACE),
    Fault(half_ports, "onnx", "fp16", "precision", Gate.INTERFACE),
    Fault(one_class_less, "onnx", "fp32", "trace", Gate.INTERFACE),
    Fault(last_bit, "onnx", "fp32", "trace", Gate.CONSTANTS),
    Fault(zeroed_bias, "onnx", "fp32", "trace", Gate.PRECISION),
    Fault(scaled_weight, "onnx", "fp32", "trace", Gate.PRECISION),
    Fault(swapped_biases, "onnx", "fp32", "trace", Gate.CONSTANTS),
    Fault(rewired_biases, "onnx", "fp32", "trace", Gate.STRUCTURE),
    Fault(flipped_kernel, "onnx", "fp32", "trace", Gate.STRUCTURE),
    Fault(relu6, "onnx", "fp32", "trace", Gate.STRUCTURE),
    Fault(sham, "onnx", "fp32", "trace", Gate.PRECISION),
    Fault(softmax_axis, "onnx", "fp32", "simplify", Gate.STRUCTURE),
    Fault(stripped_padding, "onnx", "fp32", "simplify", Gate.STRUCTURE),
    Fault(transposed_constant, "onnx", "fp32", "simplify", Gate.CONSTANTS),
    Fault(permuted_channels, "onnx", "fp32", "simplify", Gate.STRUCTURE),
    Fault(dropped_residual, "onnx", "fp32", "simplify", Gate.PRECISION),
    Fault(swapped_classes, "onnx", "fp32", "simplify", Gate.STRUCTURE),
    Fault(last_bit, "onnx", "fp16", "precision", Gate.CONSTANTS),
    Fault(subnormals_flushed, "onnx", "fp16", "precision", Gate.CONSTANTS),
    Fault(rewired_biases, "onnx", "fp16", "precision", Gate.STRUCTURE),
    Fault(sham, "onnx", "fp16", "precision", Gate.PRECISION),
    Fault(relu6, "onnx", "fp16", "precision", Gate.STRUCTURE),
    Fault(relu6_without_a_constant, "onnx", "fp32", "trace", Gate.STRUCTURE),
    Fault(leaky, "onnx", "fp32", "trace", Gate.STRUCTURE),
    Fault(stray_constant, "onnx", "fp32", "trace", Gate.CONSTANTS),
    Fault(crossed_wires, "onnx", "fp32", "trace", Gate.STRUCTURE),
    Fault(hard_sigmoid, "onnx", "fp32", "simplify", Gate.STRUCTURE),
    Fault(softmax_at_the_end, "onnx", "fp32", "simplify", Gate.PRECISION),
    Fault(nudged_logits, "onnx", "fp32", "simplify", Gate.CONSTANTS),
    Fault(scale_off_by_an_ulp, "onnx", "fp16", "precision", Gate.CONSTANTS),
    Fault(flushed_weight, "onnx", "fp16", "precision", Gate.CONSTANTS),
    Fault(relu6_without_a_constant, "onnx", "fp16", "precision", Gate.STRUCTURE),
    Fault(crossed_wires, "onnx", "fp16", "precision", Gate.STRUCTURE),
)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_planted_in_onnx(fault: Fault, seed: int, run: Callable[..., Any]) -> None:
    rng = np.random.default_rng([seed, FAULTS.index(fault)])

    def plant(path: Path) -> None:
        model = onnx.load(path)
        fault.plant(model, rng)
        onnx.save(model, path)

    outcome = run(fault.target, fault.precision, fault.stage, plant)
    assert isinstance(outcome.final, Rejected)
    assert outcome.stages[-1].name == fault.stage
    assert outcome.code(Evidence.REFERENCE) is Exit.REJECTED
    assert fault.gate in {gate.gate for gate in outcome.final.report.gates if not gate.passed}
    assert outcome.folder is not None
    assert outcome.folder.name.endswith(".rejected")
    assert not (outcome.folder / "ship").exists()


def ir_last_bit(path: Path, rng: Rng) -> None:
    """The last bit of one weight: at random, of the constants that are weights, in the .bin where they lie."""
    layers = ET.parse(path).getroot().iter("layer")
    found = [layer.find("data") for layer in layers if layer.get("type") == "Const"]
    data = _pick(rng, [d for d in found if d is not None and d.get("element_type") in ("f32", "f16")])
    width = {"f32": 4, "f16": 2}[data.attrib["element_type"]]
    content = bytearray(path.with_suffix(".bin").read_bytes())
    content[int(data.attrib["offset"]) + width * int(rng.integers(int(data.attrib["size"]) // width))] ^= 1
    path.with_suffix(".bin").write_bytes(content)


def ir_pads(path: Path, rng: Rng) -> None:
    """A convolution's padding moved by a pixel in the graph."""
    del rng
    text = path.read_text()
    spoilt = text.replace('pads_begin="1, 1" pads_end="1, 1"', 'pads_begin="2, 2" pads_end="0, 0"', 1)
    assert spoilt != text
    path.write_text(spoilt)


def ir_softmax(path: Path, rng: Rng) -> None:
    """A softmax over the other axis."""
    del rng
    text = path.read_text()
    spoilt = text.replace('<data axis="1" />', '<data axis="2" />', 1)
    assert spoilt != text
    path.write_text(spoilt)


def silent_compression(path: Path, rng: Rng) -> None:
    """fp16 weights though float32 was asked for: what `save_model` does unless it is told not to."""
    del rng
    from runtimes.openvino_ir import import_openvino

    openvino = import_openvino()
    model = openvino.Core().read_model(path)
    other = path.with_name("compressed.xml")
    openvino.save_model(model, other)
    del model
    other.replace(path)
    other.with_suffix(".bin").replace(path.with_suffix(".bin"))


@pytest.mark.parametrize(
    ("plant", "precision"),
    [
        *((plant, precision) for plant in (ir_last_bit, ir_pads, ir_softmax) for precision in ("fp32", "fp16")),
        (silent_compression, "fp32"),
    ],
)
def test_planted_in_openvino(plant: Callable[[Path, Rng], None], precision: str, run: Callable[..., Any]) -> None:
    rng = np.random.default_rng(3)
    outcome = run("openvino", precision, "openvino", lambda path: plant(path, rng))
    assert isinstance(outcome.final, Rejected)
    assert outcome.stages[-1].name == "openvino"
    assert outcome.code(Evidence.BUILT) is Exit.REJECTED


def test_the_first_stage_with_the_fault_is_blamed(run: Callable[..., Any]) -> None:
    """A fault in the trace is not seen first in the IR that is made of it."""

    def plant(path: Path) -> None:
        model = onnx.load(path)
        zeroed_bias(model, np.random.default_rng(0))
        onnx.save(model, path)

    outcome = run("openvino", "fp32", "trace", plant)
    assert [stage.name for stage in outcome.stages] == ["trace"]


@pytest.mark.parametrize(("target", "precision"), [("onnx", "fp32"), ("onnx", "fp16"), ("openvino", "fp16")])
def test_the_healthy_chain_passes(target: str, precision: str, run: Callable[..., Any]) -> None:
    outcome = run(target, precision)
    assert outcome.code(Evidence.NATIVE) is Exit.OK


@pytest.mark.blames
def test_the_command_exits_with_1_and_names_the_layer(
    spoil: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def plant(path: Path) -> None:
        model = onnx.load(path)
        zeroed_bias(model, np.random.default_rng(0))
        onnx.save(model, path)

    spoil("onnx", "fp32", "simplify", plant)
    command = ["vit-export", "m0", "--image-size", str(SIZE), "-w", "seeded", "--no-time", "-o", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == Exit.REJECTED
    said = capsys.readouterr().err
    assert "constants" in said
    (folder,) = (tmp_path / "out").iterdir()
    assert folder.name == "m0-128-onnx-fp32-untrained.rejected"

    blamed = json.loads((folder / "manifest.json").read_text())["blame"]
    assert blamed["stage"] == "simplify"
    constant = blamed["suspects"][0]["constant"]
    assert constant.endswith("project.bias")
    assert blamed["suspects"][0]["cause"] == "is all zeros"
    assert f"1. {constant.removesuffix('.bias')}: constant '{constant}'" in said

    monkeypatch.setattr(sys, "argv", ["vit-export", "explain", str(folder), "--json"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == Exit.REJECTED
    explained = json.loads(capsys.readouterr().out)
    assert explained["blame"] == blamed
    assert not explained["gates"]["constants"]["passed"]
    assert len(explained["layers"]) > 400


def test_a_file_edited_after_its_verification_is_not_timed(run: Callable[..., Any]) -> None:
    outcome = run("onnx", "fp32")
    assert isinstance(outcome.final, VerifiedArtifact)
    shipped = outcome.folder / "ship" / outcome.final.artifact.path.name
    verified = VerifiedArtifact(replace(outcome.final.artifact, path=shipped), outcome.final.report)
    images = np.zeros((1, 3, SIZE, SIZE), np.float32)
    plan = TimingPlan(warm_up_s=0, measure_s=0, least_samples=1)
    assert len(benchmark(verified, OnnxRuntime(), plan, images).samples_ns) == 1
    model = onnx.load(shipped)
    last_bit(model, np.random.default_rng(0))
    onnx.save(model, shipped)
    with pytest.raises(ArtifactChanged):
        benchmark(verified, OnnxRuntime(), plan, images)
