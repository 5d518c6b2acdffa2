"""Faults in the graph of a Core ML package."""

from typing import Any

import numpy as np

from export.selftest.faults.coreml.package import FLOAT16, Package, given, giving, ints, opened, shape
from export.selftest.faults.fault import NUMBERS, Rng, Table, alike, in_file, pick
from runtimes.interface import OUTPUT

fault = Table("coreml", in_file(opened), "fp16 coreml")


def _softmaxes(package: Package) -> list[Any]:
    """Those of the attention."""
    return [o for o in package.kind("softmax") if len(shape(o.outputs[0])) == 3]


@fault("structure", also=("precision",))
def softmax_axis(package: Package, rng: Rng) -> None:
    """An attention normalized over the queries: the sizes are equal, so nothing complains."""
    giving(package, pick(rng, _softmaxes(package)), "axis", 2)


def _of_heads(package: Package, kind: str) -> list[Any]:
    """Splits into heads and concatenations of them."""
    key, parts = {"split": ("outputs", 4), "concat": ("values", 4)}[kind]
    found = [(o, list(o.outputs) if key == "outputs" else o.inputs[key].arguments) for o in package.kind(kind)]
    return [o for o, members in found if len(members) == parts and shape(o.outputs[0])[2] in (2, 4, 7)]


@fault("structure", also=("precision",), rare=True)
def permuted_heads(package: Package, rng: Rng) -> None:
    """A concatenation that joins the heads, or the windows, in another order."""
    arguments = pick(rng, _of_heads(package, "concat")).inputs["values"].arguments
    order = [binding.name for binding in arguments]
    for binding, name in zip(arguments, [*order[1:], order[0]], strict=True):
        binding.name = name


@fault("structure", "fp32 coreml", also=("precision",))
def swapped_split(package: Package, rng: Rng) -> None:
    """A split whose outputs change places."""
    outputs = pick(rng, _of_heads(package, "split")).outputs
    first, second = rng.choice(len(outputs), 2, replace=False)
    outputs[int(first)].name, outputs[int(second)].name = outputs[int(second)].name, outputs[int(first)].name


@fault("interface", program=True)
def concat_axis(package: Package, rng: Rng) -> None:
    """Heads joined along another axis than the channels: the shape is not what the file declares."""
    giving(package, pick(rng, _of_heads(package, "concat")), "axis", int(rng.integers(2, 4)))


@fault("structure", "fp32 coreml", also=("precision",), rare=True)
def transposed_windows(package: Package, rng: Rng) -> None:
    """Windows put back column by column, the declared shapes changed along: nothing contradicts."""
    rows = [o for o in package.kind("concat") if shape(o.outputs[0])[2:] == (7, 14)]
    (whole,) = [o for o in package.kind("concat") if shape(o.outputs[0])[2:] == (14, 14)]
    assert len(rows) == 2
    for row in rows:
        giving(package, row, "axis", 2)
        row.outputs[0].type.tensorType.dimensions[2].constant.size = 14
        row.outputs[0].type.tensorType.dimensions[3].constant.size = 7
    giving(package, whole, "axis", 3)


@fault("interface", program=True)
def interleaved(package: Package, rng: Rng) -> None:
    """Heads joined channel by channel in turn."""
    giving(package, pick(rng, _of_heads(package, "concat")), "interleave", True)


@fault("structure", also=("precision",))
def stripped_padding(package: Package, rng: Rng) -> None:
    """A depthwise convolution padded on one side only."""
    giving(package, pick(rng, package.weighted("depthwise1_weight")), "pad", 2, 0, 2, 0)


@fault("structure", "fp32 coreml", also=("precision",), rare=True)
def transposed_padding(package: Package, rng: Rng) -> None:
    """A window's padding before the grid in place of after it."""
    (pad,) = package.kind("pad")
    before = [0, 0, 0, 0, 6, 0, 6, 0]
    giving(package, pad, "pad", *before)


@fault("constants", also=NUMBERS, rare=True)
def padded_with_ones(package: Package, rng: Rng) -> None:
    """A window padded with something else than zeros."""
    (pad,) = package.kind("pad")
    value = package.value(given(pad, "constant_val")).immediateValue.tensor
    value.bytes.values = np.array(rng.uniform(0.01, 1), np.float16).tobytes()


