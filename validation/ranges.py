"""The ranges to which a Q/DQ file's activations were calibrated, beside what they reach on golden images."""

from collections.abc import Mapping

import numpy as np

from runtimes.artifact import Artifact, Dtype, Precision
from runtimes.base import Array
from runtimes.onnx_file import load_onnx
from runtimes.onnx_quantisers import Quantiser, activation_quantisers, without_quantisers
from runtimes.onnx_tensors import OnnxTensors
from runtimes.trt_network import typed_onnx
from validation.constants import digests
from validation.reference import Reference


def calibrated_ranges(artifact: Artifact, images: Array) -> Mapping[str, tuple[float, float]]:
    """Tensor -> (what its quantiser represents, what it reaches on the images in float32), as lengths.

    Of a symmetric quantiser these are largest magnitudes. Of one with a zero point they are the lengths of what the two
    ranges share and of what they span together, the larger one last where values are clipped.
    """
    model = load_onnx(artifact.path)
    quantisers = list(activation_quantisers(model))
    extremes = OnnxTensors(without_quantisers(model)).extremes(images, artifact.batch or 1)
    extremes[model.graph.input[0].name] = min(0.0, float(images.min())), max(0.0, float(images.max()))
    nowhere = (float("nan"), float("nan"))
    return {quantiser.tensor: _lengths(quantiser, extremes.get(quantiser.tensor, nowhere)) for quantiser in quantisers}


def _lengths(quantiser: Quantiser, reached: tuple[float, float]) -> tuple[float, float]:
    low, high = quantiser.range
    if not np.isfinite([low, high, *reached]).all():
        return float("nan"), float("nan")
    if quantiser.symmetric:
        return high, max(-reached[0], reached[1])
    shared = min(high, reached[1]) - max(low, reached[0])
    spanned = max(high, reached[1]) - min(low, reached[0])
    if reached[0] == reached[1]:  # constantly zero
        return spanned, 0.0
    if not shared > 0:
        return 0.0, spanned
    clipped = (reached[1] - reached[0]) > (high - low)
    return (shared, spanned) if clipped else (spanned, shared)


def with_calibration(reference: Reference, artifact: Artifact) -> Reference:
    """Of a quantised artifact the reference with the scales that calibration found, which are its own to say."""
    return reference.with_constants(scale_digests(artifact)) if artifact.precision.quantised else reference


def is_calibrated(name: str, precision: Precision) -> bool:
    """Of a quantised artifact's constants, what only calibration knows: scales, and zero points where it has any."""
    if name.endswith("_zero_point"):
        return precision.activations is Dtype.UINT8
    return precision.quantised and name.endswith("_scale")


def scale_digests(artifact: Artifact) -> Mapping[str, str]:
    """Name -> digest of every activation's scale and zero point: what later stages must still hold, bit for bit."""
    import onnx

    model = load_onnx(typed_onnx(artifact))
    quantisers = list(activation_quantisers(model))
    names = {each.scale_name for each in quantisers}
    if artifact.precision.activations is Dtype.UINT8:  # elsewhere a zero point is zero, or wrong
        names |= {each.zero_name for each in quantisers}
    held = [tensor for tensor in model.graph.initializer if tensor.name in names]
    return digests((tensor.name, np.asarray(onnx.numpy_helper.to_array(tensor))) for tensor in held)
