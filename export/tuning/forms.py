"""What is tried of each target, as a table: precisions, weight formats, and layers left in floats."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from export.targets.registry import find_target


@dataclass(frozen=True, slots=True)
class Form:
    """One way of making a target's artifact.

    `options`: of the target, by field, where they are not the default. `reduced`: int8 weights in 7 bits, for CPUs
    whose fast kernels saturate. `error`: int8 with more layers in floats, as many as reduce its error to this share.
    """

    precision: str
    options: Mapping[str, Any] = field(default_factory=dict)
    reduced: bool = False
    error: float | None = None


def _compressed(**system: int) -> tuple[Form, ...]:
    """An Apple target's weight formats."""
    formats = (
        {"weights_bits": 8},
        {"weights_bits": 8, "weights_method": "palette"},
        {"weights_bits": 6},
        {"weights_bits": 4},
    )
    return tuple(Form("fp16", {**each, **system}) for each in formats)


_FEWER_INTEGERS = (Form("int8", error=0.7), Form("int8", error=0.5))

FORMS: Mapping[str, tuple[Form, ...]] = {
    "onnx": (Form("fp32"), Form("int8"), Form("int8", reduced=True), Form("fp16"), *_FEWER_INTEGERS),
    "openvino": (Form("fp32"), Form("int8"), Form("bf16"), Form("fp16"), *_FEWER_INTEGERS),
    "coreml": (Form("fp16"), *_compressed(ios=16), Form("fp32")),
    "coreai": (Form("fp16"), *_compressed(), Form("fp32")),
    "tensorrt": (Form("fp16"), Form("int8"), Form("fp32")),
}
"""By target, those first that are worth the most when time is short; a target without a row is tried in its precisions,
in their order. Layers are left in floats where the target's int8 can fall back
(export/targets/onnx/mixed_precision.py)."""


def forms_of(target: str) -> tuple[Form, ...]:
    """The target's row of the table; where it has none, each precision as it is.

    Raises:
        BadOption: there is no such target.
    """
    found = find_target(target)
    return FORMS.get(target) or tuple(Form(precision) for precision in found.precisions)
