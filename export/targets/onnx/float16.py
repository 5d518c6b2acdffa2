"""Stage `precision`: the ONNX file in 16-bit floating point, inputs and outputs still float32."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from export.targets.onnx.outputs import held_apart, without_copies
from export.targets.onnx.trace import write_onnx
from runtimes.artifact import Artifact, Format
from runtimes.host.machine import versions
from runtimes.onnx.tensors import OnnxTensors
from runtimes.precision import Dtype, Precision
from runtimes.runtime import Array

LARGEST_HALF, _SMALLEST = 65504.0, 2.0**-149


def to_fp16(source: Artifact, out: Path, images: Array) -> Artifact:
    """Weights and activations as float16, but for the operators that reach beyond it on (n, 3, H, W) `images`.

    The converter's own defaults clamp weights to 1e-7..1e4; here values are rounded as IEEE 754 says, and one
    that overflows is left to the gates to show.
    """
    import onnx
    from onnxconverter_common import float16

    model = onnx.load(source.path)
    kept = overflowing(model, OnnxTensors(model).peaks(images, source.batch or 1))
    apart = held_apart(model)
    half = float16.convert_float_to_float16(
        model, min_positive_val=_SMALLEST, max_finite_val=LARGEST_HALF, keep_io_types=True, node_block_list=list(kept)
    )
    without_copies(half, apart)
    onnx.checker.check_model(half, full_check=True)
    write_onnx(half, out)
    made = Artifact.on_disk(
        out,
        Format.ONNX,
        source.model,
        made_by="precision",
        batch=source.batch,
        precision=Precision(Dtype.FP16, Dtype.FP16, Dtype.FP16),
        source=source,
        tools=versions("onnxconverter-common", "onnx"),
    )
    return replace(
        made, notes=tuple(f"kept in float32: {name}, which reaches {peak:.4g}" for name, peak in kept.items())
    )


def overflowing(model: Any, peaks: Mapping[str, float]) -> dict[str, float]:
    """Nodes that give, or read, a tensor beyond float16's largest number, with the larger magnitude of the two."""
    result: dict[str, float] = {}
    for node in model.graph.node:
        largest = max((peaks.get(name, 0.0) for name in (*node.input, *node.output)), default=0.0)
        if largest > LARGEST_HALF:
            result[node.name] = largest
    return result
