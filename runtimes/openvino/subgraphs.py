"""An int8 IR split into subgraphs at its quantizers, each with inputs and outputs of its own.

As `runtimes.onnx.subgraphs` splits a Q/DQ file. OpenVINO fuses across some quantizers (an attention is one kernel with
two of them inside), so the IR is only split where the whole model, compiled as it ships, keeps its integers: after the
last operation of a fused layer. `other_kernels` lists the products that still run in another kernel than in the whole.

Where the CPU's fast kernels multiply unsigned by signed integers only (VNNI without AMX), OpenVINO stores signed
tensors with 128 added, and subtracts it in the kernel. The subgraphs are fed in that form, to run in the same kernels.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtimes.openvino.fake_quantize import PRODUCTS, fakes, quantizer_of, readers_of
from runtimes.openvino.package import import_openvino
from runtimes.openvino.program import port_name
from runtimes.openvino.runtime import compiled_as_shipped, executed_layers, layers_as_shipped
from runtimes.session import refused_by

_FED = ".fed"
_OFFSET = 128
_SCALED = "/DequantizationMultiply"
"""OpenVINO's suffix for a product whose scale was moved after it."""


class OpenVinoSubgraphs:
    """The subgraphs of an int8 IR, in the kernels that it ships with.

    Args:
        path: of the .xml.
    """

    def __init__(self, path: Path) -> None:
        with refused_by("OpenVINO", f"{path.name}, split into subgraphs", [RuntimeError]):
            self._open(path)

    def _open(self, path: Path) -> None:
        model = import_openvino().Core().read_model(path)
        whole = layers_as_shipped(path)
        before = _kernels(whole)
        products = [op.get_friendly_name() for op in model.get_ops() if op.get_type_name() in PRODUCTS]
        self._image = model.inputs[0].get_any_name()
        self._results = tuple(map(port_name, model.outputs))
        self._offsets = _split(model, _inside(whole, model), before)
        self.tensors = tuple(self._offsets)
        self._compiled = compiled_as_shipped(model)
        after = _kernels(executed_layers(self._compiled))
        self.products = len(products)
        self.other_kernels = tuple(
            name for name in products if before.get(name) is None or before.get(name) != after.get(name)
        )

    def __call__(self, images: NDArray[np.float32], right: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Images and the right integers of every tensor -> each subgraph's result, by the name of its tensor."""
        feed = {self._image: images}
        for name, offset in self._offsets.items():
            feed[f"{name}{_FED}"] = (right[name] + np.int16(offset)).astype(np.uint8) if offset else right[name]
        with refused_by("OpenVINO", "the subgraphs of the IR", [RuntimeError]):
            answer = self._compiled(feed)
        found = {name: np.asarray(answer[index]) for index, name in enumerate(self._results)}
        for index, (name, offset) in enumerate(self._offsets.items(), len(self._results)):
            given = np.asarray(answer[index])
            found[name] = (given - np.int16(offset)).astype(np.int8) if offset else given
        return found


def _inside(layers: Sequence[Mapping[str, str]], model: Any) -> frozenset[str]:
    """Operations of the IR that OpenVINO fused into a layer, except the last of each layer.

    Operations that OpenVINO adds do not count: one that rounds again after the IR's last does so after the split.
    """
    own = {op.get_friendly_name() for op in model.get_ops()}
    members = ([name for name in map(_plain, _members(layer)) if name in own] for layer in layers)
    return frozenset(name for names in members for name in names[:-1])


def _kernels(layers: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """The kernel in which each operation ended up."""
    kernels = {name: layer["primitiveType"] for layer in layers for name in _members(layer)}
    return {**{_plain(name): kernel for name, kernel in kernels.items()}, **kernels}  # a product's own name before all


def _members(layer: Mapping[str, str]) -> list[str]:
    return layer["originalLayersNames"].split(",")


def _plain(name: str) -> str:
    return name.removesuffix(_SCALED)


def _split(model: Any, inside: frozenset[str], kernels: Mapping[str, str]) -> dict[str, int]:
    """Integer tensors become outputs, and their readers read inputs instead.

    Returns what is added to each tensor to store it, by name, in the order of the outputs.
    """
    openvino = import_openvino()
    from openvino import opset13 as opset

    inputs, outputs, offsets = [], [], dict[str, int]()
    for fake in fakes(model):
        if fake.get_friendly_name() in inside:
            continue
        quantizer, readers = quantizer_of(fake), list(fake.output(0).get_target_inputs())
        offset = _OFFSET if quantizer.symmetric and _unsigned(fake, kernels) else 0
        kind = openvino.Type(np.uint8 if offset else quantizer.dtype)
        fed = opset.parameter(fake.get_output_partial_shape(0), kind, f"{quantizer.tensor}{_FED}")
        fed.output(0).set_names({f"{quantizer.tensor}{_FED}"})
        units = opset.convert(fed, "f32")
        units = opset.subtract(units, opset.constant(np.float32(offset))) if offset else units
        back = opset.multiply(units, opset.constant(quantizer.scale))
        for reader in readers:
            reader.replace_source_output(back.output(0))
        least = np.float32(quantizer.least + offset)
        rounded = opset.fake_quantize(
            fake.input_value(0), quantizer.low, quantizer.high, least, least + np.float32(255), quantizer.levels
        )
        given = opset.convert(rounded, kind.get_type_name())
        given.set_friendly_name(fake.get_friendly_name())
        inputs.append(fed)
        outputs.append(opset.result(given))
        offsets[quantizer.tensor] = offset
    model.add_parameters(inputs)
    model.add_results(outputs)
    model.validate_nodes_and_infer_types()
    return offsets


def _unsigned(fake: Any, kernels: Mapping[str, str]) -> bool:
    """Products read it, as their first operand, in kernels for unsigned integers: the CPU plugin writes those I8."""
    return any(kernels.get(product, "").endswith("_I8") for product in readers_of(fake, PRODUCTS))
