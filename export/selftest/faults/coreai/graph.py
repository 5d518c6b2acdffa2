"""Faults in the program of a Core AI asset: Apple's library finds nothing wrong with any of them."""

from typing import Any

import numpy as np

from export.selftest.faults.coreai.asset import (
    Graph,
    kind_of,
    maker,
    name_of,
    opened,
    readers,
    shape,
    values_of,
)
from export.selftest.faults.fault import NUMBERS, Rng, Table, alike, in_file, pick

fault = Table("coreai", in_file(opened), "fp16 coreai")

ADD, MATMUL, MUL = "broadcasting_add", "broadcasting_batch_matmul", "broadcasting_mul"


def _softmaxes(graph: Graph) -> list[Any]:
    """Those of the attention, over as many queries as keys."""
    return [o for o in graph.kind("softmax") if len(shape(o.results[0])) == 3]


@fault("structure", also=("precision",))
def softmax_axis(graph: Graph, rng: Rng) -> None:
    """An attention normalized over the queries: the sizes are equal, so nothing complains."""
    operation = pick(rng, _softmaxes(graph))
    graph.giving(operation, 1, 3 - int(values_of(operation.operands[1])) % 3)


@fault("structure", also=("precision",))
def permuted_heads(graph: Graph, rng: Rng) -> None:
    """A concatenation that joins the heads in another order."""
    operation = pick(rng, [o for o in graph.kind("concat") if len(o.operands) == 5])
    values = list(operation.operands)
    for place, value in enumerate([*values[2:], values[1]], start=1):
        operation.operands[place] = value


@fault("structure", "fp32 coreai", also=("precision",))
def swapped_split(graph: Graph, rng: Rng) -> None:
    """Two parts of a split in each other's place."""
    operation = pick(rng, [o for o in graph.kind("split") if len(o.results) == 4])
    one, other = map(int, rng.choice(4, 2, replace=False))
    first, second = operation.results[one], operation.results[other]
    # Both lists before any change: a Concat may read the two.
    uses = [(u.owner, u.operand_number, new) for old, new in ((first, second), (second, first)) for u in old.uses]
    for reader, place, value in uses:
        reader.operands[place] = value


def _padded(graph: Graph) -> list[Any]:
    """Paddings of depthwise convolutions."""
    return [o for o in graph.kind("pad") if values_of(o.operands[1]).tolist()[4:] == [2, 2, 2, 2]]


@fault("structure", also=("precision",))
def moved_padding(graph: Graph, rng: Rng) -> None:
    """All of a convolution's padding on one side."""
    graph.giving(pick(rng, _padded(graph)), 1, [0, 0, 0, 0, 4, 0, 4, 0])


@fault("constants", also=NUMBERS)
def padded_with_something(graph: Graph, rng: Rng) -> None:
    """A convolution padded with something else than zeros."""
    graph.giving(pick(rng, _padded(graph)), 2, rng.uniform(0.01, 1))


@fault("interface", program=True)
def other_mode(graph: Graph, rng: Rng) -> None:
    """A convolution padded with the values at the edge: of another meaning, and of none to the evaluator."""
    from coreai._compiler.ir import Attribute

    pick(rng, _padded(graph)).attributes["padding_mode"] = Attribute.parse("#coreai.padding_mode<replicate>")


def _large(graph: Graph) -> list[Any]:
    """The ReLUs behind convolutions, which see values of both signs."""
    found = [(o, maker(o.operands[0])) for o in graph.kind("relu")]
    return [o for o, add in found if kind_of(add) == ADD and kind_of(maker(add.operands[0])) == "conv2d"]


@fault("structure", also=("precision",))
def sigmoid_for_relu(graph: Graph, rng: Rng) -> None:
    """Another activation, of a kind that the model has elsewhere."""
    operation = pick(rng, _large(graph))
    graph.replace(operation, "sigmoid", [operation.operands[0]])