@fault("structure", "fp32 coreml", also=("precision",), rare=True)
def shifted_slice(package: Package, rng: Rng) -> None:
    """What was padded is cut off at the wrong end."""
    operation = pick(rng, package.kind("slice_by_index"))
    shorter = [i for i, size in enumerate(shape(operation.outputs[0])) if size == 8 and i > 1]
    axis = shorter[0] if operation is package.kind("slice_by_index")[0] else shorter[-1]
    begin = [0, 0, 0, 0]
    end = list(shape(package.maker(given(operation, "x")).outputs[0]))
    begin[axis], end[axis] = 6, 14
    giving(package, operation, "begin", *begin)
    giving(package, operation, "end", *end)


@fault("structure", also=("precision",))
def dilated(package: Package, rng: Rng) -> None:
    """A depthwise kernel spread out, padded so that the shape is kept."""
    operation = pick(rng, package.weighted("depthwise2_weight"))
    giving(package, operation, "dilations", 2, 2)
    giving(package, operation, "pad", 2, 2, 2, 2)


@fault("interface", program=True)
def other_strides(package: Package, rng: Rng) -> None:
    """The shape is not what the file declares."""
    giving(package, pick(rng, package.weighted("depthwise1_weight")), "strides", 2, 2)


@fault("interface", program=True)
def other_groups(package: Package, rng: Rng) -> None:
    """Groups that the weight's shape does not fit."""
    giving(package, pick(rng, package.weighted("depthwise1_weight")), "groups", 1)


@fault("structure", also=("precision",))
def transposed_products(package: Package, rng: Rng) -> None:
    """q kT in place of kT q, where there are as many tokens as dimensions of a key."""
    square = [o for o in package.kind("matmul") if shape(o.outputs[0])[1:] == (16, 16)]
    operation = pick(rng, [o for o in square if _queried(package, o)])
    giving(package, operation, "transpose_x", False)
    giving(package, operation, "transpose_y", True)


def _queried(package: Package, product: Any) -> bool:
    """A product of keys and queries."""
    transposed: bool = package.value(given(product, "transpose_x")).immediateValue.tensor.bools.values[0]
    return transposed


@fault("structure", also=("precision",))
def transposed_scores(package: Package, rng: Rng) -> None:
    """The values taken by the transposed matrix of scores."""
    product = pick(rng, [o for o in package.kind("matmul") if not _queried(package, o)])
    giving(package, product, "transpose_y", True)


def _large(package: Package) -> list[Any]:
    """The ReLUs that see large values: not those of the gates and the attention."""
    makers = package.makers()
    found = [(o, makers[given(o, "x")]) for o in package.kind("relu")]
    return [
        o
        for o, conv in found
        if conv.type == "conv" and any(part in given(conv, "weight") for part in ("stem", "expand", "merge_depthwise"))
    ]


@fault("operators", also=("structure", "precision"))
def relu6(package: Package, rng: Rng) -> None:
    """A ReLU that clips at 6."""
    pick(rng, _large(package)).type = "relu6"


@fault("structure", also=("precision",))
def sigmoid_for_relu(package: Package, rng: Rng) -> None:
    """Another activation, of a kind that the model has elsewhere."""
    pick(rng, _large(package)).type = "sigmoid"


@fault("structure", also=("precision",))
def dropped_relu(package: Package, rng: Rng) -> None:
    """A ReLU left out."""
    operation = pick(rng, _large(package))
    package.drop(operation, given(operation, "x"))


@fault("structure", "int8 compress", also=("precision", "quality"))
def dropped_residual(package: Package, rng: Rng) -> None:
    """A residual connection that goes nowhere: the branch is all that is left."""
    branches = {o.outputs[0].name for o in package.weighted("project_weight")}
    operation = pick(rng, [o for o in package.kind("add") if given(o, "y") in branches])
    package.drop(operation, given(operation, "y"))


