"""The ONNX opsets that can be asked for."""

from efficientvit.errors import BadOption

DEFAULT_OPSET = 18
"""ONNX Runtime 1.14 (2023), OpenVINO 2023 and TensorRT 10 read it, with IR version 8."""

OPSETS = range(11, 24)

WRITTEN = 18
"""The oldest that PyTorch's exporter writes; older ones are made of it."""

QUANTIZED = 13
"""The oldest whose QuantizeLinear and DequantizeLinear have a scale for each channel."""


def require_opset(opset: int, *, int8: bool = False) -> None:
    """Refuse what cannot be written. `int8`: by quantizers.

    Raises:
        BadOption: it is none of `OPSETS`, or too old for quantizers.
    """
    oldest = QUANTIZED if int8 else OPSETS.start
    if opset not in OPSETS[oldest - OPSETS.start :]:
        raise BadOption(
            f"opset {opset} cannot be written{' in int8' if int8 else ''}",
            expected=f"{oldest} to {OPSETS.stop - 1}",
            got=str(opset),
            next_step=f"leave --opset out for {DEFAULT_OPSET}, which most runtimes read",
        )
