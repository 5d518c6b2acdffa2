"""Opsets before 18, for runtimes that read no newer ones (TensorRT 7 and 8 on older Jetsons, boards' own runtimes).

The exporter writes 18 and newer; onnx's own version converter has no way back for Split. What an operator means in the
older opset is ONNX's changelog (Operators.md, Changelog.md); that the file still computes the same is proven like any
other artifact's program, and its numbers are judged like any other's.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from efficientvit.errors import StageFailed

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

_SAME = frozenset({"Add", "Concat", "Conv", "Div", "Gather", "Gemm", "Identity", "MatMul", "Mul", "Relu", "Sigmoid",
                   "Slice", "Sub", "Transpose"})  # fmt: skip
"""From 11 to 18 these have gained types that no stage here writes, and nothing else."""

_AXES = 13
"""Since this opset Squeeze, Unsqueeze and ReduceSum take their axes as an input, Split its sizes, and Softmax works on
one axis: before it, on that axis and all behind it."""


def lowered(model: "onnx.ModelProto", opset: int) -> None:
    """Rewrite `model`, whose opset is newer, to `opset`, in place.

    Raises:
        StageFailed: an operator that cannot be expressed in it.
    """
    import onnx

    types = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    dims = {value.name: _dims(value) for value in (*types.input, *types.value_info, *types.output)}
    graph = _Graph(model.graph, opset, dims)
    (domain,) = (each for each in model.opset_import if each.domain in ("", "ai.onnx"))
    for node in list(model.graph.node):
        if node.op_type in _SAME or _since(node, domain.version) == _since(node, opset):
            continue
        if node.op_type not in _RULES:
            raise _impossible(node, opset, "no way to write it is known")
        _RULES[node.op_type](node, graph)
    domain.version = opset
    graph.drop_unread()


@dataclass
class _Graph:
    """The file under change."""

    proto: "onnx.GraphProto"
    opset: int
    dims: Mapping[str, tuple[int | None, ...]]
    moved: list[str] = field(default_factory=list)
    """Inputs that became attributes."""

    def constant(self, name: str) -> "NDArray[Any] | None":
        from onnx import numpy_helper

        return next((numpy_helper.to_array(each) for each in self.proto.initializer if each.name == name), None)

    def to_attribute(self, node: "onnx.NodeProto", place: int, name: str) -> None:
        """Turn the input at `place`, the last one and a constant, into an attribute."""
        import onnx

        if len(node.input) <= place or not node.input[place]:
            return
        given = node.input[place]
        if (value := self.constant(given)) is None or len(node.input) > place + 1:
            raise _impossible(node, self.opset, f"its {name} are computed")
        del node.input[place]
        node.attribute.append(onnx.helper.make_attribute(name, value.reshape(-1).tolist()))
        self.moved.append(given)

    def drop_unread(self) -> None:
        """Remove the constants that no node reads any more."""
        read = {name for node in self.proto.node for name in node.input}
        for constant in [each for each in self.proto.initializer if each.name in {*self.moved} - read]:
            self.proto.initializer.remove(constant)


def _since(node: "onnx.NodeProto", opset: int) -> int | None:
    """The opset whose definition of the operator holds in `opset`, which may have none."""
    import onnx

    try:
        return onnx.defs.get_schema(node.op_type, opset).since_version
    except onnx.defs.SchemaError:
        return None


def _dims(value: "onnx.ValueInfoProto") -> tuple[int | None, ...]:
    return tuple(d.dim_value if d.HasField("dim_value") else None for d in value.type.tensor_type.shape.dim)


def _attribute(node: "onnx.NodeProto", name: str, default: Any = None) -> Any:
    import onnx

    return next((onnx.helper.get_attribute_value(each) for each in node.attribute if each.name == name), default)


def _drop(node: "onnx.NodeProto", name: str) -> None:
    kept = [each for each in node.attribute if each.name != name]
    del node.attribute[:]
    node.attribute.extend(kept)


def _impossible(node: "onnx.NodeProto", opset: int, why: str) -> StageFailed:
    return StageFailed(
        f"{node.op_type} '{node.name}' cannot be written in opset {opset}",
        got=why,
        next_step="ask for a newer --opset; 18 is the default",
    )


def _split(node: "onnx.NodeProto", graph: _Graph) -> None:
    """Equal parts need no sizes, in any opset; before 18 no number of parts may be given."""
    if _attribute(node, "num_outputs") is not None:
        axis = _attribute(node, "axis", 0)
        if len({graph.dims.get(part, ())[axis : axis + 1 or None] for part in node.output}) != 1:
            raise _impossible(node, graph.opset, "parts of unequal sizes without the sizes")
        _drop(node, "num_outputs")
    if graph.opset < _AXES:
        graph.to_attribute(node, 1, "split")


def _reduction(since: int) -> Callable[["onnx.NodeProto", _Graph], None]:
    def rule(node: "onnx.NodeProto", graph: _Graph) -> None:
        if graph.opset >= since:
            return
        if _attribute(node, "noop_with_empty_axes", 0) and len(node.input) < 2:
            raise _impossible(node, graph.opset, "it reduces no axis")
        _drop(node, "noop_with_empty_axes")
        graph.to_attribute(node, 1, "axes")

    return rule


def _axes_as_input(node: "onnx.NodeProto", graph: _Graph) -> None:
    if graph.opset < _AXES:
        graph.to_attribute(node, 1, "axes")


def _reshape(node: "onnx.NodeProto", graph: _Graph) -> None:
    """Before 14 a zero takes the dimension over; a shape without zeros means the same in all."""
    if _attribute(node, "allowzero", 0):
        shape = graph.constant(node.input[1])
        if shape is None or not shape.all():
            raise _impossible(node, graph.opset, "a shape whose zeros mean zero, or that is computed")
    _drop(node, "allowzero")


def _pad(node: "onnx.NodeProto", graph: _Graph) -> None:
    if len(node.input) > 3 and node.input[3]:
        raise _impossible(node, graph.opset, "it names its axes")


def _softmax(node: "onnx.NodeProto", graph: _Graph) -> None:
    """Over the last axis it has always meant the same; another one is moved there and back."""
    import onnx

    rank = len(graph.dims[node.input[0]])
    axis = _attribute(node, "axis", -1) % rank
    _drop(node, "axis")
    node.attribute.append(onnx.helper.make_attribute("axis", rank - 1))
    if axis == rank - 1:
        return
    order = list(range(rank))
    order[axis], order[-1] = order[-1], order[axis]
    moved, back = f"{node.output[0]}_moved", f"{node.output[0]}_shares"
    place = list(graph.proto.node).index(node)
    there = onnx.helper.make_node("Transpose", [node.input[0]], [moved], f"{node.name}_there", perm=order)
    home = onnx.helper.make_node("Transpose", [back], [node.output[0]], f"{node.name}_back", perm=order)
    node.input[0], node.output[0] = moved, back
    graph.proto.node.insert(place, there)
    graph.proto.node.insert(place + 2, home)


_RULES: Mapping[str, Callable[["onnx.NodeProto", _Graph], None]] = {
    "Pad": _pad,
    "ReduceMax": _reduction(18),
    "ReduceMean": _reduction(18),
    "ReduceSum": _reduction(_AXES),
    "Reshape": _reshape,
    "Softmax": _softmax,
    "Split": _split,
    "Squeeze": _axes_as_input,
    "Unsqueeze": _axes_as_input,
}
