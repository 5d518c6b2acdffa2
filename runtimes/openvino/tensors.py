"""The tensors of an int8 IR in float32 arithmetic: with its roundings spelled out, and without its quantisers."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from runtimes.openvino.fake_quantize import fakes, quantiser_of, show, spelled_out, without_quantisers
from runtimes.openvino.runtime import compiled_as_shipped, import_openvino
from runtimes.runtime import Array
from runtimes.session import refused_by
from runtimes.tensors import Tensors


class _Rewritten:
    """An int8 IR, `rewrite` applied, that shows what that says each quantised tensor comes from."""

    def __init__(self, path: Path, rewrite: Callable[[Any], Mapping[str, Any]], threads: int) -> None:
        with refused_by("OpenVINO", f"{path.name}, rewritten to be looked at", [RuntimeError]):
            model = import_openvino().Core().read_model(path)
            self.quantisers = tuple(map(quantiser_of, fakes(model)))
            outputs = rewrite(model)
            self.result = model.outputs[0].get_any_name()
            show(model, [outputs[each.tensor] for each in self.quantisers])
            self._compiled = compiled_as_shipped(model, threads)

    def __call__(self, images: Array) -> tuple[Array, list[Array]]:
        """(B, 3, S, S) -> the result, and a tensor for each quantiser."""
        answer = self._compiled(images)
        return np.asarray(answer[0]), [np.asarray(answer[index]) for index in range(1, len(self.quantisers) + 1)]


class OpenVinoTensors:
    """The integers of an int8 IR as it says them.

    Args:
        path: of the .xml.
        threads: of OpenVINO.
    """

    def __init__(self, path: Path, threads: int = 1) -> None:
        self._model = _Rewritten(path, spelled_out, threads)

    def __call__(self, images: Array) -> Tensors:
        """(B, 3, S, S) -> every quantised tensor's integers and the result, by name."""
        result, shown = self._model(images)
        pairs = zip(self._model.quantisers, shown, strict=True)
        return {**{each.tensor: each.integers(value) for each, value in pairs}, self._model.result: result}


class BareOpenVino:
    """An int8 IR without the quantisers between its operators, which shows what they would quantise.

    Args:
        path: of the .xml.
        threads: of OpenVINO.
    """

    def __init__(self, path: Path, threads: int = 1) -> None:
        self._model = _Rewritten(path, without_quantisers, threads)
        self.quantisers = self._model.quantisers

    def __call__(self, images: Array) -> Tensors:
        """(B, 3, S, S) -> what each quantiser would round, by the name of its tensor."""
        _, shown = self._model(images)
        return {each.tensor: value for each, value in zip(self.quantisers, shown, strict=True)}
