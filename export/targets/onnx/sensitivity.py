"""What int8 costs in each layer, measured: by how much the error falls when that layer alone is left in float32."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from export.targets.onnx.float_layers import unrounded
from export.workers.progress import Step
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
    some = images[np.unique(np.linspace(0, len(images) - 1, IMAGES).astype(int))]
    model, floats = load_onnx(quantized.path), load_onnx(source.path)
    right = [each.astype(np.float64) for each in _outputs(floats, some, source.batch or 1)]
    names, readings = layers(model), list(unrounded(model, floats, moved=quantized.precision.rounded_once))

    def error(layer: str = "") -> float:
        with _in_float(model, floats, [each for each in readings if each[0] == layer]):
            found = _outputs(model, some, quantized.batch or 1)
        return root_mean_square(np.stack([relative_error(a, b) for a, b in zip(found, right, strict=True)]))

    whole, found = error(), []
    read = {layer for layer, *_ in readings}
    for number, name in enumerate(names, 1):
        step(f"measuring what int8 costs in layer {number} of {len(names)}")
        if name in read and (alone := error(name)) != whole:
            found.append(Sensitivity(name, whole, alone))
    # What is no number is no gain. Equal ones stay in the file's order.
    return tuple(sorted(found, key=lambda each: np.inf if np.isnan(each.gain) else -each.gain))


@contextmanager
def _in_float(model: Any, floats: Any, readings: Sequence[tuple[str, Any, int, str]]) -> Iterator[None]:
    """Within, those `readings` of an int8 onnx.ModelProto are unrounded: changed in place, and back.

    What nothing reads then stays in it: `leave_in_float` takes a fifth of the time for that alone.
    """
    weights = {tensor.name: tensor for tensor in floats.graph.initializer}
    held = {tensor.name for tensor in model.graph.initializer}
    before = [node.input[index] for _, node, index, _ in readings]
    own = dict.fromkeys(name for *_, name in readings if name in weights and name not in held)
    model.graph.initializer.extend(weights[name] for name in own)
    for _, node, index, name in readings:
        node.input[index] = name
    try:
        yield
    finally:
        for (_, node, index, _), name in zip(readings, before, strict=True):
            node.input[index] = name
        del model.graph.initializer[len(held) :]


def _outputs(model: Any, images: Array, batch: int) -> list[Array]:
    """Each output, (n, values)."""
    session = oracle_session(model.SerializeToString())
    parts = [
        session.run(None, {INPUT: np.take(images, range(start, start + batch), axis=0, mode="wrap")})
        for start in range(0, len(images), batch)
    ]
    whole = (np.concatenate(each)[: len(images)] for each in zip(*parts, strict=True))
    return [each.reshape(len(images), -1) for each in whole]