@fault("operators", also=("structure", "precision"))
def silu_for_relu(graph: Graph, rng: Rng) -> None:
    """Another activation, of a kind that the model does not have."""
    operation = pick(rng, _large(graph))
    graph.replace(operation, "silu", [operation.operands[0]])


@fault("structure", also=("precision",))
def dropped_relu(graph: Graph, rng: Rng) -> None:
    """A ReLU left out."""
    operation = pick(rng, _large(graph))
    graph.drop(operation, operation.operands[0])


def _added(graph: Graph) -> list[Any]:
    """Sums of two tensors of the image: residual connections and cascades."""
    return [o for o in graph.kind(ADD) if shape(o.operands[0]) == shape(o.operands[1])]


@fault("structure", also=("precision",))
def dropped_residual(graph: Graph, rng: Rng) -> None:
    """A residual connection that goes nowhere: the branch is all that is left."""
    operation = pick(rng, [o for o in _added(graph) if kind_of(maker(o.operands[1])) == ADD])
    graph.drop(operation, operation.operands[1])


@fault("structure", "fp32 coreai", also=("precision", "constants"))
def dropped_bias(graph: Graph, rng: Rng) -> None:
    """A bias that is not added: its constant stays in another place that reads it, or is lost."""
    biased = [o for o in graph.kind(ADD) if name_of(o.operands[1]).endswith("bias")]
    operation = pick(rng, biased)
    graph.drop(operation, operation.operands[0])


@fault("structure", also=("precision",))
def transposed_scores(graph: Graph, rng: Rng) -> None:
    """The values taken by the transposed matrix of scores."""
    product = pick(rng, [o for o in graph.kind(MATMUL) if kind_of(maker(o.operands[1])) == "softmax"])
    scores = product.operands[1]
    order = graph.constant(np.array([0, 2, 1], np.uint32), _like(graph, 3))
    product.operands[1] = graph.make("transpose", [scores, order], [scores.type], product).results[0]


def _like(graph: Graph, count: int) -> Any:
    """The type of so many sizes."""
    return next(o.operands[1].type for o in graph.kind("transpose", "reshape") if shape(o.operands[1]) == (count,))


@fault("structure", also=("precision",))
def added_gate(graph: Graph, rng: Rng) -> None:
    """A squeeze-excite gate that adds where it should multiply."""
    operation = pick(rng, graph.kind(MUL))
    graph.replace(operation, f"decomposable.{ADD}", list(operation.operands))


@fault("structure", also=("precision",))
def dilated(graph: Graph, rng: Rng) -> None:
    """A depthwise kernel spread out, and its input padded so that the shape is kept."""
    pads = [o for o in graph.kind("pad") if values_of(o.operands[1]).tolist()[4:] == [1, 1, 1, 1]]
    found = [(o, readers(o.results[0])[0]) for o in pads]
    plain = [(o, conv) for o, conv in found if values_of(conv.operands[2]).tolist() == [1, 1]]
    pad, conv = pick(rng, plain)
    wide = graph.make("pad", list(pad.operands), [_grown(pad.results[0], 2)], pad, **_mode(pad))
    wide.operands[1] = graph.constant(np.array([0, 0, 0, 0, 2, 2, 2, 2], np.uint32), pad.operands[1].type)
    conv.operands[0] = wide.results[0]
    graph.giving(conv, 3, [2, 2])
    pad.erase()


def _mode(pad: Any) -> dict[str, Any]:
    return {"padding_mode": pad.attributes["padding_mode"]}


def _grown(value: Any, by: int) -> Any:
    from coreai._compiler.ir import RankedTensorType

    batch, channels, height, width = shape(value)
    return RankedTensorType.get([batch, channels, height + by, width + by], value.type.element_type)


@fault("structure", also=("precision",))
def crossed_biases(graph: Graph, rng: Rng) -> None:
    """Two convolutions of one shape given each other's bias: every constant is as it should be."""
    biased = [o for o in graph.kind(ADD) if name_of(o.operands[1]).endswith("bias")]
    pairs = alike(biased, lambda o: shape(o.operands[1]))
    one, other = pick(rng, [pair for pair in pairs if pair[0].operands[1] != pair[1].operands[1]])
    one.operands[1], other.operands[1] = other.operands[1], one.operands[1]


