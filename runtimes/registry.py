"""Which runtimes can judge which format."""

from collections.abc import Mapping

from runtimes.artifact import Format
from runtimes.coreml.evaluated import MilEvaluator
from runtimes.coreml.native import CoreMl
from runtimes.onnx.runtime import OnnxRuntime
from runtimes.openvino.runtime import OpenVino
from runtimes.pytorch.exported_program import TorchProgram
from runtimes.runtime import Runtime
from runtimes.tensorrt.evaluated import TrtNetwork
from runtimes.tensorrt.native import TensorRt

RUNTIMES: Mapping[Format, tuple[Runtime, ...]] = {
    Format.TORCH: (TorchProgram(),),
    Format.ONNX: (OnnxRuntime(),),
    Format.OPENVINO: (OpenVino(),),
    Format.COREML: (CoreMl(), MilEvaluator()),
    Format.NETWORK: (TrtNetwork(),),
    Format.ENGINE: (TensorRt(), TrtNetwork()),
}
"""In order of preference: the first that is available here gives the verdict."""


def native_runtime(artifact_format: Format) -> Runtime:
    """The real one, whether or not it can run here."""
    return RUNTIMES[artifact_format][0]


def runtime_for(artifact_format: Format, *, ships: bool = True) -> Runtime:
    """The first runtime that can judge this format here; where none can, the first, which then says why not.

    `ships` False: an ONNX file that is another runtime's to optimize, judged by what it says.
    """
    if artifact_format == Format.ONNX and not ships:
        return OnnxRuntime(optimized=False)
    choices = RUNTIMES[artifact_format]
    return next((runtime for runtime in choices if runtime.unavailable() is None), choices[0])
