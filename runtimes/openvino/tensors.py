"""The tensors of an int8 IR in float32 arithmetic: with its roundings spelled out, and without its quantizers."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from runtimes.openvino.fake_quantize import FakeQuantizer, fakes, quantizer_of, show, spelled_out, without_quantizers
from runtimes.openvino.package import import_openvino
from runtimes.openvino.program import port_name
from runtimes.openvino.runtime import compiled_as_shipped
from runtimes.reader import Quantizers, Values
from runtimes.runtime import Array
from runtimes.session import refused_by


def integer_tensors(path: Path) -> Callable[[Array], Values]:
    """Of the .xml at `path`: (B, 3, H, W) -> the integers of every quantized tensor, and the results, by name."""
    quantizers, results, compiled = _rewritten(path, spelled_out)

    def run(images: Array) -> Values:
        answer = compiled(images)
        integers = {each.tensor: each.integers(answer[i]) for i, each in enumerate(quantizers, len(results))}
        return {**integers, **{name: np.asarray(answer[i]) for i, name in enumerate(results)}}

    return run


def bare_quantizers(path: Path) -> Quantizers:
    """The quantizers of the .xml at `path`, and what they would quantize in the IR without them."""
    quantizers, results, compiled = _rewritten(path, without_quantizers)

    def run(images: Array) -> Values:
        answer = compiled(images)
        return {each.tensor: np.asarray(answer[index]) for index, each in enumerate(quantizers, len(results))}

    return Quantizers(quantizers, run)


def _rewritten(
    path: Path, rewrite: Callable[[Any], Mapping[str, Any]]
) -> tuple[tuple[FakeQuantizer, ...], tuple[str, ...], Callable[[Array], Any]]:
    """The quantizers, the results' names, and the IR after `rewrite` with an output for each quantizer."""
    with refused_by("OpenVINO", f"{path.name}, rewritten to float32", [RuntimeError]):
        model = import_openvino().Core().read_model(path)
        quantizers = tuple(map(quantizer_of, fakes(model)))
        outputs = rewrite(model)
        results = tuple(map(port_name, model.outputs))
        show(model, [outputs[each.tensor] for each in quantizers])
        return quantizers, results, compiled_as_shipped(model)