@fault("structure", also=("precision",))
def mean_of_one_row(graph: Graph, rng: Rng) -> None:
    """A mean over the first row alone."""
    from coreai._compiler.ir import RankedTensorType

    operation = pick(rng, [o for o in graph.kind("reduce_mean") if shape(o.operands[0])[2] > 1])
    batch, channels, _, width = shape(operation.operands[0])
    element = operation.operands[0].type.element_type
    axes = RankedTensorType.get([4], operation.operands[1].type.element_type)
    bounds = [graph.constant(np.array(v, np.int32), axes) for v in ([0] * 4, [batch, channels, 1, width], [1] * 4)]
    row = RankedTensorType.get([batch, channels, 1, width], element)
    operation.operands[0] = graph.make("slice", [operation.operands[0], *bounds], [row], operation).results[0]


@fault("structure", also=("precision",))
def sham(graph: Graph, rng: Rng) -> None:
    """The asset that ignores its image: every value is multiplied by nothing, once all of it is there."""
    (image,) = graph.block.arguments
    first = readers(image)[0]
    other = graph.make("decomposable.broadcasting_sub", [image, image], [image.type], first).results[0]
    for place, value in enumerate(first.operands):
        if value == image:
            first.operands[place] = other


@fault("structure", also=("precision", "labels", "operators"))
def probabilities_for_logits(graph: Graph, rng: Rng) -> None:
    """Probabilities in the place of logits: the winners are the same."""
    graph.output.operands[0] = graph.output.operands[1]


@fault("labels", also=("operators",))
def logits_for_probabilities(graph: Graph, rng: Rng) -> None:
    """Logits in the place of probabilities: the label is the same, the shares are none."""
    graph.output.operands[1] = graph.output.operands[0]


@fault("constants", also=("structure",))
def stray_constant(graph: Graph, rng: Rng) -> None:
    """Something added to the logits that is far below any rounding."""
    from coreai._compiler.ir import RankedTensorType

    logits = graph.output.operands[0]
    value = np.float32(10 ** rng.uniform(-9, -8))
    stray = graph.constant(np.array([value]), RankedTensorType.get([1], logits.type.element_type))
    added = graph.make(f"decomposable.{ADD}", [logits, stray], [logits.type], graph.output)
    graph.output.operands[0] = added.results[0]


@fault("interface")
def renamed_output(graph: Graph, rng: Rng) -> None:
    """An app that reads `logits` finds nothing of that name; the numbers are right."""
    _renamed(graph, "res_attrs", 0, "scores")


@fault("interface")
def renamed_input(graph: Graph, rng: Rng) -> None:
    """An app that feeds `image` feeds nothing."""
    _renamed(graph, "arg_attrs", 0, "picture")


def _renamed(graph: Graph, which: str, place: int, name: str) -> None:
    from coreai._compiler.ir import ArrayAttr, DictAttr, StringAttr

    entries = list(graph.function.attributes[which])
    entries[place] = DictAttr.get({"coreai.name": StringAttr.get(name)})
    graph.function.attributes[which] = ArrayAttr.get(entries)


@fault("precision", "fp32 coreai", also=("structure", "constants"))
def through_half(graph: Graph, rng: Rng) -> None:
    """A tensor cast to float16 and back in a float32 asset: nothing but its rounding changes."""
    from coreai._compiler.ir import F16Type, RankedTensorType

    operation = pick(rng, _large(graph))
    value = operation.results[0]
    half = RankedTensorType.get(list(shape(value)), F16Type.get())
    after = readers(value)[0]
    narrow = graph.make("cast", [value], [half], after).results[0]
    wide = graph.make("cast", [narrow], [value.type], after).results[0]
    for place, read in enumerate(after.operands):
        if read == value:
            after.operands[place] = wide
