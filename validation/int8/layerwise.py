"""Layer-wise comparison of an int8 artifact: each subgraph is run on reference inputs (`runtimes.reader.Subgraphs`).

End to end even two right evaluations of one Q/DQ graph part ways: a rounding tie tips an integer over, and the next
layers carry it on. On reference inputs a layer can only be off by its own doing. The reference is ONNX Runtime with its
optimizations off, on the typed ONNX file; of an IR it is the IR's own graph with each rounding spelled out, in float32.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtimes.artifact import Artifact
from runtimes.registry import reader_of
from runtimes.runtime import Array


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
    """Every tensor that the network and the ONNX file share, on (n, 3, H, W) images, a batch at a time.

    Of an ONNX file and of an IR, every integer tensor between two kernels and the result.

    Raises:
        BrokenArtifact: the network holds something unknown.
    """
    batch = artifact.batch or 1
    found: dict[str, LayerDeviation] = {}
    subgraphs = reader_of(artifact).subgraphs(artifact)
    parts = [images[start : start + batch] for start in range(0, len(images) - batch + 1, batch)]
    for part in parts:
        right = subgraphs.reference(part)
        for name, value in subgraphs.run(part, right).items():
            _see(found, name, value, right[name], 1 / len(parts))
    return LayerComparison(tuple(found.values()), subgraphs.other_kernels, subgraphs.products)


def _see(found: dict[str, LayerDeviation], name: str, value: NDArray[Any], wanted: NDArray[Any], weight: float) -> None:
    integer = wanted.dtype.kind != "f"
    seen = found.setdefault(name, LayerDeviation(name, integer))
    if value.shape != wanted.shape or value.dtype != wanted.dtype:
        seen.off = seen.worst = float("inf")
        return
    difference = np.abs(value.astype(np.float64) - wanted.astype(np.float64))
    if integer:
        seen.off += weight * float((difference > 1).mean())
        seen.worst = max(seen.worst, float(difference.max()))
        return
    scale = float(np.abs(wanted).max()) or 1.0
    worst = float(difference.max()) / scale
    seen.worst = max(seen.worst, float("inf") if np.isnan(worst) else worst)
