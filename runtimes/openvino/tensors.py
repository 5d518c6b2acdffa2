"""The tensors of an int8 IR in float32 arithmetic: with its roundings spelled out, and without its quantizers."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from runtimes.openvino.fake_quantize import FakeQuantizer, fakes, quantizer_of, show, spelled_out, without_quantizers
from runtimes.openvino.runtime import compiled_as_shipped, import_openvino
from runtimes.reader import Quantizers, Values
from runtimes.runtime import Array
from runtimes.session import refused_by


def integer_tensors(path: Path) -> Callable[[Array], Values]:
    """Of the .xml at `path`: (B, 3, H, W) -> the integers of every quantized tensor, and the result, by name."""
    quantizers, result, compiled = _rewritten(path, spelled_out)

    def run(images: Array) -> Values:
        answer = compiled(images)
        integers = {each.tensor: each.integers(answer[index]) for index, each in enumerate(quantizers, 1)}
        return {**integers, result: np.asarray(answer[0])}

    return run


def bare_quantizers(path: Path) -> Quantizers:
    """The quantizers of the .xml at `path`, and what they would quantize in the IR without them."""
    quantizers, _, compiled = _rewritten(path, without_quantizers)

    def run(images: Array) -> Values:
        answer = compiled(images)
        return {each.tensor: np.asarray(answer[index]) for index, each in enumerate(quantizers, 1)}

    return Quantizers(quantizers, run)


def _rewritten(
    path: Path, rewrite: Callable[[Any], Mapping[str, Any]]
) -> tuple[tuple[FakeQuantizer, ...], str, Callable[[Array], Any]]:
    """The quantizers, the result's name, and the IR after `rewrite` with an output for each quantizer."""
    with refused_by("OpenVINO", f"{path.name}, rewritten to float32", [RuntimeError]):
        model = import_openvino().Core().read_model(path)
        quantizers = tuple(map(quantizer_of, fakes(model)))
        outputs = rewrite(model)
        result = model.outputs[0].get_any_name()
        show(model, [outputs[each.tensor] for each in quantizers])
        return quantizers, result, compiled_as_shipped(model)
