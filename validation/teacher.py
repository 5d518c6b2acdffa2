"""A quantised network, layer by layer, each fed what the oracle computed: what the layer itself makes of it.

End to end even two right evaluations of one Q/DQ graph part ways: a rounding tie tips an integer over, and the next
layers carry it on. Fed the oracle's own inputs, a layer can only be off by its own doing. The oracle is ONNX Runtime
with its optimisations off, on the typed ONNX file; what is compared with it is a network that TensorRT parsed, or the
same file with ONNX Runtime's optimisations on, taken apart between its quantisers.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import isnan

import torch
from torch import Tensor

from runtimes.artifact import Artifact, Format
from runtimes.base import Array
from runtimes.mil_evaluator import Arithmetic, Evaluator
from runtimes.onnx_apart import OnnxApart
from runtimes.onnx_file import load_onnx
from runtimes.onnx_tensors import OnnxTensors, Tensors
from runtimes.trt_network import load_network, typed_onnx
from runtimes.trt_ops import LAYERS


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


def layer_deviations(artifact: Artifact, images: Array) -> tuple[LayerDeviation, ...]:
    """Every tensor that the network and the ONNX file share, on (n, 3, S, S) images, a batch at a time.

    Of an ONNX file, every integer tensor and the result.

    Raises:
        BrokenArtifact: the network holds what is not known here.
    """
    oracle = OnnxTensors(typed_onnx(artifact))
    batch = artifact.batch or 1
    found: dict[str, LayerDeviation] = {}
    parts = [images[start : start + batch] for start in range(0, len(images) - batch + 1, batch)]
    taught = _apart(artifact, found) if artifact.format is Format.ONNX else _network(artifact, found)
    for part in parts:
        taught(part, oracle(part), 1 / len(parts))
    return tuple(found.values())


_Taught = Callable[[Array, Tensors, float], None]


def _network(artifact: Artifact, found: dict[str, LayerDeviation]) -> _Taught:
    program = load_network(artifact)
    evaluator = Evaluator(program, Arithmetic.DECLARED, language=LAYERS)
    (image,) = program.inputs

    def taught(part: Array, right: Tensors, weight: float) -> None:
        evaluator({image: torch.tensor(part)}, exchange=partial(_exchange, found, right, weight))

    return taught


def _apart(artifact: Artifact, found: dict[str, LayerDeviation]) -> _Taught:
    model = load_onnx(artifact.path)
    image = model.graph.input[0].name
    apart = OnnxApart(model)

    def taught(part: Array, right: Tensors, weight: float) -> None:
        for name, value in apart({**right, image: part}).items():
            _see(found, name, torch.from_numpy(value), torch.from_numpy(right[name]), weight)

    return taught


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
