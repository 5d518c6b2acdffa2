"""Stage `precision`: the ONNX file in 16-bit floating point, inputs and outputs still float32."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from efficientvit.errors import BadInput
from export.targets.onnx.outputs import held_apart, without_copies
from runtimes.artifact import Artifact
from runtimes.host.machine import versions
from runtimes.onnx.graph import write_onnx
from runtimes.onnx.tensors import OnnxTensors
from runtimes.precision import Dtype, Precision
from runtimes.runtime import Array

LARGEST_HALF, _SMALLEST = 65504.0, 2.0**-149


def to_fp16(source: Artifact, out: Path, images: Array) -> Artifact:
    """Weights and activations as float16.

    The converter's own defaults clamp weights to 1e-7..1e4; here values are rounded as IEEE 754 says, and a weight
    that overflows is left to the gates to show.

    Raises:
        BadInput: on (n, 3, H, W) `images` a tensor reaches beyond what float16 holds.
    """
    import onnx
    from onnxconverter_common import float16

    model = onnx.load(source.path)
    _require_range(model, OnnxTensors(model).peaks(images, source.batch or 1))
    apart = held_apart(model)
    half = float16.convert_float_to_float16(
        model, min_positive_val=_SMALLEST, max_finite_val=LARGEST_HALF, keep_io_types=True
    )
    without_copies(half, apart)
    onnx.checker.check_model(half, full_check=True)
    write_onnx(half, out)
    precision = Precision(Dtype.FP16, Dtype.FP16, Dtype.FP16)
    return source.becomes(out, "precision", precision=precision, tools=versions("onnxconverter-common", "onnx"))


def _require_range(model: Any, peaks: Mapping[str, float]) -> None:
    """Float16 holds every tensor: a layer left in float32 would be one that the precision does not mean."""
    beyond: dict[str, float] = {}
    for node in model.graph.node:
        largest = max((peaks.get(name, 0.0) for name in node.output), default=0.0)
        if not largest <= LARGEST_HALF:
            beyond[node.name] = largest
    if beyond:
        worst = max(beyond, key=beyond.__getitem__)
        raise BadInput(
            "float16 cannot hold what this model computes",
            expected=f"magnitudes up to {LARGEST_HALF:g} on the golden images",
            got=f"{beyond[worst]:.4g} from {worst}" + (f", and from {len(beyond) - 1} more" if len(beyond) > 1 else ""),
            next_step="export it with -p fp32",
        )
