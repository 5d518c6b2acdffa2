"""Stage `precision`: the ONNX file in 16-bit floating point, inputs and outputs still float32."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

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
    copies = _copied_outputs(model)
    half = float16.convert_float_to_float16(
        model, min_positive_val=_SMALLEST, max_finite_val=LARGEST_HALF, keep_io_types=True, node_block_list=list(kept)
    )
    _without(half, copies)
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


def _copied_outputs(model: Any) -> set[str]:
    """Make each output that nodes read as well a copy of what they read; the names of the nodes that copy.

    The converter casts an output back to float32, and would leave those that read it with the cast's result.
    """
    import onnx

    graph = model.graph
    read = {name for node in graph.node for name in node.input}
    copies: set[str] = set()
    for output in graph.output:
        if output.name not in read:
            continue
        inner = f"{output.name}/inner"
        for node in graph.node:
            for names in (node.input, node.output):
                names[:] = [inner if name == output.name else name for name in names]
        copies.add(f"{output.name}/copy")
        graph.node.append(onnx.helper.make_node("Identity", [inner], [output.name], name=f"{output.name}/copy"))
    return copies


def _without(model: Any, copies: set[str]) -> None:
    """Take these nodes out again: what reads their results reads what they copied."""
    graph = model.graph
    source = {node.output[0]: node.input[0] for node in graph.node if node.name in copies}
    for node in [node for node in graph.node if node.name in copies]:
        graph.node.remove(node)
    for node in graph.node:
        node.input[:] = [source.get(name, name) for name in node.input]


def overflowing(model: Any, peaks: Mapping[str, float]) -> dict[str, float]:
    """Nodes that give, or read, a tensor beyond float16's largest number, with the larger magnitude of the two."""
    result: dict[str, float] = {}
    for node in model.graph.node:
        largest = max((peaks.get(name, 0.0) for name in (*node.input, *node.output)), default=0.0)
        if largest > LARGEST_HALF:
            result[node.name] = largest
    return result
