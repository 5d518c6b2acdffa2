"""Target `tensorrt`: an engine, built from typed ONNX that is judged as TensorRT's parser understands it."""

from export.targets.onnx.target import EQUALIZED, FLOAT16, FP16, FP32, QUANTIZE, TRACED
from export.targets.target import Job, Plan, Section, Stage, Target
from export.targets.tensorrt.options import LAYERS, TensorRtOptions
from export.targets.workshop import Workshop
from runtimes.artifact import Artifact, Format
from runtimes.precision import Dtype, Precision

_INT8 = Precision(Dtype.INT8, Dtype.INT8, Dtype.INT8)


def _parse(shop: Workshop, job: Job, _: Precision, source: Artifact | None) -> Artifact:
    from export.targets.tensorrt.build import parse

    assert source is not None
    return parse(source, shop.path("parse", job, ".onnx"))


def _build(shop: Workshop, job: Job, _: Precision, source: Artifact | None) -> Artifact:
    from export.targets.tensorrt.build import build

    assert source is not None
    return build(source, shop.path("build", job, ".engine"), TensorRtOptions.of(job))


def _section() -> Section:
    from export.targets.tensorrt.section import SECTION

    return SECTION


PARSE, BUILD = Stage("parse", _parse), Stage("build", _build)


def _engine(made: Precision) -> Plan:
    """The network as parsed is judged before it is built."""
    return ((PARSE, made), (BUILD, made))


TARGET = Target(
    name="tensorrt",
    title="TensorRT engines",
    format=Format.ENGINE,
    suffix=".engine",
    precisions={
        "fp16": (*TRACED, (FLOAT16, FP16), *_engine(FP16)),
        "fp32": (*TRACED, *_engine(FP32)),
        "int8": (*EQUALIZED, (QUANTIZE, _INT8), *_engine(_INT8)),
    },
    packages=("tensorrt_rtx", "tensorrt"),
    extra="tensorrt",
    distributions=("tensorrt", "tensorrt_rtx_cu13"),
    dynamic_batch=True,
    instead="TensorRT has no resize that equals Pillow's: preprocess in the app, or take -t onnx",
    heads=("fp16", "fp32", "int8"),
    options=TensorRtOptions,
    section=_section,
    evidence=(LAYERS,),
)
