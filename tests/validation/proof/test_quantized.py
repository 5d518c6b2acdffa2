"""A program with quantizers: proven where each stands where it is meant to and is its tensor's, else blamed by name."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from efficientvit.digests import digests
from efficientvit.size import square
from runtimes.evaluator.program import Constant, Operation, Program, TensorType, Value
from runtimes.precision import Dtype, Precision
from runtimes.tensorrt.operators import LAYERS
from validation.proof.identity import quantized_equal
from validation.proof.outcome import Outcome, Proof
from validation.proof.subject import Subject

SIZE = 4
RANDOM = np.random.default_rng(0)
WEIGHTS = {
    "first": RANDOM.normal(size=(4, 3, 1, 1)).astype(np.float32),
    "second": RANDOM.normal(size=(3, 4, 1, 1)).astype(np.float32),
}
SCALES: Mapping[str, Any] = {"image_scale": np.array(0.5, np.float32), "relu_scale": np.array(0.25, np.float32)}
PRECISION = Precision(Dtype.INT8, Dtype.INT8, Dtype.INT8)
FLOAT = TensorType("fp32", (1, 3, SIZE, SIZE))


class Form(nn.Module):
    """x + second(relu(first(x)))."""

    def __init__(self) -> None:
        super().__init__()
        for name, value in WEIGHTS.items():
            conv = nn.Conv2d(value.shape[1], value.shape[0], 1, bias=False, dtype=torch.float64)
            conv.weight.data = torch.from_numpy(value.astype(np.float64))
            self.add_module(name, conv)

    def forward(self, x: Tensor) -> Tensor:
        """Shape kept."""
        first, second = self.children()
        y: Tensor = x + second(first(x).relu())
        return y


class Written:
    """A program as it is written down, operation by operation."""

    def __init__(self) -> None:
        self.operations: dict[str, Operation] = {}
        self.constants: dict[str, Value] = {**WEIGHTS, **SCALES}

    def add(self, name: str, kind: str, reads: Mapping[str, Any], **attributes: Value) -> None:
        """Another operation; its attributes are constants."""
        names = {key: f"{name}:{key}" for key in attributes}
        self.constants |= {names[key]: value for key, value in attributes.items()}
        self.operations[name] = Operation(kind, {**reads, **names}, ((name, None),))

    def pair(self, tensor: str, scale: str) -> str:
        """A quantizer and its dequantizer; gives the name of what comes of them."""
        self.add(f"{tensor} quantized", "quantize", {"x": tensor, "scale": scale}, axis=0)
        self.add(f"{tensor} back", "dequantize", {"x": f"{tensor} quantized", "scale": scale}, axis=0)
        return f"{tensor} back"

    def conv(self, name: str, read: str) -> None:
        """1 x 1."""
        none = [0, 0]
        self.add(f"{name} out", "convolution", {"x": read, "kernel": name},
                 stride=[1, 1], before=none, after=none, dilation=[1, 1], groups=1)  # fmt: skip

    def reads(self, name: str, **given: str) -> None:
        """Let an operation read something else."""
        operation = self.operations[name]
        self.operations[name] = replace(operation, inputs={**operation.inputs, **given})

    @property
    def program(self) -> Program:
        """All of it."""
        constants = {
            name: Constant(value, TensorType("fp32" if isinstance(value, np.ndarray) else "attribute", np.shape(value)))
            for name, value in self.constants.items()
        }
        return Program("", {"image": FLOAT}, ("sum",), tuple(self.operations.values()), constants)


def written() -> Written:
    it = Written()
    image = it.pair("image", "image_scale")
    it.conv("first", image)
    it.add("relu", "activation", {"x": "first out"}, function="RELU", alpha=0.0, beta=0.0)
    it.conv("second", it.pair("relu", "relu_scale"))
    it.add("sum", "elementwise", {"x": image, "y": "second out"}, op="SUM")
    return it


def proof(it: Written, precision: Precision = PRECISION) -> Proof:
    subject = Subject(it.program, LAYERS, it.program.outputs)
    return quantized_equal(subject, Form().eval(), precision, digests(SCALES.items()), batch=1, size=square(SIZE))


def test_as_it_is_meant_to_be() -> None:
    found = proof(written())
    assert found.outcome is Outcome.PROVEN
    assert "2 quantizers" in found.detail


def one_lost(it: Written) -> None:
    it.reads("second out", x="relu")


def lost_beside_another_reader(it: Written) -> None:
    it.reads("sum", x="image")


def one_too_many(it: Written) -> None:
    last = it.operations.pop("sum")
    it.operations["sum"] = replace(last, inputs={**last.inputs, "y": it.pair("second out", "relu_scale")})


def another_tensors_scale(it: Written) -> None:
    for name in ("relu quantized", "relu back"):
        it.reads(name, scale="image_scale")


def exchanged_values(it: Written) -> None:
    it.constants["image_scale"], it.constants["relu_scale"] = SCALES["relu_scale"], SCALES["image_scale"]


def back_by_another(it: Written) -> None:
    it.reads("relu back", scale="image_scale")


def other_weight(it: Written) -> None:
    it.constants["second"] = np.nextafter(WEIGHTS["second"], np.float32(9))


@pytest.mark.parametrize(("change", "blamed"), [
    (one_lost, "'second' (conv2d) reads a tensor that is not quantized"),
    (lost_beside_another_reader, "'sum'"),
    (one_too_many, "second out quantized"),
    (another_tensors_scale, "quantizer 'relu quantized': 'image_scale' is another tensor's"),
    (exchanged_values, "quantizer 'image quantized': 'image_scale' is not what calibration found"),
    (back_by_another, "'relu back' of image_scale"),
    (other_weight, "'second out' of second"),
], ids=lambda value: getattr(value, "__name__", ""))  # fmt: skip
def test_what_is_wrong_is_named(change: Callable[[Written], None], blamed: str) -> None:
    it = written()
    change(it)
    found = proof(it)
    assert found.outcome is Outcome.DIFFERENT
    assert blamed in found.detail


def test_a_layer_in_float32_reads_floats() -> None:
    it, precision = written(), replace(PRECISION, float_layers=("second/Conv",))
    assert proof(it, precision).outcome is Outcome.DIFFERENT
    it.reads("second out", x="relu")
    it.reads("sum", x="image")
    for name in ("relu quantized", "relu back"):
        del it.operations[name]
    assert proof(it, precision).outcome is Outcome.PROVEN


def test_integers_are_the_precisions() -> None:
    found = proof(written(), replace(PRECISION, activations=Dtype.UINT8))
    assert found.outcome is Outcome.DIFFERENT
    assert "integers from -128 to 127" in found.detail
