"""What int8 costs in each layer, measured: by how much the error falls when that layer alone is left in float32."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from export.progress import Step
from export.targets.onnx.float_layers import leave_in_float
from runtimes.artifact import Artifact
from runtimes.interface import INPUT
from runtimes.onnx.graph import load_onnx
from runtimes.onnx.qdq import layers
from runtimes.onnx.runtime import oracle_session
from runtimes.runtime import Array
from validation.metrics import relative_error, root_mean_square

IMAGES = 8
"""Of those that it was calibrated on, spread over all of them. A layer costs one session and so many runs."""


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """A layer, and the RMS of the file's relative error before and after that layer alone is left in float32."""

    layer: str
    before: float
    after: float

    @property
    def gain(self) -> float:
        """By how much the error falls; NaN of what is no number."""
        return self.before - self.after


def sensitivities(quantized: Artifact, source: Artifact, images: Array, step: Step) -> tuple[Sensitivity, ...]:
    """The file's layers, those that gain the most first: one evaluation for each, against `source`, on a few `images`.

    Those are left out whose float32 changes nothing: they read only what is rounded for others, or have no quantizers.
    By ONNX Runtime with its optimizations off, which ranks them as well and opens a file in a fraction of the time.

    Raises:
        StageFailed: ONNX Runtime refuses a file.
    """
    import onnx

    some = images[np.unique(np.linspace(0, len(images) - 1, IMAGES).astype(int))]
    model, floats = load_onnx(quantized.path), load_onnx(source.path)
    right = [each.astype(np.float64) for each in _outputs(floats, some, source.batch or 1)]

    def error(*in_float: str) -> float:
        tried = onnx.ModelProto()
        tried.CopyFrom(model)
        leave_in_float(tried, floats, in_float, moved=quantized.precision.rounded_once)
        found = _outputs(tried, some, quantized.batch or 1)
        return root_mean_square(np.stack([relative_error(a, b) for a, b in zip(found, right, strict=True)]))

    whole, names, found = error(), layers(model), []
    for number, name in enumerate(names, 1):
        step(f"measuring what int8 costs in layer {number} of {len(names)}")
        if (alone := error(name)) != whole:
            found.append(Sensitivity(name, whole, alone))
    # What is no number is no gain. Equal ones stay in the file's order.
    return tuple(sorted(found, key=lambda each: np.inf if np.isnan(each.gain) else -each.gain))


def _outputs(model: Any, images: Array, batch: int) -> list[Array]:
    """Each output, (n, values)."""
    session = oracle_session(model.SerializeToString())
    parts = [
        session.run(None, {INPUT: np.take(images, range(start, start + batch), axis=0, mode="wrap")})
        for start in range(0, len(images), batch)
    ]
    whole = (np.concatenate(each)[: len(images)] for each in zip(*parts, strict=True))
    return [each.reshape(len(images), -1) for each in whole]
