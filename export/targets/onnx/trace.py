"""Stage `trace`: the deploy form as a torch.export program, and from it as ONNX.

Through torch.export and not the TorchScript tracer (docs/adr/0002-tracing.md): it refuses what it cannot
capture instead of baking the example in, and its program serves Core ML as well.
"""

import ast
from pathlib import Path
from typing import TYPE_CHECKING, Any

from efficientvit.errors import StageFailed
from export.targets.onnx.lowering import lowered
from export.targets.onnx.opsets import WRITTEN, require_opset
from runtimes.artifact import Artifact, Format
from runtimes.host.machine import versions
from runtimes.interface import BATCH, INPUT
from runtimes.onnx.graph import write_onnx

if TYPE_CHECKING:
    import onnx
    from torch.export import ExportedProgram

    from efficientvit.model import EfficientViT

_EXAMPLE_BATCH = 2  # torch.export specializes on 0 and 1


def capture(deploy: "EfficientViT", batch: int | None) -> "ExportedProgram":
    """The program of (batch, 3, H, W) -> (batch, classes), or other outputs; with `batch` None for any batch.

    torch.export raises where it cannot keep the batch symbolic.
    """
    import torch

    example = torch.zeros(deploy.spec.image_size.nchw(batch or _EXAMPLE_BATCH))
    dynamic = None if batch else ({0: torch.export.Dim(BATCH, min=1)},)
    return torch.export.export(deploy, (example,), dynamic_shapes=dynamic)


def trace(program: "ExportedProgram", model: "EfficientViT", out: Path, *, batch: int | None, opset: int) -> Artifact:
    """Write the program as ONNX to `out`: the smallest IR version for the opset, no path of this machine in it.

    Raises:
        BadOption: an opset that cannot be written.
        StageFailed: the file's batch is not what was asked for, or the program cannot be expressed in the opset.
    """
    import onnx
    import torch

    require_opset(opset)
    exported = torch.onnx.export(
        program,
        (),
        dynamo=True,
        opset_version=max(opset, WRITTEN),
        input_names=[INPUT],
        output_names=[output.name for output in model.spec.outputs],
        verbose=False,
    )
    assert exported is not None
    proto = exported.model_proto
    _name(proto)
    if opset < WRITTEN:
        lowered(proto, opset)
    proto.ir_version = onnx.helper.find_min_ir_version_for(proto.opset_import)
    _require_batch(proto, batch)
    onnx.checker.check_model(proto, full_check=True)
    write_onnx(proto, out)
    return Artifact.on_disk(
        out, Format.ONNX, model.spec, made_by="trace", batch=batch, tools=versions("torch", "onnxscript", "onnx")
    )


def _name(proto: "onnx.ModelProto") -> None:
    """Name nodes by module path, and drop the metadata, which holds absolute source paths.

    The exporter records the stack trace of every node; the module path among it is worth keeping, so that
    whoever reads the graph, or blames a layer of it, finds the module.
    """
    del proto.metadata_props[:]
    proto.doc_string = ""
    graph = proto.graph
    taken: set[str] = set()
    for node in graph.node:
        node.name = _unique(f"{_scope(node)}/{node.op_type}", taken)
        node.doc_string = ""
        del node.metadata_props[:]
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del value.metadata_props[:]
        value.doc_string = ""
    symbol = graph.input[0].type.tensor_type.shape.dim[0].dim_param
    for value in (*graph.input, *graph.output, *graph.value_info):
        for dimension in value.type.tensor_type.shape.dim:
            if symbol and dimension.dim_param == symbol:
                dimension.dim_param = BATCH


def _scope(node: Any) -> str:
    """The dotted path of the module that the node comes from; the root module's is its own name."""
    for entry in node.metadata_props:
        if entry.key == "pkg.torch.onnx.name_scopes":
            scopes = ast.literal_eval(entry.value)
            return next((scope for scope in reversed(scopes[:-1]) if scope), "model")
    return "model"


def _unique(name: str, taken: set[str]) -> str:
    candidate, count = name, 1
    while candidate in taken:
        count += 1
        candidate = f"{name}_{count}"
    taken.add(candidate)
    return candidate


def _require_batch(proto: "onnx.ModelProto", batch: int | None) -> None:
    """The exporter can bake the example's batch in without a word: look."""
    for value in (proto.graph.input[0], *proto.graph.output):
        first = value.type.tensor_type.shape.dim[0]
        found = first.dim_param or first.dim_value
        if found != (batch or BATCH):
            raise StageFailed(
                f"the exporter gave '{value.name}' another batch than was asked for",
                expected=str(batch or BATCH),
                got=str(found or "nothing"),
                next_step="an operator of the model does not keep the batch symbolic",
            )
