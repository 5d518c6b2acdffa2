"""The ranges to which an int8 file's activations were calibrated, beside what they reach on golden images."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from runtimes.artifact import Artifact, Format
from runtimes.constants import read_constants
from runtimes.onnx.graph import load_onnx
from runtimes.onnx.qdq import activation_quantizers, without_quantizers
from runtimes.onnx.tensors import OnnxTensors
from runtimes.openvino.fake_quantize import RANGE
from runtimes.openvino.tensors import BareOpenVino
from runtimes.precision import Dtype, Precision
from runtimes.runtime import Array
from runtimes.tensorrt.evaluated import typed_onnx
from runtimes.tensors import extremes
from validation.reference.constants import digests
from validation.reference.reference import Reference


class Calibrated(Protocol):
    """A quantizer between two operators, in whichever format."""

    @property
    def tensor(self) -> str:
        """What it quantizes."""
        ...

    @property
    def symmetric(self) -> bool:
        """As far below zero as above."""
        ...

    @property
    def range(self) -> tuple[float, float]:
        """The lowest and the highest value that it can represent."""
        ...


def calibrated_ranges(artifact: Artifact, images: Array) -> Mapping[str, tuple[float, float]]:
    """Tensor -> (what its quantizer represents, what it reaches on the images in float32), as lengths.

    Of a symmetric quantizer these are largest magnitudes. Of one with a zero point they are the lengths of what the two
    ranges share and of what they span together, the larger one last where values are clipped.
    """
    quantizers, reached = (_openvino if artifact.format == Format.OPENVINO else _onnx)(artifact, images)
    nowhere = (float("nan"), float("nan"))
    return {quantizer.tensor: _lengths(quantizer, reached.get(quantizer.tensor, nowhere)) for quantizer in quantizers}


_Extremes = Mapping[str, tuple[float, float]]


def _onnx(artifact: Artifact, images: Array) -> tuple[Sequence[Calibrated], _Extremes]:
    model = load_onnx(artifact.path)
    quantizers = list(activation_quantizers(model))
    reached = OnnxTensors(without_quantizers(model)).extremes(images, artifact.batch or 1)
    reached[model.graph.input[0].name] = min(0.0, float(images.min())), max(0.0, float(images.max()))
    return quantizers, reached


def _openvino(artifact: Artifact, images: Array) -> tuple[Sequence[Calibrated], _Extremes]:
    bare = BareOpenVino(artifact.path)
    return bare.quantizers, extremes(bare, images, artifact.batch or 1)


def _lengths(quantizer: Calibrated, reached: tuple[float, float]) -> tuple[float, float]:
    low, high = quantizer.range
    if not np.isfinite([low, high, *reached]).all():
        return float("nan"), float("nan")
    if quantizer.symmetric:
        return high, max(-reached[0], reached[1])
    shared = min(high, reached[1]) - max(low, reached[0])
    spanned = max(high, reached[1]) - min(low, reached[0])
    if reached[0] == reached[1]:  # constantly zero
        return spanned, 0.0
    if not shared > 0:
        return 0.0, spanned
    clipped = (reached[1] - reached[0]) > (high - low)
    return (shared, spanned) if clipped else (spanned, shared)


def with_calibration(reference: Reference, artifact: Artifact, source: Artifact | None = None) -> Reference:
    """Of a quantized artifact the reference with what calibration found, which is its own to say, or its source's."""
    if not artifact.precision.quantized:
        return reference
    quantized = source if source is not None and source.precision.quantized else None
    return reference.with_constants(calibration_digests(artifact, quantized))


def is_calibrated(name: str, precision: Precision) -> bool:
    """Of a quantized artifact's constants, what only calibration knows: scales, and zero points where it has any."""
    if name.endswith("_zero_point"):
        return precision.activations is Dtype.UINT8
    return precision.quantized and name.endswith(("_scale", RANGE))


def calibration_digests(artifact: Artifact, source: Artifact | None = None) -> Mapping[str, str]:
    """Name -> digest of every activation's scale and zero point, or its limits: what must still be held, bit for bit.

    As found in `source`, where the artifact was made of a quantized one; else as it says itself.
    """
    if artifact.format != Format.OPENVINO:
        return digests(_scales(source or artifact))
    if source is None:
        return digests((name, value) for name, value in read_constants(artifact) if name.endswith(RANGE))
    quantizers = activation_quantizers(load_onnx(source.path))
    return digests((f"{each.tensor}{RANGE}", np.array([*each.limits, *each.limits], np.float32)) for each in quantizers)


def _scales(artifact: Artifact) -> Iterator[tuple[str, NDArray[Any]]]:
    import onnx

    model = load_onnx(typed_onnx(artifact))
    quantizers = list(activation_quantizers(model))
    names = {each.scale_name for each in quantizers}
    if artifact.precision.activations is Dtype.UINT8:  # elsewhere a zero point is zero, or wrong
        names |= {each.zero_name for each in quantizers}
    for tensor in model.graph.initializer:
        if tensor.name in names:
            yield tensor.name, np.asarray(onnx.numpy_helper.to_array(tensor))
