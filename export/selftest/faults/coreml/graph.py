"""Faults in the graph and the types of a Core ML package."""

from typing import Any

import numpy as np

from export.selftest.faults.coreml.package import FLOAT16, FLOAT32, Package, Rng, given, giving, pick, shape
from runtimes.interface import OUTPUT


def _softmaxes(package: Package) -> list[Any]:
    """Those of the attention."""
    return [o for o in package.kind("softmax") if len(shape(o.outputs[0])) == 3]


def softmax_axis(package: Package, rng: Rng) -> None:
    """An attention normalized over the queries: the sizes are equal, so nothing complains."""
    giving(package, pick(rng, _softmaxes(package)), "axis", 2)


def _of_heads(package: Package, kind: str) -> list[Any]:
    """Splits into heads and concatenations of them."""
    key, parts = {"split": ("outputs", 4), "concat": ("values", 4)}[kind]
    found = [(o, list(o.outputs) if key == "outputs" else o.inputs[key].arguments) for o in package.kind(kind)]
    return [o for o, members in found if len(members) == parts and shape(o.outputs[0])[2] in (2, 4, 7)]


def permuted_heads(package: Package, rng: Rng) -> None:
    """A concatenation that joins the heads, or the windows, in another order."""
    arguments = pick(rng, _of_heads(package, "concat")).inputs["values"].arguments
    order = [binding.name for binding in arguments]
    for binding, name in zip(arguments, [*order[1:], order[0]], strict=True):
        binding.name = name


def swapped_split(package: Package, rng: Rng) -> None:
    """A split whose outputs change places."""
    outputs = pick(rng, _of_heads(package, "split")).outputs
    first, second = rng.choice(len(outputs), 2, replace=False)
    outputs[int(first)].name, outputs[int(second)].name = outputs[int(second)].name, outputs[int(first)].name


def concat_axis(package: Package, rng: Rng) -> None:
    """Heads joined along another axis than the channels: the shape is not what the file declares."""
    giving(package, pick(rng, _of_heads(package, "concat")), "axis", int(rng.integers(2, 4)))


def transposed_windows(package: Package, rng: Rng) -> None:
    """Windows put back column by column, the declared shapes changed along: nothing contradicts."""
    del rng
    rows = [o for o in package.kind("concat") if shape(o.outputs[0])[2:] == (7, 14)]
    (whole,) = [o for o in package.kind("concat") if shape(o.outputs[0])[2:] == (14, 14)]
    assert len(rows) == 2
    for row in rows:
        giving(package, row, "axis", 2)
        row.outputs[0].type.tensorType.dimensions[2].constant.size = 14
        row.outputs[0].type.tensorType.dimensions[3].constant.size = 7
    giving(package, whole, "axis", 3)


def interleaved(package: Package, rng: Rng) -> None:
    """Heads joined channel by channel in turn."""
    giving(package, pick(rng, _of_heads(package, "concat")), "interleave", True)


def stripped_padding(package: Package, rng: Rng) -> None:
    """A depthwise convolution padded on one side only."""
    giving(package, pick(rng, package.weighted("depthwise1_weight")), "pad", 2, 0, 2, 0)


def transposed_padding(package: Package, rng: Rng) -> None:
    """A window's padding before the grid in place of after it."""
    (pad,) = package.kind("pad")
    del rng
    before = [0, 0, 0, 0, 6, 0, 6, 0]
    giving(package, pad, "pad", *before)


def padded_with_ones(package: Package, rng: Rng) -> None:
    """A window padded with something else than zeros."""
    (pad,) = package.kind("pad")
    value = package.value(given(pad, "constant_val")).immediateValue.tensor
    value.bytes.values = np.array(rng.uniform(0.01, 1), np.float16).tobytes()


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


def dilated(package: Package, rng: Rng) -> None:
    """A depthwise kernel spread out, padded so that the shape is kept."""
    operation = pick(rng, package.weighted("depthwise2_weight"))
    giving(package, operation, "dilations", 2, 2)
    giving(package, operation, "pad", 2, 2, 2, 2)


