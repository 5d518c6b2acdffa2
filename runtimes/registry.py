"""Which runtimes can judge which format."""

from collections.abc import Mapping

from runtimes.artifact import Format
from runtimes.base import Runtime
from runtimes.coreml_native import CoreMl
from runtimes.mil import MilEvaluator
from runtimes.openvino_ir import OpenVino
from runtimes.ort import OnnxRuntime

RUNTIMES: Mapping[Format, tuple[Runtime, ...]] = {
    Format.TORCH: (),  # a module in memory, run by runtimes.torch_eager without a file
    Format.ONNX: (OnnxRuntime(),),
    Format.OPENVINO: (OpenVino(),),
    Format.COREML: (CoreMl(), MilEvaluator()),
}
"""In order of preference: the first that is available here gives the verdict."""


def runtime_for(artifact_format: Format) -> Runtime:
    """The first runtime that can judge this format here; where none can, the first, which then says why not."""
    choices = RUNTIMES[artifact_format]
    return next((runtime for runtime in choices if runtime.unavailable() is None), choices[0])
