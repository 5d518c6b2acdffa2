"""Stage `precision`: the ONNX file in 16-bit floating point, inputs and outputs still float32."""

from pathlib import Path

from export.trace import write_onnx
from runtimes.artifact import Artifact, Dtype, Format, Precision
from runtimes.host import versions

_LARGEST, _SMALLEST = 65504.0, 2.0**-149


def to_fp16(source: Artifact, out: Path) -> Artifact:
    """Weights and activations as float16.

    The converter's own defaults clamp weights to 1e-7..1e4; here values are rounded as IEEE 754 says, and one
    that overflows is left to the gates to show.
    """
    import onnx
    from onnxconverter_common import float16

    half = float16.convert_float_to_float16(
        onnx.load(source.path), min_positive_val=_SMALLEST, max_finite_val=_LARGEST, keep_io_types=True
    )
    onnx.checker.check_model(half, full_check=True)
    write_onnx(half, out)
    return Artifact.on_disk(
        out,
        Format.ONNX,
        source.model,
        made_by="precision",
        batch=source.batch,
        precision=Precision(Dtype.FP16, Dtype.FP16, Dtype.FP16),
        source=source,
        tools=versions("onnxconverter-common", "onnx"),
    )