def other_strides(package: Package, rng: Rng) -> None:
    """The shape is not what the file declares."""
    giving(package, pick(rng, package.weighted("depthwise1_weight")), "strides", 2, 2)


def other_groups(package: Package, rng: Rng) -> None:
    """Groups that the weight's shape does not fit."""
    giving(package, pick(rng, package.weighted("depthwise1_weight")), "groups", 1)


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


def relu6(package: Package, rng: Rng) -> None:
    """A ReLU that clips at 6."""
    pick(rng, _large(package)).type = "relu6"


def sigmoid_for_relu(package: Package, rng: Rng) -> None:
    """Another activation, of a kind that the model has elsewhere."""
    pick(rng, _large(package)).type = "sigmoid"


def dropped_relu(package: Package, rng: Rng) -> None:
    """A ReLU left out."""
    operation = pick(rng, _large(package))
    package.drop(operation, given(operation, "x"))


def dropped_residual(package: Package, rng: Rng) -> None:
    """A residual connection that goes nowhere: the branch is all that is left."""
    branches = {o.outputs[0].name for o in package.weighted("project_weight")}
    operation = pick(rng, [o for o in package.kind("add") if given(o, "y") in branches])
    package.drop(operation, given(operation, "y"))


def dropped_cascade(package: Package, rng: Rng) -> None:
    """A head that is not given what the head before it found."""
    parts = {output.name for o in package.kind("split") for output in o.outputs}
    cascaded = [o for o in package.kind("add") if given(o, "x") in parts]
    operation = pick(rng, cascaded)
    package.drop(operation, given(operation, "x"))


def added_gate(package: Package, rng: Rng) -> None:
    """A squeeze-excite gate that adds where it should multiply."""
    gates = {o.outputs[0].name for o in package.kind("sigmoid")}
    pick(rng, [o for o in package.kind("mul") if given(o, "y") in gates]).type = "add"


def mean_over_rows(package: Package, rng: Rng) -> None:
    """A mean over one axis less: the shape is not what the file declares."""
    giving(package, pick(rng, package.kind("reduce_mean")), "axes", int(rng.integers(2, 4)))


def squeezed_mean(package: Package, rng: Rng) -> None:
    """A mean that drops its axes: the shape is not what the file declares."""
    giving(package, pick(rng, package.kind("reduce_mean")), "keep_dims", False)


def crossed_wires(package: Package, rng: Rng) -> None:
    """Two convolutions of one shape given each other's bias: every constant is as it should be."""
    convolutions = [o for o in package.kind("conv") if "bias" in o.inputs]

    shapes = {name: shape(maker.outputs[0]) for name, maker in package.makers().items()}
    weights = [shapes[given(o, "weight")] for o in convolutions]
    pairs = [
        (one, other)
        for i, one in enumerate(convolutions)
        for j, other in enumerate(convolutions[:i])
        if weights[i] == weights[j]
    ]
    one, other = (operation.inputs["bias"].arguments[0] for operation in pick(rng, pairs))
    package.hoist(one.name, other.name)
    one.name, other.name = other.name, one.name


def other_reshape(package: Package, rng: Rng) -> None:
    """Tokens and channels in each other's order: as many values, another meaning; the shapes declared along."""
    convolved = {o.outputs[0].name for o in package.kind("conv")}
    square = [o for o in package.kind("reshape") if shape(o.outputs[0])[1:] == (16, 16)]
    operation = pick(rng, [o for o in square if given(o, "x") in convolved])
    output = operation.outputs[0].name
    turned = package.insert(operation, "transpose", f"{output}_turned", x=output)
    turned.inputs["perm"].arguments.add().value.CopyFrom(ints(0, 2, 1))
    package.rewire(output, f"{output}_turned", but=[turned])


def ints(*values: int) -> Any:
    """A constant of integers, as the protobuf has it."""
    from coremltools.proto import MIL_pb2

    value = MIL_pb2.Value()
    value.type.tensorType.dataType, value.type.tensorType.rank = MIL_pb2.DataType.Value("INT32"), 1
    value.type.tensorType.dimensions.add().constant.size = len(values)
    value.immediateValue.tensor.ints.values[:] = values
    return value


