"""The tensors of an int8 IR in float32 arithmetic: with its roundings spelled out, and without its quantisers."""

from pathlib import Path

import numpy as np

from runtimes.base import Array
from runtimes.extremes import Tensors
from runtimes.openvino_ir import compiled_as_shipped, import_openvino
from runtimes.openvino_quantisers import fakes, quantiser_of, show, spelled_out, without_quantisers
from runtimes.session import refused_by


class OpenVinoTensors:
    """The integers of an int8 IR as it says them.

    Args:
        path: of the .xml.
        threads: of OpenVINO.
    """

    def __init__(self, path: Path, threads: int = 1) -> None:
        with refused_by("OpenVINO", f"{path.name} with its roundings spelled out", [RuntimeError]):
            model = import_openvino().Core().read_model(path)
            self._quantisers = tuple(map(quantiser_of, fakes(model)))
            rounded = spelled_out(model)
            self._result = model.outputs[0].get_any_name()
            show(model, [rounded[each.tensor] for each in self._quantisers])
            self._compiled = compiled_as_shipped(model, threads)

    def __call__(self, images: Array) -> Tensors:
        """(B, 3, S, S) -> every quantised tensor's integers and the result, by name."""
        answer = self._compiled(images)
        integers = {
            quantiser.tensor: quantiser.integers(np.asarray(answer[index]))
            for index, quantiser in enumerate(self._quantisers, start=1)
        }
        return {**integers, self._result: np.asarray(answer[0])}


class BareOpenVino:
    """An int8 IR without the quantisers between its operators, which shows what they would quantise.

    Args:
        path: of the .xml.
        threads: of OpenVINO.
    """

    def __init__(self, path: Path, threads: int = 1) -> None:
        with refused_by("OpenVINO", f"{path.name} without its quantisers", [RuntimeError]):
            model = import_openvino().Core().read_model(path)
            self.quantisers = tuple(map(quantiser_of, fakes(model)))
            bare = without_quantisers(model)
            show(model, [bare[each.tensor] for each in self.quantisers])
            self._compiled = compiled_as_shipped(model, threads)

    def __call__(self, images: Array) -> Tensors:
        """(B, 3, S, S) -> what each quantiser would round, by the name of its tensor."""
        answer = self._compiled(images)
        return {each.tensor: np.asarray(answer[index]) for index, each in enumerate(self.quantisers, start=1)}
