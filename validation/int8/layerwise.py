"""Layer-wise comparison of a quantized network: each layer runs on reference inputs and is compared with the oracle.

End to end even two right evaluations of one Q/DQ graph part ways: a rounding tie tips an integer over, and the next
layers carry it on. On the oracle's own inputs a layer can only be off by its own doing. The oracle is ONNX Runtime
with its optimizations off, on the typed ONNX file; what is compared with it is a network that TensorRT parsed, or the
same file with ONNX Runtime's optimizations on, split into subgraphs at its quantizers. Of an IR the oracle is the IR's
own graph with each rounding spelled out, in float32; what is compared is the IR as it ships, split in the same way.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from math import isnan

import torch
from torch import Tensor

from runtimes.artifact import Artifact, Format
from runtimes.evaluator.evaluator import Arithmetic, Evaluator
from runtimes.onnx.graph import load_onnx
from runtimes.onnx.subgraphs import OnnxApart
from runtimes.onnx.tensors import OnnxTensors
from runtimes.openvino.subgraphs import OpenVinoApart
from runtimes.openvino.tensors import OpenVinoTensors
from runtimes.runtime import Array
from runtimes.tensorrt.evaluated import load_network, typed_onnx
from runtimes.tensorrt.operators import LAYERS
from runtimes.tensors import Tensors


@dataclass(slots=True)
class LayerDeviation:
    """One tensor of the network against the oracle's of that name, over all images.

    `off`: of an int8 tensor, the share of values more than one unit away. `worst`: its largest difference in units; of
    a floating-point tensor the largest difference over the oracle's largest magnitude.
    """

    tensor: str
    integer: bool
    off: float = 0.0
    worst: float = 0.0


@dataclass(frozen=True, slots=True)
class LayerComparison:
    """Every layer, and which of its `products` ran in another kernel than they do in the whole."""

    layers: tuple[LayerDeviation, ...]
    other_kernels: tuple[str, ...] = ()
    products: int = 0


def compare_layers(artifact: Artifact, images: Array) -> LayerComparison:
    """Every tensor that the network and the ONNX file share, on (n, 3, S, S) images, a batch at a time.

    Of an ONNX file and of an IR, every integer tensor between two kernels and the result.

    Raises:
        BrokenArtifact: the network holds something unknown.
    """
    batch = artifact.batch or 1
    found: dict[str, LayerDeviation] = {}
    comparison = _COMPARISONS.get(artifact.format, _network)(artifact, found)
    parts = [images[start : start + batch] for start in range(0, len(images) - batch + 1, batch)]
    for part in parts:
        comparison.add(part, 1 / len(parts))
    return LayerComparison(tuple(found.values()), comparison.other_kernels, comparison.products)


@dataclass(frozen=True, slots=True)
class _Comparison:
    """`add`: compare on a batch of images, which counts by its share of all images."""

    add: Callable[[Array, float], None]
    other_kernels: tuple[str, ...] = ()
    products: int = 0


def _network(artifact: Artifact, found: dict[str, LayerDeviation]) -> _Comparison:
    oracle = OnnxTensors(typed_onnx(artifact))
    program = load_network(artifact)
    evaluator = Evaluator(program, Arithmetic.DECLARED, language=LAYERS)
    (image,) = program.inputs

    def add(part: Array, weight: float) -> None:
        evaluator({image: torch.tensor(part)}, exchange=partial(_exchange, found, oracle(part), weight))

    return _Comparison(add)


def _onnx(artifact: Artifact, found: dict[str, LayerDeviation]) -> _Comparison:
    oracle = OnnxTensors(typed_onnx(artifact))
    model = load_onnx(artifact.path)
    image = model.graph.input[0].name
    apart = OnnxApart(model)

    def add(part: Array, weight: float) -> None:
        right = oracle(part)
        _see_all(found, apart({**right, image: part}), right, weight)

    return _Comparison(add)


def _openvino(artifact: Artifact, found: dict[str, LayerDeviation]) -> _Comparison:
    oracle, apart = OpenVinoTensors(artifact.path), OpenVinoApart(artifact.path)

    def add(part: Array, weight: float) -> None:
        right = oracle(part)
        _see_all(found, apart(part, right), right, weight)

    return _Comparison(add, apart.other_kernels, apart.products)


_COMPARISONS: Mapping[Format, Callable[[Artifact, dict[str, LayerDeviation]], _Comparison]] = {
    Format.ONNX: _onnx,
    Format.OPENVINO: _openvino,
}
"""Other formats: networks that TensorRT parsed, in its evaluator."""


def _see_all(found: dict[str, LayerDeviation], given: Tensors, right: Tensors, weight: float) -> None:
    for name, value in given.items():
        _see(found, name, torch.from_numpy(value), torch.from_numpy(right[name]), weight)


def _exchange(found: dict[str, LayerDeviation], right: Tensors, weight: float, name: str, value: Tensor) -> Tensor:
    """Compare what a layer gave, and go on with the oracle's."""
    if name not in right:
        return value
    wanted = torch.from_numpy(right[name])
    _see(found, name, value, wanted, weight)
    return wanted


def _see(found: dict[str, LayerDeviation], name: str, value: Tensor, wanted: Tensor, weight: float) -> None:
    integer = not wanted.is_floating_point()
    seen = found.setdefault(name, LayerDeviation(name, integer))
    if value.shape != wanted.shape or value.dtype != wanted.dtype:
        seen.off = seen.worst = float("inf")
        return
    difference = (value.double() - wanted.double()).abs()
    if integer:
        seen.off += weight * float((difference > 1).double().mean())
        seen.worst = max(seen.worst, float(difference.max()))
        return
    scale = float(wanted.abs().max()) or 1.0
    worst = float(difference.max()) / scale
    seen.worst = max(seen.worst, float("inf") if isnan(worst) else worst)
