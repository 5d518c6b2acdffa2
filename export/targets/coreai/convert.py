"""Stage `coreai`: the deploy form, captured, to a Core AI asset, by Apple's converter."""

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from efficientvit.errors import StageFailed
from export.targets.coreai.asset import save
from export.targets.coreml.convert import with_softmax
from runtimes.artifact import Artifact, Format, Interface
from runtimes.host.machine import versions
from runtimes.interface import INPUT, PROBABILITIES
from runtimes.precision import Dtype, Precision

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from numpy.typing import NDArray
    from torch.export import ExportedProgram
    from torch.fx import Graph, Node

    from efficientvit.model import EfficientViT
    from efficientvit.spec import ModelSpec


def capture_for_coreai(deploy: "EfficientViT", batch: int, *, labeled: bool) -> "ExportedProgram":
    """The program of (batch, 3, H, W) -> what the model gives; `labeled`: the probabilities too, in float32."""
    import coreai_torch
    import torch

    from efficientvit.deploy.rewrites import classifier_of_a_pixel

    # Apple's runtime on a CPU adds up products of matrices in float16: a few logits came out wrong in the third digit.
    form = classifier_of_a_pixel(deploy)
    network = with_softmax(form) if labeled else form
    exported = torch.export.export(network, (torch.zeros(deploy.spec.image_size.nchw(batch)),))
    program: ExportedProgram = exported.run_decompositions(coreai_torch.get_decomp_table())
    return program


def in_half(program: "ExportedProgram") -> "ExportedProgram":
    """A copy that computes in float16, between an input and outputs in float32.

    Weights are rounded to the nearest: Apple's own cast (coreai_opt.casting) gives those that float16 has no number
    for, below 2^-25, the smallest that it has instead of zero.

    Raises:
        StageFailed: an operation names a type, which this would have to change too.
    """
    import torch

    result = copy.deepcopy(program)
    graph, signature = result.graph_module.graph, result.graph_signature
    for store in (result.state_dict, result.constants):
        store.update({name: _half(value) for name, value in store.items()})
    (image,) = [node for node in graph.nodes if node.name in signature.user_inputs]
    (output,) = [node for node in graph.nodes if node.op == "output"]
    for node in graph.nodes:
        if typed := [value for value in (*node.args, *node.kwargs.values()) if isinstance(value, torch.dtype)]:
            raise StageFailed(
                f"operation '{node.name}' of the captured program names a type",
                expected="types that follow from the input and the weights",
                got=str(typed[0]),
                next_step="export it with -p fp32",
            )
        if node is not output:
            node.meta["val"] = _half(node.meta["val"])
    with graph.inserting_after(image):
        fed = _cast(graph, image, torch.float16)
    image.replace_all_uses_with(fed, delete_user_cb=lambda user: user is not fed)
    image.meta["val"] = image.meta["val"].to(torch.float32)
    with graph.inserting_before(output):
        given = {value.name: _cast(graph, value, torch.float32) for value in output.args[0]}
    output.args = (tuple(given.values()),)
    for spec in signature.output_specs:
        spec.arg.name = given[spec.arg.name].name
    return result


def _half(value: Any) -> Any:
    """Floating-point tensors in float16, real ones and those that stand for them; several at once."""
    if isinstance(value, list | tuple):
        return type(value)(map(_half, value))
    return value.half() if hasattr(value, "is_floating_point") and value.is_floating_point() else value


def _cast(graph: "Graph", value: "Node", dtype: "torch.dtype") -> "Node":
    import torch

    node = graph.call_function(torch.ops.aten._to_copy.default, (value,), {"dtype": dtype})
    node.meta["val"] = value.meta["val"].to(dtype)
    return node


def to_coreai(
    program: "ExportedProgram",
    model: "ModelSpec",
    out: Path,
    *,
    batch: int,
    activations: Dtype,
    interface: Interface,
    constants: "Mapping[str, NDArray[Any]]",
    made_by: str,
) -> Artifact:
    """Write the asset `out` (.aimodel), float32 outputs whatever is between, the same bytes for the same input.

    `constants`: the deploy form's, by which the file's are named.
    """
    from coreai_torch import TorchConverter

    outputs = [output.name for output in model.outputs] + ([PROBABILITIES] if interface.labels else [])
    converter = TorchConverter(mode=TorchConverter.Mode.RELEASE)  # the other mode records this machine's paths
    converter.add_exported_program(
        in_half(program) if activations is Dtype.FP16 else program, input_names=[INPUT], output_names=outputs
    )
    save(converter.to_coreai(), out, interface, constants)
    return Artifact.on_disk(
        out,
        Format.COREAI,
        model,
        made_by=made_by,
        batch=batch,
        precision=Precision(activations, activations, activations),
        tools=versions("coreai-core", "coreai-torch", "torch"),
        interface=interface,
    )
