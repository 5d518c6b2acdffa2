"""Target `onnx`, and the stages that other targets begin with."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from efficientvit.digests import tensor_digest
from export.targets.target import Job, Plan, Stage, Target
from export.targets.workshop import Workshop
from export.targets.wrapping import WRAP
from runtimes.artifact import Artifact, Format
from runtimes.precision import Dtype, Precision
from runtimes.wrapping import Takes

if TYPE_CHECKING:
    from torch.export import ExportedProgram

FP32 = Precision()
FP16 = Precision(Dtype.FP16, Dtype.FP16, Dtype.FP16)
_UINT8 = Precision(Dtype.INT8, Dtype.UINT8, Dtype.INT8)


def _program(shop: Workshop, batch: int | None) -> "ExportedProgram":
    """The captured program for this batch, of any batch with None; captured once."""
    from efficientvit.deploy.rewrites import tokens_before_channels
    from export.targets.onnx.trace import capture

    return shop.once(("program", batch), lambda: capture(tokens_before_channels(shop.deploy), batch))


def _trace(shop: Workshop, job: Job, _: Precision, __: Artifact | None) -> Artifact:
    from export.targets.onnx.trace import trace

    out = shop.path("trace", job, ".onnx")
    return trace(_program(shop, job.batch), shop.deploy, out, batch=job.batch, opset=job.opset)


def _simplify(shop: Workshop, job: Job, _: Precision, source: Artifact | None) -> Artifact:
    from export.targets.onnx.simplify import simplify

    assert source is not None
    return simplify(source, shop.path("simplify", job, ".onnx"))


def _float16(shop: Workshop, job: Job, _: Precision, source: Artifact | None) -> Artifact:
    from export.targets.onnx.float16 import to_fp16

    assert source is not None
    return to_fp16(source, shop.path("precision", job, ".onnx"), shop.ordinary_images())


def _equalize(shop: Workshop, job: Job, _: Precision, source: Artifact | None) -> Artifact:
    from export.targets.onnx.calibration import calibration_images
    from export.targets.onnx.equalize import chosen, equalize
    from validation.proof.equalization import require_exact

    assert source is not None
    model, images = shop.reference, calibration_images(shop, job.calibrate)
    equalization = shop.once(("equalization", job.calibrate), lambda: chosen(model.deploy, images))
    require_exact(model.trained, model.rewritten, equalization)
    form = model.form(Precision(equalization=equalization))
    return equalize(source, form, equalization, shop.path("equalize", job, ".onnx"))


def _quantize(shop: Workshop, job: Job, made: Precision, source: Artifact | None) -> Artifact:
    from export.targets.onnx.calibration import calibration_images, calibration_notes
    from export.targets.onnx.quantize import quantize

    assert source is not None
    out, images = shop.path("quantize", job, ".onnx"), calibration_images(shop, job.calibrate)
    quantized = quantize(source, out, images, made.made_of(source.precision), shop.folder / "ranges")
    return replace(quantized, notes=(*quantized.notes, *calibration_notes(shop, job.calibrate)))


def _ordinary(shop: Workshop, _: Job, __: Precision) -> Mapping[str, object]:
    return {"images": tensor_digest(shop.ordinary_images())}


def _calibrated(shop: Workshop, job: Job, _: Precision) -> Mapping[str, object]:
    from export.targets.onnx.calibration import calibration_images

    return {"images": tensor_digest(calibration_images(shop, job.calibrate))}


TRACE = Stage("trace", _trace, shared=True)
SIMPLIFY = Stage("simplify", _simplify, shared=True)
FLOAT16 = Stage("precision", _float16, depends=_ordinary)
EQUALIZE = Stage("equalize", _equalize, shared=True, depends=_calibrated)
QUANTIZE = Stage("quantize", _quantize, depends=_calibrated)

TRACED: Plan = ((TRACE, FP32), (SIMPLIFY, FP32))
"""How every target begins that reads ONNX."""

EQUALIZED: Plan = (*TRACED, (EQUALIZE, FP32))
"""And every one in int8."""

TARGET = Target(
    name="onnx",
    title="ONNX files",
    format=Format.ONNX,
    suffix=".onnx",
    precisions={"fp32": TRACED, "fp16": (*TRACED, (FLOAT16, FP16)), "int8": (*EQUALIZED, (QUANTIZE, _UINT8))},
    packages=("onnxruntime",),
    distributions=("onnx", "onnxscript", "onnxruntime", "onnxsim"),
    dynamic_batch=True,
    heads=("fp32", "fp16", "int8"),
    feeds=tuple(Takes),
    wrap=WRAP,
)
