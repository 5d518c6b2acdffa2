"""Stage `quantize`: the ONNX file with explicit Q/DQ pairs, calibrated on images, by ONNX Runtime's own quantizer.

Weights are int8 with a scale for each output channel, biases stay float32 (a runtime that wants integers makes them
itself), ranges are percentiles and not largest values (docs/numerics.md). Beyond that TensorRT, ONNX Runtime and
OpenVINO want different files:

    INT8         int8 activations, and pairs around matrix products and dense convolutions alone. Depthwise
                 convolutions stay float32: their absorbed residual (a 1 on the center tap) leaves the other weights few
                 of the integers.
    UINT8        uint8 activations with a zero point, for which ONNX Runtime has its fast kernels on x86, and pairs
                 around everything, so that between two convolutions nothing goes back to float32.
    SYMMETRIC8   the same without zero points, int8 where a tensor has negative values, for OpenVINO: a zero point costs
                 a correction there. Sums are rounded once, behind what is added, and a softmax reads floats.
"""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from export.targets.int8_options import saturation
from export.targets.onnx.float_layers import leave_in_float
from export.targets.onnx.outputs import held_apart, unrounded
from export.targets.onnx.qdq_pairs import behind_each_relu_alone, rounded_once, without_pairs, without_zero_points
from runtimes.artifact import Artifact
from runtimes.host.machine import versions
from runtimes.interface import INPUT
from runtimes.onnx.graph import write_onnx
from runtimes.onnx.qdq import DENSE, is_depthwise
from runtimes.precision import Dtype, Precision
from runtimes.runtime import Array

_DENSE = list(DENSE)
_PERCENTILE = 99.999
"""Measured, docs/numerics.md."""

_OVERRIDES = "TensorQuantOverrides"


def quantize(source: Artifact, out: Path, images: Array, precision: Precision, ranges: Path | None = None) -> Artifact:
    """Calibrate on (n, 3, H, W) normalized float32 `images` and write the Q/DQ file for this precision.

    The layers that it names as `float_layers` stay in float32 (`float_layers.py`); INT7 weights are int8 in a reduced
    range. `ranges`: a folder for what calibration finds, where another form of the same source finds it again.
    """
    import logging

    import onnx
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._batches = _batches(images, source.batch or 1)

        def get_next(self) -> dict[str, Array] | None:
            return next(self._batches, None)

    activations, given = precision.activations, onnx.load(source.path)
    options = _options(given, precision)
    # The logits are left out of the quantizer's reach by their operator; maps are read by the next stage as well.
    apart = () if source.model.head.gives_logits else held_apart(given, every=True)
    advice = logging.getLogger()  # ONNX Runtime advises on standard error to simplify first: that has been done
    level = advice.level
    advice.setLevel(logging.ERROR)
    try:
        quantize_static(
            given if apart else source.path,
            out,
            Reader(),
            quant_format=QuantFormat.QDQ,
            calibrate_method=CalibrationMethod.Percentile,
            per_channel=True,
            calibration_cache_path=None if ranges is None else ranges / _ranges_of(source, images, options),
            **options,
        )
    finally:
        advice.setLevel(level)
    model = onnx.load(out)
    if apart:
        unrounded(model, apart)
    if activations is Dtype.UINT8:
        without_pairs(model, behind_each_relu_alone)
    elif activations is Dtype.SYMMETRIC8:
        without_pairs(model, rounded_once)
        without_zero_points(model)
    floats = onnx.load(source.path)
    leave_in_float(model, floats, precision.float_layers, moved=precision.rounded_once)
    _tidy(model, floats)
    onnx.checker.check_model(model, full_check=True)
    write_onnx(model, out)
    depthwise = "" if precision.quantized_depthwise else "; depthwise convolutions stay float32"
    notes = [f"calibrated on {len(images)} images{depthwise}"]
    if activations is Dtype.UINT8 and precision.weights is Dtype.INT8 and (note := saturation()) is not None:
        notes.append(note)
    return source.becomes(
        out, "quantize", precision=precision, tools=versions("onnxruntime", "onnx"), notes=tuple(notes)
    )


