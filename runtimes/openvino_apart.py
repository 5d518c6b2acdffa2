"""An int8 IR taken apart: each stretch between two quantisers with inputs and outputs of its own.

As `runtimes.onnx_apart` does it with a Q/DQ file. OpenVINO fuses across some quantisers (an attention is one kernel
with two of them inside), so the IR is only cut where the whole, compiled as it ships, keeps its integers: behind the
last operation of a fused layer. `other_kernels` tells which products still run in another kernel than in the whole.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtimes.openvino_ir import compiled_as_shipped, executed_layers, import_openvino
from runtimes.openvino_quantisers import PRODUCTS, fakes, quantiser_of
from runtimes.session import refused_by

_FED = ".fed"


class OpenVinoApart:
    """The stretches of an int8 IR, in the kernels that it ships with.

    Args:
        path: of the .xml.
        threads: of OpenVINO.
    """

    def __init__(self, path: Path, threads: int = 1) -> None:
        with refused_by("OpenVINO", f"{path.name}, taken apart", [RuntimeError]):
            self._take(path, threads)

    def _take(self, path: Path, threads: int) -> None:
        core = import_openvino().Core()
        whole = compiled_as_shipped(core.read_model(path), threads)
        model = core.read_model(path)
        products = [op.get_friendly_name() for op in model.get_ops() if op.get_type_name() in PRODUCTS]
        self._image = model.inputs[0].get_any_name()
        self._result = model.outputs[0].get_any_name()
        self.tensors = _take_apart(model, _inside(whole))
        self._compiled = compiled_as_shipped(model, threads)
        before, after = _kernels(whole), _kernels(self._compiled)
        self.products = len(products)
        self.other_kernels = tuple(
            name for name in products if before.get(name) is None or before.get(name) != after.get(name)
        )

    def __call__(self, images: NDArray[np.float32], right: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Each stretch's result, by the name of its tensor, from the images and the right integers of every tensor."""
        feed = {self._image: images, **{f"{name}{_FED}": right[name] for name in self.tensors}}
        with refused_by("OpenVINO", "the IR, taken apart,", [RuntimeError]):
            answer = self._compiled(feed)
        names = (self._result, *self.tensors)
        return {name: np.asarray(answer[index]) for index, name in enumerate(names)}


def _inside(compiled: Any) -> frozenset[str]:
    """Operations that OpenVINO fused into a layer and that others of it follow."""
    members = (layer["originalLayersNames"].split(",") for layer in executed_layers(compiled))
    return frozenset(name for names in members for name in names[:-1])


def _kernels(compiled: Any) -> dict[str, str]:
    """The kernel in which each operation ended up."""
    return {
        name: layer["primitiveType"]
        for layer in executed_layers(compiled)
        for name in layer["originalLayersNames"].split(",")
    }


def _take_apart(model: Any, inside: frozenset[str]) -> tuple[str, ...]:
    """Integer tensors become outputs, and whoever reads them reads an input. Their names, in the outputs' order."""
    openvino = import_openvino()
    from openvino import opset13 as opset

    inputs, outputs, names = [], [], []
    for fake in fakes(model):
        if fake.get_friendly_name() in inside:
            continue
        quantiser, readers = quantiser_of(fake), list(fake.output(0).get_target_inputs())
        kind = openvino.Type(quantiser.dtype)
        fed = opset.parameter(fake.get_output_partial_shape(0), kind, f"{quantiser.tensor}{_FED}")
        fed.output(0).set_names({f"{quantiser.tensor}{_FED}"})
        back = opset.multiply(opset.convert(fed, "f32"), opset.constant(quantiser.scale))
        for reader in readers:
            reader.replace_source_output(back.output(0))
        least = np.float32(quantiser.least)
        units = opset.fake_quantize(
            fake.input_value(0), quantiser.low, quantiser.high, least, least + np.float32(255), quantiser.levels
        )
        given = opset.convert(units, kind.get_type_name())
        given.set_friendly_name(fake.get_friendly_name())
        inputs.append(fed)
        outputs.append(opset.result(given))
        names.append(quantiser.tensor)
    model.add_parameters(inputs)
    model.add_results(outputs)
    model.validate_nodes_and_infer_types()
    return tuple(names)
