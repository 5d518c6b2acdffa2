"""The ranges to which a Q/DQ file's activations were calibrated, beside what they reach on golden images."""

from collections.abc import Mapping

from runtimes.artifact import Artifact
from runtimes.base import Array
from runtimes.onnx_file import load_onnx
from runtimes.onnx_quantisers import activation_quantisers, without_quantisers
from runtimes.onnx_tensors import OnnxTensors
from runtimes.trt_network import typed_onnx
from validation.constants import digests
from validation.reference import Reference

_LARGEST_INT8 = 127


def calibrated_ranges(artifact: Artifact, images: Array) -> Mapping[str, tuple[float, float]]:
    """Tensor -> (the largest magnitude that its quantiser represents, the largest on the images in float32)."""
    model = load_onnx(artifact.path)
    quantisers = list(activation_quantisers(model))
    peaks = OnnxTensors(without_quantisers(model)).peaks(images, artifact.batch or 1)
    largest = {**peaks, model.graph.input[0].name: float(abs(images).max())}
    return {
        quantiser.tensor: (_LARGEST_INT8 * quantiser.scale, largest.get(quantiser.tensor, float("nan")))
        for quantiser in quantisers
    }


def with_calibration(reference: Reference, artifact: Artifact) -> Reference:
    """Of a quantised artifact the reference with the scales that calibration found, which are its own to say."""
    return reference.with_constants(scale_digests(artifact)) if artifact.precision.quantised else reference


def scale_digests(artifact: Artifact) -> Mapping[str, str]:
    """Name -> digest of every activation's scale: what the stages after quantisation must still hold, bit for bit."""
    import numpy as np
    import onnx

    model = load_onnx(typed_onnx(artifact))
    names = {quantiser.scale_name for quantiser in activation_quantisers(model)}
    held = [tensor for tensor in model.graph.initializer if tensor.name in names]
    return digests((tensor.name, np.asarray(onnx.numpy_helper.to_array(tensor))) for tensor in held)