def _ranges_of(source: Artifact, images: Array, options: Mapping[str, Any]) -> str:
    """A file's name that says all that calibration depends on: INT8 watches other tensors, and takes another share."""
    watched = (options.get("op_types_to_quantize"), options["extra_options"]["CalibPercentile"])
    found_on = f"{source.sha256} {watched} {images.shape}".encode() + images.tobytes()
    return f"{hashlib.sha256(found_on).hexdigest()}.json"


def _options(model: Any, precision: Precision) -> Mapping[str, Any]:
    match precision.activations:
        case Dtype.INT8:
            return _symmetric(model)
        case Dtype.SYMMETRIC8:
            return {**_unsigned(), "nodes_to_exclude": _scores(model)}
    options = _unsigned()
    if precision.weights is Dtype.INT7:
        # For what is multiplied: what is added to an activation keeps its 8 bits.
        added = {name: [{"reduce_range": False}] for name in _added(model)}
        return {**options, "reduce_range": True, "extra_options": {**options["extra_options"], _OVERRIDES: added}}
    return options


def _symmetric(model: Any) -> Mapping[str, Any]:
    from onnxruntime.quantization import QuantType

    return {
        "nodes_to_exclude": _depthwise(model),
        "op_types_to_quantize": _DENSE,
        "activation_type": QuantType.QInt8,
        "weight_type": QuantType.QInt8,
        "extra_options": {
            "ActivationSymmetric": True,
            "WeightSymmetric": True,
            "QuantizeBias": False,
            "CalibPercentile": _PERCENTILE,
            "OpTypesToExcludeOutputQuantization": _DENSE,
        },
    }


def _unsigned() -> Mapping[str, Any]:
    from onnxruntime.quantization import QuantType

    return {
        "activation_type": QuantType.QUInt8,
        "weight_type": QuantType.QInt8,
        "extra_options": {
            "ActivationSymmetric": False,
            "WeightSymmetric": True,
            "QuantizeBias": False,
            "CalibPercentile": _PERCENTILE,
            # Or the file would not say that there is a ReLU: a range from zero up would be all that is left of it.
            "QDQKeepRemovableActivations": True,
            "OpTypesToExcludeOutputQuantization": ["Gemm"],  # the logits: nothing is won there by rounding them
        },
    }


def _added(model: Any) -> list[str]:
    """Constants that are quantized like activations: the attention biases."""
    held = {tensor.name for tensor in model.graph.initializer}
    return [name for node in model.graph.node if node.op_type == "Add" for name in node.input if name in held]


def _scores(model: Any) -> list[str]:
    """Softmaxes and what is added before them: attention biases stay float32."""
    softmaxes = [node for node in model.graph.node if node.op_type == "Softmax"]
    read = {node.input[0] for node in softmaxes}
    added = [node for node in model.graph.node if node.op_type == "Add" and node.output[0] in read]
    return [node.name for node in (*softmaxes, *added)]


def _depthwise(model: Any) -> list[str]:
    return [node.name for node in model.graph.node if node.op_type == "Conv" and is_depthwise(node)]


def _batches(images: Array, batch: int) -> Iterator[dict[str, Array]]:
    import numpy as np

    for start in range(0, len(images), batch):
        yield {INPUT: np.take(images, range(start, start + batch), axis=0, mode="wrap")}


def _tidy(model: Any, source: Any) -> None:
    """The quantizer names itself as the producer and leaves its own notes."""
    model.producer_name, model.producer_version = source.producer_name, source.producer_version
    model.ir_version = source.ir_version
    model.doc_string = ""
    del model.metadata_props[:]
    for node in model.graph.node:
        node.doc_string = ""
