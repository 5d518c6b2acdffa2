"""Target `ort`: ONNX Runtime's own file format, which its builds for phones read."""

from dataclasses import dataclass

from efficientvit.errors import BadOption
from export.targets.onnx.target import FP32, TRACED
from export.targets.options import option
from export.targets.target import Job, Stage, Target, TargetOptions
from export.targets.workshop import Workshop
from runtimes.artifact import Artifact, Format
from runtimes.precision import Precision


@dataclass(frozen=True, slots=True)
class OrtOptions(TargetOptions):
    """One file's."""

    level: int = option(
        0, "--ort-level", "Graph optimizations in the file, 0 to 1. [default: 0]", type=int, metavar="N"
    )

    def __post_init__(self) -> None:
        if not 0 <= self.level <= 1:
            raise BadOption("--ort-level is 0 or 1", expected="0 or 1", got=str(self.level), next_step="leave it out")

    def slug_parts(self, batch: int | None) -> list[str]:
        """It changes the file."""
        return [f"level{self.level}"] if self.level else []

    @property
    def reproducible(self) -> bool:
        """ONNX Runtime writes the same file in other bytes from call to call."""
        return False


def _convert(shop: Workshop, job: Job, _: Precision, source: Artifact | None) -> Artifact:
    import onnxruntime

    from runtimes.host.machine import versions

    assert source is not None
    out, levels = shop.path("ort", job, ".ort"), onnxruntime.GraphOptimizationLevel
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = (levels.ORT_DISABLE_ALL, levels.ORT_ENABLE_BASIC)[OrtOptions.of(job).level]
    options.optimized_model_filepath = str(out)
    options.add_session_config_entry("session.save_model_format", "ORT")
    onnxruntime.InferenceSession(source.path, options, providers=["CPUExecutionProvider"])
    return source.becomes(out, "ort", file_format=Format("ort"), tools=versions("onnxruntime"))


TARGET = Target(
    name="ort",
    title="ORT files",
    format=Format("ort"),
    suffix=".ort",
    precisions={"fp32": (*TRACED, (Stage("ort", _convert), FP32))},
    packages=("onnxruntime",),
    dynamic_batch=True,
    options=OrtOptions,
    section=OrtOptions.recorded,
)
