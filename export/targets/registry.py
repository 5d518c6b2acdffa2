"""What can be made, as data: a target's stages, precisions and limits. docs/adding-a-target.md walks through one."""

from collections.abc import Mapping
from dataclasses import dataclass

from runtimes.artifact import Format
from runtimes.precision import Dtype, Precision

Plan = tuple[tuple[str, Precision], ...]
"""Stages of `export.pipeline.stages.STAGES` in order, and the precision of what each makes."""

_FP32 = Precision()
_FP16 = Precision(Dtype.FP16, Dtype.FP16, Dtype.FP16)
_BF16_EXECUTION = Precision(execution=Dtype.BF16)
_FP16_WEIGHTS = Precision(weights=Dtype.FP16)
_INT8 = Precision(Dtype.INT8, Dtype.INT8, Dtype.INT8)
_UINT8 = Precision(Dtype.INT8, Dtype.UINT8, Dtype.INT8)
_SYMMETRIC8 = Precision(Dtype.INT8, Dtype.SYMMETRIC8, Dtype.INT8)
_ONNX: Plan = (("trace", _FP32), ("simplify", _FP32))


def _engine(made: Precision) -> Plan:
    """What TensorRT makes of a typed ONNX file: the network as parsed is judged before it is built."""
    return (("parse", made), ("build", made))


@dataclass(frozen=True, slots=True)
class Target:
    """One kind of artifact. `precisions` maps what `--precision` takes to how it is made; the first is the default."""

    name: str
    format: Format
    suffix: str
    extra: str | None
    package: str
    dynamic_batch: bool
    precisions: Mapping[str, Plan]

    @property
    def default_precision(self) -> str:
        """The one taken when none is asked for."""
        return next(iter(self.precisions))


TARGETS: Mapping[str, Target] = {
    target.name: target
    for target in (
        Target(
            name="onnx",
            format=Format.ONNX,
            suffix=".onnx",
            extra=None,
            package="onnxruntime",
            dynamic_batch=True,
            precisions={
                "fp32": _ONNX,
                "fp16": (*_ONNX, ("precision", _FP16)),
                "int8": (*_ONNX, ("quantize", _UINT8)),
            },
        ),
        Target(
            name="openvino",
            format=Format.OPENVINO,
            suffix=".xml",
            extra="openvino",
            package="openvino",
            dynamic_batch=True,
            precisions={
                "fp32": (*_ONNX, ("openvino", _FP32)),
                "fp16": (*_ONNX, ("openvino", _FP16_WEIGHTS)),
                # The same file as fp32; ship/runtime-settings.json asks for the other arithmetic.
                "bf16": (*_ONNX, ("openvino", _BF16_EXECUTION)),
                "int8": (*_ONNX, ("quantize", _SYMMETRIC8), ("openvino", _SYMMETRIC8)),
            },
        ),
        Target(
            name="coreml",
            format=Format.COREML,
            suffix=".mlpackage",
            extra="coreml",
            package="coremltools",
            dynamic_batch=False,
            precisions={
                # The twin is the same conversion in float32: it tells the converter's faults from float16's.
                "fp16": (("twin", _FP32), ("coreml", _FP16)),
                "fp32": (("coreml", _FP32),),
            },
        ),
        Target(
            name="tensorrt",
            format=Format.ENGINE,
            suffix=".engine",
            extra="tensorrt",
            package="tensorrt_rtx",
            dynamic_batch=True,
            precisions={
                "fp16": (*_ONNX, ("precision", _FP16), *_engine(_FP16)),
                "fp32": (*_ONNX, *_engine(_FP32)),
                "int8": (*_ONNX, ("quantize", _INT8), *_engine(_INT8)),
            },
        ),
    )
}
