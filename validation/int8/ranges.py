"""The ranges to which an int8 file's activations were calibrated, against what they reach on golden images."""

from collections.abc import Mapping

import numpy as np

from efficientvit.digests import digests
from runtimes.artifact import Artifact
from runtimes.precision import Dtype, Precision
from runtimes.reader import RANGE, Quantizer, extremes
from runtimes.registry import reader_of
from runtimes.runtime import Array
from validation.reference.reference import Reference


def calibrated_ranges(artifact: Artifact, images: Array) -> Mapping[str, tuple[float, float]]:
    """Tensor -> (what its quantizer represents, what it reaches on the images in float32), as lengths.

    Of a symmetric quantizer these are largest magnitudes. Of one with a zero point they are the lengths of what the two
    ranges share and of what they span together, the larger one last where values are clipped.
    """
    int8 = reader_of(artifact).quantizers(artifact)
    reached = extremes(int8.run, images, artifact.batch or 1)
    nowhere = (float("nan"), float("nan"))
    return {each.tensor: _lengths(each, reached.get(each.tensor, nowhere)) for each in int8.quantizers}


def _lengths(quantizer: Quantizer, reached: tuple[float, float]) -> tuple[float, float]:
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
    return reference.with_constants(calibration_digests(artifact, quantized(source)))


def quantized(source: Artifact | None) -> Artifact | None:
    """The source, where it can say what calibration found."""
    return source if source is not None and source.precision.quantized else None


def is_calibrated(name: str, precision: Precision) -> bool:
    """Of a quantized artifact's constants, what only calibration knows: scales, and zero points where it has any."""
    if name.endswith("_zero_point"):
        return precision.activations is Dtype.UINT8
    return precision.quantized and name.endswith(("_scale", RANGE))


def calibration_digests(artifact: Artifact, source: Artifact | None = None) -> Mapping[str, str]:
    """Name -> digest of every activation's scale and zero point, or its limits: what must still be held, bit for bit.

    As found in `source`, where the artifact was made of a quantized one; else as it says itself.
    """
    return digests(reader_of(artifact).calibration(artifact, source))
