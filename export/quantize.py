"""Stage `quantize`: the ONNX file with explicit Q/DQ pairs, symmetric int8 as TensorRT takes it.

Weights per output channel, activations per tensor, calibrated on images; what is between the quantised operators stays
float32, and so do the biases. Done by ONNX Runtime's own quantiser. Two choices were measured on seeded weights
(docs/numerics.md): ranges by percentile and not by the largest value, and depthwise convolutions left alone, whose
absorbed residual (a 1 on the centre tap) leaves the other weights few of the integers.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from export.trace import write_onnx
from runtimes.artifact import Artifact, Dtype, Format, Precision
from runtimes.base import Array
from runtimes.host import versions
from runtimes.ports import INPUT

_QUANTISED = ["Conv", "Gemm", "MatMul"]
_PERCENTILE = 99.99


def quantize(source: Artifact, out: Path, images: Array) -> Artifact:
    """Calibrate on (n, 3, S, S) normalised float32 `images` and write the Q/DQ file."""
    import logging

    import onnx
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._batches = _batches(images, source.batch or 1)

        def get_next(self) -> dict[str, Array] | None:
            return next(self._batches, None)

    advice = logging.getLogger()  # ONNX Runtime advises on standard error to simplify first: that has been done
    level = advice.level
    advice.setLevel(logging.ERROR)
    try:
        quantize_static(
            source.path,
            out,
            Reader(),
            quant_format=QuantFormat.QDQ,
            calibrate_method=CalibrationMethod.Percentile,
            nodes_to_exclude=_depthwise(onnx.load(source.path)),
            op_types_to_quantize=_QUANTISED,
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            extra_options={
                "ActivationSymmetric": True,
                "WeightSymmetric": True,
                "QuantizeBias": False,
                "CalibPercentile": _PERCENTILE,
                "OpTypesToExcludeOutputQuantization": _QUANTISED,
            },
        )
    finally:
        advice.setLevel(level)
    model = onnx.load(out)
    _tidy(model, onnx.load(source.path))
    onnx.checker.check_model(model, full_check=True)
    write_onnx(model, out)
    made = Artifact.on_disk(
        out,
        Format.ONNX,
        source.model,
        made_by="quantize",
        batch=source.batch,
        precision=Precision(Dtype.INT8, Dtype.INT8, Dtype.INT8),
        source=source,
        tools=versions("onnxruntime", "onnx"),
    )
    return replace(made, notes=(f"calibrated on {len(images)} images; depthwise convolutions stay float32",))


def _depthwise(model: Any) -> list[str]:
    return [
        node.name
        for node in model.graph.node
        if node.op_type == "Conv" and any(entry.name == "group" and entry.i > 1 for entry in node.attribute)
    ]


def _batches(images: Array, batch: int) -> Iterator[dict[str, Array]]:
    import numpy as np

    for start in range(0, len(images), batch):
        yield {INPUT: np.take(images, range(start, start + batch), axis=0, mode="wrap")}


def _tidy(model: Any, source: Any) -> None:
    """The quantiser names itself as the producer and leaves its own notes."""
    model.producer_name, model.producer_version = source.producer_name, source.producer_version
    model.ir_version = source.ir_version
    model.doc_string = ""
    del model.metadata_props[:]
    for node in model.graph.node:
        node.doc_string = ""