def sham(package: Package, rng: Rng) -> None:
    """The package that ignores its image: every pixel is scaled to nothing, by a constant of no floating point."""
    del rng
    first = package.maker("image__biased__")
    nothing = package.insert(first, "relu", "nothing", x="image__minus__")
    minus = package.insert(first, "mul", "image__minus__", x="image__biased__", y=given(first, "y"))
    package.rewire("image__biased__", "nothing", but=[minus])
    assert nothing.outputs[0].name == "nothing"


def probabilities_for_logits(package: Package, rng: Rng) -> None:
    """Probabilities in place of logits: the winners are the same."""
    del rng
    (softmax,) = [o for o in package.kind("softmax") if len(shape(o.outputs[0])) == 2]
    package.maker(OUTPUT).inputs["x"].arguments[0].name = softmax.outputs[0].name


def stray_constant(package: Package, rng: Rng) -> None:
    """Something added that is far below any rounding."""
    last = package.maker(given(package.maker(OUTPUT), "x"))
    value = np.float16(10 ** rng.uniform(-7, -6))
    added = package.insert(last, "add", "strayed", x=last.outputs[0].name)
    binding = added.inputs["y"].arguments.add().value
    binding.type.tensorType.dataType = FLOAT16
    binding.immediateValue.tensor.bytes.values = value.tobytes()
    package.maker(OUTPUT).inputs["x"].arguments[0].name = "strayed"


def unheard_of(package: Package, rng: Rng) -> None:
    """An operation that nobody here knows."""
    pick(rng, _large(package)).type = "elu"


# --- types ------------------------------------------------------------------------------------------------------------


def inner(package: Package, rng: Rng) -> Any:
    """An operation on large tensors in the middle of the network."""
    return pick(rng, [o for o in package.kind("conv") if "branch_expand" in given(o, "weight")])


def through_half(package: Package, rng: Rng) -> None:
    """A tensor cast to fp16 and back in a float32 package."""
    operation = inner(package, rng)
    name = operation.outputs[0].name
    half = package.insert(operation, "cast", f"{name}_half", x=name)
    half.outputs[0].type.tensorType.dataType = FLOAT16
    half.inputs["dtype"].arguments.add().value.CopyFrom(_text("fp16"))
    back = package.insert(half, "cast", f"{name}_back", x=f"{name}_half")
    back.outputs[0].type.tensorType.dataType = FLOAT32
    back.inputs["dtype"].arguments.add().value.CopyFrom(_text("fp32"))
    package.rewire(name, f"{name}_back", but=[half])


def _text(text: str) -> Any:
    from coremltools.proto import MIL_pb2

    value = MIL_pb2.Value()
    value.type.tensorType.dataType = MIL_pb2.DataType.Value("STRING")
    value.immediateValue.tensor.strings.values.append(text)
    return value


def declared_half(package: Package, rng: Rng) -> None:
    """A tensor of a float32 package declared fp16, with no cast to make it that."""
    inner(package, rng).outputs[0].type.tensorType.dataType = FLOAT16


def declared_single(package: Package, rng: Rng) -> None:
    """A tensor of an fp16 package declared float32: more exact for whoever believes it, and refused by Core ML."""
    inner(package, rng).outputs[0].type.tensorType.dataType = FLOAT32


def contradicting_cast(package: Package, rng: Rng) -> None:
    """A cast to fp16 whose result is declared float32."""
    del rng
    giving(package, package.maker(OUTPUT), "dtype", "fp16")


def overflowing(package: Package, rng: Rng) -> None:
    """One layer scaled up and the next scaled down: nothing happens but in fp16, where it is infinite between."""
    ending = pick(rng, ["ffn1_branch", "ffn2_branch"])
    expand = pick(rng, package.weighted(f"{ending}_expand_weight"))
    prefix = given(expand, "weight").partition("_expand_")[0]
    for part, factor in (("expand_weight", 1e4), ("expand_bias", 1e4), ("project_weight", 1e-4)):
        (blob,) = [blob for name, blob in package.blobs().items() if name.startswith(f"{prefix}_{part}")]
        values = blob.values.astype(np.float64) * factor
        assert np.abs(values).max() < 65504
        blob.values = values
