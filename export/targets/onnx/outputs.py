"""Outputs that nodes read as well, such as a stage's map, held apart while a converter changes the tensors of a file.

Converters of ONNX files treat such an output like any tensor: they cast it and leave its readers with the cast's
result, or round it to integers. An `Identity` between the two keeps them apart, and is taken out again.
"""

from typing import Any

from runtimes.onnx.graph import without_unread

_INNER, _COPY = "/inner", "/copy"


def held_apart(model: Any, *, every: bool = False) -> tuple[str, ...]:
    """Make outputs copies of what nodes compute, in place: those that nodes read, or `every` one. Their names."""
    import onnx

    graph = model.graph
    read = {name for node in graph.node for name in node.input}
    apart = tuple(output.name for output in graph.output if every or output.name in read)
    for output in apart:
        for node in graph.node:
            for names in (node.input, node.output):
                names[:] = [f"{output}{_INNER}" if name == output else name for name in names]
        graph.node.append(onnx.helper.make_node("Identity", [f"{output}{_INNER}"], [output], name=f"{output}{_COPY}"))
    return apart


def without_copies(model: Any, apart: tuple[str, ...]) -> None:
    """Take the copies out again, in place: what reads a copy reads what it was made of."""
    copies = {f"{output}{_COPY}" for output in apart}
    source = {node.output[0]: node.input[0] for node in model.graph.node if node.name in copies}
    for node in [node for node in model.graph.node if node.name in copies]:
        model.graph.node.remove(node)
    for node in model.graph.node:
        node.input[:] = [source.get(name, name) for name in node.input]


def unrounded(model: Any, apart: tuple[str, ...]) -> None:
    """Take the copies out of a quantized model, in place: each output is what its quantizer reads, by its own name."""
    graph = model.graph
    for node in [node for node in graph.node if node.name in {f"{output}{_COPY}" for output in apart}]:
        graph.node.remove(node)
    for output in apart:
        for named in (*graph.node, *graph.initializer, *graph.value_info):
            named.name = _restored(named.name, output)
        for node in graph.node:
            for names in (node.input, node.output):
                names[:] = [_restored(name, output) for name in names]
    without_unread(model)


def _restored(name: str, output: str) -> str:
    """The name that a tensor, or what belongs to it, has where the output is not held apart."""
    inner = f"{output}{_INNER}"
    return f"{output}{name.removeprefix(inner)}" if name.startswith(inner) else name
