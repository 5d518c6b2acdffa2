"""ONNX files that no golden image shows to be wrong, or hardly any: each a change of one tensor."""

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.helper import make_node as node

Nodes = list[onnx.NodeProto]


@dataclass(frozen=True, slots=True)
class Change:
    """What is put between a tensor and those who read it: nodes from `x` to `y`, and constants by name.

    `at`: the kind of the node after whose first occurrence it comes, or "" for the logits. `named`: the operator that
    the proof has to name.
    """

    nodes: Nodes
    constants: dict[str, np.ndarray]
    named: str
    at: str = ""


def f32(*values: float) -> np.ndarray:
    return np.array(values if len(values) > 1 else values[0], np.float32)


def i64(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def branch(kind: str) -> onnx.GraphProto:
    """One operation of `x`, as a branch of If."""
    result = helper.make_tensor_value_info("result", TensorProto.FLOAT, None)
    return helper.make_graph([node(kind, ["x"], ["result"])], kind, [], [result])


NEGATED = node("Neg", ["x"], ["minus"])
CHOSEN = node("Where", ["when", "minus", "x"], ["y"])

CHANGES: dict[str, Change] = {
    "negated for two images": Change(
        [node("Shape", ["x"], ["n"], start=0, end=1), node("Equal", ["n", "two"], ["when"]), NEGATED, CHOSEN],
        {"two": i64(2)}, "Equal"),
    "negated from nine images on": Change(
        [node("Shape", ["x"], ["n"], start=0, end=1), node("Less", ["eight", "n"], ["when"]), NEGATED, CHOSEN],
        {"eight": i64(8)}, "Less"),
    "the ninth image on negated": Change(
        [node("Slice", ["x", "zero", "eight"], ["first"]), node("Slice", ["x", "eight", "end"], ["others"]),
         node("Neg", ["others"], ["minus"]), node("Concat", ["first", "minus"], ["y"], axis=0)],
        {"zero": i64(0), "eight": i64(8), "end": i64(2**62)}, "Slice"),
    "the number of images as a value": Change(
        [node("Shape", ["x"], ["n"], start=0, end=1), node("Cast", ["n"], ["f"], to=TensorProto.FLOAT),
         node("Mul", ["f", "tiny"], ["small"]), node("Add", ["x", "small"], ["y"])], {"tiny": f32(1e-20)}, "Cast"),
    "as many constants as images, added up": Change(
        [node("Shape", ["x"], ["n"], start=0, end=1),
         node("ConstantOfShape", ["n"], ["each"], value=helper.make_tensor("v", TensorProto.FLOAT, [1], [1.0])),
         node("ReduceSum", ["each"], ["count"], keepdims=0), node("Sub", ["count", "one"], ["more"]),
         node("Add", ["x", "more"], ["y"])], {"one": f32(1)}, "ConstantOfShape"),
    "a constant for each image, added up": Change(
        [node("Shape", ["x"], ["n"], start=0, end=1), node("Expand", ["one", "n"], ["each"]),
         node("ReduceSum", ["each"], ["count"], keepdims=0), node("Sub", ["count", "one"], ["more"]),
         node("Add", ["x", "more"], ["y"])], {"one": f32(1)}, "Expand"),
    "a table by the number of images": Change(
        [node("Shape", ["x"], ["n"], start=0, end=1), node("Gather", ["table", "n"], ["more"]),
         node("Add", ["x", "more"], ["y"])], {"table": np.array([0.0] * 9 + [1.0] * 9, np.float32)}, "Gather"),
    "numbers up to that of images": Change(
        [node("Shape", ["x"], ["n"], start=0, end=1), node("Squeeze", ["n"], ["count"]),
         node("Range", ["zero", "count", "step"], ["each"]), node("ReduceSum", ["each"], ["sum"], keepdims=0),
         node("Cast", ["sum"], ["more"], to=TensorProto.FLOAT), node("Add", ["x", "more"], ["y"])],
        {"zero": np.array(0), "step": np.array(1)}, "Range"),
    "every nth value, n times": Change(
        [node("Shape", ["x"], ["n"], start=0, end=1), node("Slice", ["x", "zero", "end", "one", "n"], ["some"]),
         node("Concat", ["unit", "n"], ["times"], axis=0), node("Tile", ["some", "times"], ["y"])],
        {"zero": i64(0), "end": i64(2**62), "one": i64(1), "unit": i64(1)}, "Tile"),
    "once in a thousand runs": Change(
        [node("RandomUniform", [], ["dice"], shape=[1, 1], low=0.0, high=1000.0),
         node("Greater", ["dice", "rarely"], ["when"]), NEGATED, CHOSEN], {"rarely": f32(999)}, "RandomUniform"),
    "noise": Change([node("RandomNormalLike", ["x"], ["noise"], scale=1e-12), node("Add", ["x", "noise"], ["y"])], {},
                    "RandomNormalLike"),
    "dropout in training": Change(
        [node("Dropout", ["x", "ratio", "yes"], ["y"])], {"ratio": f32(1e-7), "yes": np.array(True)}, "Dropout"),
    "a trigger far away": Change(
        [node("Greater", ["x", "far"], ["when"]), NEGATED, CHOSEN], {"far": f32(1e30)}, "Greater"),
    "a trigger at one value": Change(
        [node("Equal", ["x", "one"], ["when"]), NEGATED, CHOSEN], {"one": f32(0.123456789)}, "Equal"),
    "no numbers made zeros": Change(
        [node("IsNaN", ["x"], ["when"]), node("Where", ["when", "zero", "x"], ["y"])], {"zero": f32(0)}, "IsNaN"),
    "clipped logits": Change([node("Clip", ["x", "low", "high"], ["y"])], {"low": f32(-1e5), "high": f32(1e5)}, "Clip"),
    "a clipped ReLU": Change([node("Min", ["x", "high"], ["y"])], {"high": f32(1e6)}, "Min", at="Relu"),
    "a leaky ReLU": Change([node("LeakyRelu", ["x"], ["y"], alpha=1e-9)], {}, "LeakyRelu", at="Conv"),
    "rounded to 1e-7": Change(
        [node("Mul", ["x", "up"], ["large"]), node("Round", ["large"], ["whole"]),
         node("Mul", ["whole", "down"], ["y"])],
        {"up": f32(1e7), "down": f32(1e-7)}, "Mul", at="Relu"),
    "cut off to an integer above 2^24": Change(
        [node("Mul", ["x", "up"], ["large"]), node("Cast", ["large"], ["whole"], to=TensorProto.INT64),
         node("Cast", ["whole"], ["back"], to=TensorProto.FLOAT), node("Mul", ["back", "down"], ["y"])],
        {"up": f32(2.0**24), "down": f32(2.0**-24)}, "Mul", at="Relu"),
    "a factor of 1 + 2^-23": Change([node("Mul", ["x", "nearly"], ["y"])], {"nearly": f32(1 + 2**-23)}, "Mul"),
    "2^-149 added": Change([node("Add", ["x", "least"], ["y"])], {"least": f32(2.0**-149)}, "Add"),
    "a term that vanishes": Change(
        [node("Erf", ["x"], ["e"]), node("Mul", ["e", "least"], ["t"]), node("Add", ["x", "t"], ["y"])],
        {"least": f32(2.0**-149)}, "Erf", at="Relu"),
    "a mean over the batch": Change(
        [node("ReduceMean", ["x", "axes"], ["m"]), node("Mul", ["m", "least"], ["t"]), node("Add", ["x", "t"], ["y"])],
        {"axes": i64(0), "least": f32(2.0**-149)}, "ReduceMean"),
    "the largest of the batch": Change(
        [node("ReduceMax", ["x", "axes"], ["m"]), node("Mul", ["m", "least"], ["t"]), node("Add", ["x", "t"], ["y"])],
        {"axes": i64(0), "least": f32(2.0**-149)}, "ReduceMax"),
    "images in pairs": Change(
        [node("Reshape", ["x", "pairs"], ["p"], allowzero=0), node("Reshape", ["p", "back"], ["y"])],
        {"pairs": i64(-1, 2000), "back": i64(-1, 1000)}, "Reshape"),
    "a sum of its parts, cumulated": Change(
        [node("CumSum", ["x", "axis"], ["c"]), node("Mul", ["c", "least"], ["t"]), node("Add", ["x", "t"], ["y"])],
        {"axis": np.array(1, np.int64), "least": f32(2.0**-149)}, "CumSum"),
    "a branch": Change(
        [node("ReduceMax", ["x"], ["most"], keepdims=0), node("Greater", ["most", "far"], ["when"]),
         node("If", ["when"], ["y"], then_branch=branch("Neg"), else_branch=branch("Identity"))],
        {"far": f32(1e30)}, "If"),
    "padded with 2^-149": Change(
        [node("Pad", ["x", "pads", "least"], ["wide"]), node("Slice", ["wide", "at", "to", "axis"], ["y"])],
        {"pads": i64(0, 0, 0, 0, 0, 0, 0, 1), "least": f32(2.0**-149), "at": i64(1), "to": i64(2**62), "axis": i64(3)},
        "Pad", at="Relu"),
    "rounded to integers in two ways": Change(  # 2^20 too much where x is above 2^19, and nothing below
        [node("Mul", ["x", "down"], ["little"]),
         node("Add", ["little", "ones"], ["a"]), node("Sub", ["a", "ones"], ["b"]),
         node("Add", ["little", "twos"], ["c"]), node("Sub", ["c", "twos"], ["d"]), node("Sub", ["b", "d"], ["zero"]),
         node("Mul", ["zero", "up"], ["more"]), node("Add", ["x", "more"], ["y"])],
        {"down": f32(2.0**-20), "up": f32(2.0**20), "ones": f32(1.5 * 2**23), "twos": f32(3.0 * 2**23)}, "Mul"),
    "too large for float32 from 4e6 on": Change(
        [node("Mul", ["x", "up"], ["large"]), node("Mul", ["large", "down"], ["y"])],
        {"up": f32(2.0**106), "down": f32(2.0**-106)}, "Mul", at="Relu"),
    "no number above 88": Change(
        [node("Exp", ["x"], ["e"]), node("Mul", ["e", "nothing"], ["t"]), node("Add", ["x", "t"], ["y"])],
        {"nothing": f32(0)}, "Exp"),
    "no number at one value": Change(
        [node("Sub", ["x", "there"], ["d"]), node("Div", ["d", "d"], ["one"]), node("Mul", ["x", "one"], ["y"])],
        {"there": f32(0.123456789)}, "Sub"),
    "no number beyond float16": Change(
        [node("Cast", ["x"], ["h"], to=TensorProto.FLOAT16), node("Cast", ["h"], ["w"], to=TensorProto.FLOAT),
         node("Sub", ["x", "w"], ["zero"]), node("Add", ["w", "zero"], ["y"])], {}, "Cast"),
    "no number beyond float16, by another's type": Change(
        [node("CastLike", ["x", "half"], ["h"]), node("Cast", ["h"], ["w"], to=TensorProto.FLOAT),
         node("Sub", ["x", "w"], ["zero"]), node("Add", ["w", "zero"], ["y"])],
        {"half": np.array(1, np.float16)}, "CastLike"),
    "as many images as a byte holds": Change(
        [node("Shape", ["x"], ["n"], start=0, end=1), node("Cast", ["n"], ["byte"], to=TensorProto.UINT8),
         node("Cast", ["byte"], ["back"], to=TensorProto.INT64), node("Concat", ["back", "rest"], ["shape"], axis=0),
         node("Reshape", ["x", "shape"], ["p"]), node("Reshape", ["p", "all"], ["y"])],
        {"rest": i64(-1), "all": i64(-1, 1000)}, "Cast"),
    "a kernel that cancels": Change(
        [node("Cast", ["exponent"], ["e"], to=TensorProto.FLOAT), node("Pow", ["two", "e"], ["large"]),
         node("Mul", ["large", "minus"], ["less"]), node("Sub", ["one", "large"], ["rest"]),
         node("Sub", ["rest", "less"], ["left"]), node("Concat", ["left", "large", "less"], ["kernel"], axis=1),
         node("Unsqueeze", ["x", "last"], ["column"]), node("Concat", ["column"] * 3, ["thrice"], axis=2),
         node("Transpose", ["kernel"], ["down"], perm=[1, 0]), node("MatMul", ["thrice", "down"], ["back"]),
         node("Squeeze", ["back", "last"], ["y"])],
        {"exponent": np.full((1, 1), 40, np.int64), "two": f32(2), "one": np.ones((1, 1), np.float32),
         "minus": np.full((1, 1), -1, np.float32), "last": i64(2)}, "Sub"),
}  # fmt: skip


def changed(model: onnx.ModelProto, change: Change) -> onnx.ModelProto:
    """A copy of a file with `change` in it."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    tensor = next(n.output[0] for n in graph.node if n.op_type == change.at) if change.at else graph.output[0].name
    at = next(i for i, n in enumerate(graph.node) if tensor in n.output)
    last = tensor == graph.output[0].name
    if last:  # the name of the result stays
        graph.node[at].output[:] = ["honest" if name == tensor else name for name in graph.node[at].output]
    else:
        for reader in graph.node:
            reader.input[:] = ["planted" if name == tensor else name for name in reader.input]
    names = {"x": "honest", "y": tensor} if last else {"x": tensor, "y": "planted"}
    for each in reversed(change.nodes):
        copy = onnx.NodeProto()
        copy.CopyFrom(each)
        copy.name = f"planted/{each.op_type} of {each.output[0]}"
        copy.input[:] = [names.get(name, f"planted.{name}") for name in copy.input]
        copy.output[:] = [names.get(name, f"planted.{name}") for name in copy.output]
        for attribute in copy.attribute:
            for inner in attribute.g.node if attribute.HasField("g") else ():
                inner.input[:] = [names.get(name, name) for name in inner.input]
        graph.node.insert(at + 1, copy)
    for name, value in change.constants.items():
        graph.initializer.append(numpy_helper.from_array(np.asarray(value), f"planted.{name}"))
    del graph.value_info[:]
    onnx.checker.check_model(result)
    return result
