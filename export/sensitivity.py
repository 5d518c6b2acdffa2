"""What int8 costs in each layer, measured: by how much the error falls when that layer alone is left in float32."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from export.float_layers import with_float_layers
from export.step import Step
from runtimes.artifact import Artifact
from runtimes.base import Array, Mode, Runtime
from runtimes.onnx_file import load_onnx
from runtimes.onnx_quantisers import layers
from validation.metrics import relative_error, root_mean_square

IMAGES = 8
"""Of those that it was calibrated on, spread over all of them. A layer costs one session and so many runs."""


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """A layer and the RMS of the relative error that the file would have less without its int8."""

    layer: str
    gain: float


def sensitivities(
    quantised: Artifact, source: Artifact, images: Array, runtime: Runtime, scratch: Path, step: Step
) -> tuple[Sensitivity, ...]:
    """Every layer of the file, the costliest first. One evaluation for each: against `source`, on a few `images`.

    Raises:
        StageFailed: the runtime refuses a file.
    """
    some = images[np.unique(np.linspace(0, len(images) - 1, IMAGES).astype(int))]
    right = _logits(source, runtime, some).astype(np.float64)

    def error(artifact: Artifact) -> float:
        return root_mean_square(relative_error(_logits(artifact, runtime, some), right))

    whole = error(quantised)
    names = layers(load_onnx(quantised.path))

    def measured() -> Iterator[Sensitivity]:
        for number, name in enumerate(names, 1):
            step(f"measuring what int8 costs in layer {number} of {len(names)}")
            yield Sensitivity(name, whole - error(with_float_layers(quantised, source, [name], scratch)))

    # What is no number is no gain. Equal ones stay in the file's order.
    return tuple(sorted(measured(), key=lambda each: -each.gain if each.gain == each.gain else np.inf))


def _logits(artifact: Artifact, runtime: Runtime, images: Array) -> Array:
    batch = artifact.batch or 1
    with runtime.open(artifact, Mode.SHIPPED) as session:
        parts = [
            session(np.take(images, range(start, start + batch), axis=0, mode="wrap"))
            for start in range(0, len(images), batch)
        ]
    return np.concatenate(parts)[: len(images)]
