"""Target `openvino`: OpenVINO IR, converted from ONNX."""

from export.targets.onnx.target import EQUALIZED, FP32, QUANTIZE, TRACED
from export.targets.target import Job, Stage, Target
from export.targets.workshop import Workshop
from export.targets.wrapping import WRAP
from runtimes.artifact import Artifact, Format
from runtimes.precision import Dtype, Precision
from runtimes.wrapping import Takes

_SYMMETRIC8 = Precision(Dtype.INT8, Dtype.SYMMETRIC8, Dtype.INT8)


def _convert(shop: Workshop, job: Job, made: Precision, source: Artifact | None) -> Artifact:
    from export.targets.openvino.convert import to_openvino

    assert source is not None
    return to_openvino(source, shop.path("openvino", job, ".xml"), made.made_of(source.precision))


CONVERT = Stage("openvino", _convert)

TARGET = Target(
    name="openvino",
    title="OpenVINO IRs",
    format=Format.OPENVINO,
    suffix=".xml",
    precisions={
        "fp32": (*TRACED, (CONVERT, FP32)),
        "fp16": (*TRACED, (CONVERT, Precision(weights=Dtype.FP16))),
        # The same file as fp32; ship/runtime-settings.json asks for the other arithmetic.
        "bf16": (*TRACED, (CONVERT, Precision(execution=Dtype.BF16))),
        "int8": (*EQUALIZED, (QUANTIZE, _SYMMETRIC8), (CONVERT, _SYMMETRIC8)),
    },
    packages=("openvino",),
    extra="openvino",
    distributions=("openvino",),
    dynamic_batch=True,
    heads=("fp32", "fp16", "bf16", "int8"),
    feeds=tuple(Takes),
    wrap=WRAP,
)