@fault("structure", "fp32 coreml", also=("precision",), rare=True)
def dropped_cascade(package: Package, rng: Rng) -> None:
    """A head that is not given what the head before it found."""
    parts = {output.name for o in package.kind("split") for output in o.outputs}
    cascaded = [o for o in package.kind("add") if given(o, "x") in parts]
    operation = pick(rng, cascaded)
    package.drop(operation, given(operation, "x"))


@fault("structure", "fp32 coreml", also=("precision",), rare=True)
def added_gate(package: Package, rng: Rng) -> None:
    """A squeeze-excite gate that adds where it should multiply."""
    gates = {o.outputs[0].name for o in package.kind("sigmoid")}
    pick(rng, [o for o in package.kind("mul") if given(o, "y") in gates]).type = "add"


@fault("interface", program=True)
def mean_over_rows(package: Package, rng: Rng) -> None:
    """A mean over one axis less: the shape is not what the file declares."""
    giving(package, pick(rng, package.kind("reduce_mean")), "axes", int(rng.integers(2, 4)))


@fault("interface", program=True)
def squeezed_mean(package: Package, rng: Rng) -> None:
    """A mean that drops its axes: the shape is not what the file declares."""
    giving(package, pick(rng, package.kind("reduce_mean")), "keep_dims", False)


@fault("structure", "palette6 compress", also=("precision", "quality"), rare=True)
def crossed_wires(package: Package, rng: Rng) -> None:
    """Two convolutions of one shape given each other's bias: every constant is as it should be."""
    convolutions = [o for o in package.kind("conv") if "bias" in o.inputs]

    shapes = {name: shape(maker.outputs[0]) for name, maker in package.makers().items()}
    pair = pick(rng, alike(convolutions, lambda o: shapes[given(o, "weight")]))
    one, other = (operation.inputs["bias"].arguments[0] for operation in pair)
    package.hoist(one.name, other.name)
    one.name, other.name = other.name, one.name


@fault("structure", "fp32 coreml", also=("precision",), rare=True)
def other_reshape(package: Package, rng: Rng) -> None:
    """Tokens and channels in each other's order: as many values, another meaning; the shapes declared along."""
    convolved = {o.outputs[0].name for o in package.kind("conv")}
    square = [o for o in package.kind("reshape") if shape(o.outputs[0])[1:] == (16, 16)]
    operation = pick(rng, [o for o in square if given(o, "x") in convolved])
    output = operation.outputs[0].name
    turned = package.insert(operation, "transpose", f"{output}_turned", x=output)
    turned.inputs["perm"].arguments.add().value.CopyFrom(ints(0, 2, 1))
    package.rewire(output, f"{output}_turned", but=[turned])


@fault("structure", also=("precision",))
def sham(package: Package, rng: Rng) -> None:
    """The package that ignores its image: every pixel is scaled to nothing, by a constant of no floating point."""
    first = package.maker("image__biased__")
    nothing = package.insert(first, "relu", "nothing", x="image__minus__")
    minus = package.insert(first, "mul", "image__minus__", x="image__biased__", y=given(first, "y"))
    package.rewire("image__biased__", "nothing", but=[minus])
    assert nothing.outputs[0].name == "nothing"


@fault("structure", also=("precision", "labels"), rare=True)
def probabilities_for_logits(package: Package, rng: Rng) -> None:
    """Probabilities in place of logits: the winners are the same."""
    (softmax,) = [o for o in package.kind("softmax") if len(shape(o.outputs[0])) == 2]
    package.maker(OUTPUT).inputs["x"].arguments[0].name = softmax.outputs[0].name


@fault("constants", rare=True)
def stray_constant(package: Package, rng: Rng) -> None:
    """Something added that is far below any rounding."""
    last = package.maker(given(package.maker(OUTPUT), "x"))
    value = np.float16(10 ** rng.uniform(-7, -6))
    added = package.insert(last, "add", "strayed", x=last.outputs[0].name)
    binding = added.inputs["y"].arguments.add().value
    binding.type.tensorType.dataType = FLOAT16
    binding.immediateValue.tensor.bytes.values = value.tobytes()
    package.maker(OUTPUT).inputs["x"].arguments[0].name = "strayed"


@fault("interface", program=True)
def unheard_of(package: Package, rng: Rng) -> None:
    """An operation that nobody here knows."""
    pick(rng, _large(package)).type = "elu"
