"""The tensors of an int8 IR in float32 arithmetic: with its roundings spelled out, and without its quantizers."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from runtimes.openvino.fake_quantize import fakes, quantizer_of, show, spelled_out, without_quantizers
from runtimes.openvino.runtime import compiled_as_shipped, import_openvino
from runtimes.reader import Values
from runtimes.runtime import Array
from runtimes.session import refused_by


class _Rewritten:
    """An int8 IR, `rewrite` applied, that shows what that says each quantized tensor comes from."""

    def __init__(self, path: Path, rewrite: Callable[[Any], Mapping[str, Any]], threads: int) -> None:
        with refused_by("OpenVINO", f"{path.name}, rewritten to be looked at", [RuntimeError]):
            model = import_openvino().Core().read_model(path)
            self.quantizers = tuple(map(quantizer_of, fakes(model)))
            outputs = rewrite(model)
            self.result = model.outputs[0].get_any_name()
            show(model, [outputs[each.tensor] for each in self.quantizers])
            self._compiled = compiled_as_shipped(model, threads)

    def __call__(self, images: Array) -> tuple[Array, list[Array]]:
        """(B, 3, S, S) -> the result, and a tensor for each quantizer."""
        answer = self._compiled(images)
        return np.asarray(answer[0]), [np.asarray(answer[index]) for index in range(1, len(self.quantizers) + 1)]


class OpenVinoTensors:
    """The integers of an int8 IR as it says them.

    Args:
        path: of the .xml.
        threads: of OpenVINO.
    """

    def __init__(self, path: Path, threads: int = 1) -> None:
        self._model = _Rewritten(path, spelled_out, threads)

    def __call__(self, images: Array) -> Values:
        """(B, 3, S, S) -> every quantized tensor's integers and the result, by name."""
        result, shown = self._model(images)
        pairs = zip(self._model.quantizers, shown, strict=True)
        return {**{each.tensor: each.integers(value) for each, value in pairs}, self._model.result: result}


class BareOpenVino:
    """An int8 IR without the quantizers between its operators, which shows what they would quantize.

    Args:
        path: of the .xml.
        threads: of OpenVINO.
    """

    def __init__(self, path: Path, threads: int = 1) -> None:
        self._model = _Rewritten(path, without_quantizers, threads)
        self.quantizers = self._model.quantizers

    def __call__(self, images: Array) -> Values:
        """(B, 3, S, S) -> what each quantizer would round, by the name of its tensor."""
        _, shown = self._model(images)
        return {each.tensor: value for each, value in zip(self.quantizers, shown, strict=True)}
