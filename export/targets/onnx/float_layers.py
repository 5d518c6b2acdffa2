"""Layers of an int8 ONNX file that are left in float32: the same file, with those layers as they were before.

A layer is a convolution or matrix product with the operators behind it, up to the next layer. In float32 it has its
own weights, and it reads every activation unrounded, whatever others read of it. The ranges of all the others stay
what calibration found, so that a file can be tried with any layers left out without being calibrated again.

OpenVINO's form has no pairs behind what only moves values: what is moved is rounded there for all that read it.
"""

from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from runtimes.artifact import Artifact
from runtimes.onnx.graph import without_unread, write_onnx
from runtimes.onnx.qdq import DENSE, MOVES

_FORTH, _BACK = "QuantizeLinear", "DequantizeLinear"


def with_float_layers(
    quantized: Artifact, source: Artifact, names: Collection[str], out: Path, *, tried: bool = False
) -> Artifact:
    """Write `quantized` with the layers `names` as `source`, from which it was made, has them; names are of nodes.

    `tried`: it is one of many, of which none ships; ONNX's checker need not see it.
    """
    import onnx

    layers = tuple(sorted({*quantized.precision.float_layers, *names}))
    model, floats = onnx.load(quantized.path), onnx.load(source.path)
    leave_in_float(model, floats, layers, moved=quantized.precision.rounded_once)
    if not tried:
        onnx.checker.check_model(model, full_check=True)
    write_onnx(model, out)
    precision = replace(quantized.precision, float_layers=layers)
    return source.becomes(out, quantized.made_by, precision=precision, tools=quantized.tools, notes=quantized.notes)


def leave_in_float(model: Any, source: Any, names: Collection[str], *, moved: bool = False) -> None:
    """Change an int8 onnx.ModelProto in place. `source`: the float32 one that it was made of.

    `moved`: there are no pairs behind what only moves values, which is then read as rounded by those layers too.
    """
    if not names:
        return
    held = {tensor.name for tensor in model.graph.initializer}
    weights = {tensor.name: tensor for tensor in source.graph.initializer}
    for layer, node, index, name in unrounded(model, source, moved=moved):
        if layer not in names:
            continue
        node.input[index] = name
        if name in weights and name not in held:
            held.add(name)
            model.graph.initializer.append(weights[name])
    without_unread(model)


def unrounded(model: Any, source: Any, *, moved: bool = False) -> Iterator[tuple[str, Any, int, str]]:
    """Whatever a layer of an int8 file reads otherwise in float32: layer, node, place among its inputs, and the name.

    The name is of a tensor of the same file, or of one of the weights of `source`. `moved`: as in `leave_in_float`.
    """
    makers = {name: node for node in model.graph.node for name in node.output}
    weights = {tensor.name for tensor in source.graph.initializer}
    for node, layer in zip(model.graph.node, layer_of_each(model), strict=True):
        if layer is None or node.op_type in (_FORTH, _BACK) or (moved and node.op_type in MOVES):
            continue
        for index, name in enumerate(node.input):
            back = makers.get(name)
            if back is None or back.op_type != _BACK:
                continue
            forth = makers.get(back.input[0])
            if forth is not None and forth.op_type == _FORTH:
                yield layer, node, index, forth.input[0]
            elif node.op_type in DENSE and (own := back.input[0].removesuffix("_quantized")) in weights:
                yield layer, node, index, own


def layer_of_each(model: Any) -> list[str | None]:
    """For each node the layer that it is, or that it follows: of several that it reads, the last in the file."""
    places: dict[str, int] = {}
    names: list[str] = []
    result: list[str | None] = []
    for node in model.graph.node:
        if node.op_type in DENSE:
            names.append(node.name)
            place = len(names) - 1
        else:
            place = max((places.get(name, -1) for name in node.input), default=-1)
        places.update(dict.fromkeys(node.output, place))
        result.append(names[place] if place >= 0 else None)
    return result
