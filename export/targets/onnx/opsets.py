"""The ONNX opsets that can be asked for."""

from efficientvit.errors import BadOption

DEFAULT_OPSET = 18
"""ONNX Runtime 1.14 (2023), OpenVINO 2023 and TensorRT 10 read it, with IR version 8."""

OPSETS = range(18, 24)


def require_opset(opset: int) -> None:
    """Refuse what the exporter does not write.

    Raises:
        BadOption: it is none of `OPSETS`.
    """
    if opset not in OPSETS:
        raise BadOption(
            f"opset {opset} cannot be written",
            expected=f"{OPSETS.start} to {OPSETS.stop - 1}",
            got=str(opset),
            next_step=f"leave --opset out for {DEFAULT_OPSET}, which most runtimes read",
        )
