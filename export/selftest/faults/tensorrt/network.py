"""Faults in what TensorRT's importer made of a file that is as it should be."""

from dataclasses import replace

import numpy as np

from export.selftest.faults.fault import Rng, Table, alike, next_up, one_changed, pick
from export.selftest.faults.tensorrt.program import (
    attribute,
    declared,
    misread,
    of_kind,
    reading,
    relus,
    retyped,
    with_attribute,
    with_changed,
)
from runtimes.evaluator.program import Constant, Operation, Program, TensorType

fault = Table("tensorrt", misread)


@fault("precision", "fp32 parse")
def narrow_tensor(program: Program, rng: Rng) -> Program:
    """A tensor in float16 where float32 was asked for."""
    operation = pick(rng, of_kind(program, "convolution"))
    return retyped(program, operation, "fp16")


@fault("operators", "fp16 parse")
def brain_tensor(program: Program, rng: Rng) -> Program:
    """A tensor in bfloat16 where float16 was asked for."""
    operation = pick(rng, of_kind(program, "convolution"))
    return retyped(program, operation, "bf16")


@fault("operators", "fp16 parse", program=False)
def wide_tensor(program: Program, rng: Rng) -> Program:
    """A tensor that is float32 though what makes it is float16: nothing is wrong with its values."""
    operation = pick(rng, of_kind(program, "convolution"))
    return retyped(program, operation, "fp32")


@fault("operators", "fp16 parse")
def brain_detour(program: Program, rng: Rng) -> Program:
    """Between two casts, by way of bfloat16: no layer mixes its types."""
    operation = pick(rng, of_kind(program, "activation"))
    kind, raw = declared(operation), f"{operation.name} before"
    detour = [replace(operation, outputs=((raw, kind),))]
    constants = dict(program.constants)
    for source, name, dtype in ((raw, f"{raw}, brain", "bf16"), (f"{raw}, brain", operation.name, "fp16")):
        constants[f"{name}:to"] = Constant(dtype, TensorType("attribute", ()))
        inputs = {"x": source, "to": f"{name}:to"}
        detour.append(Operation("cast", inputs, ((name, replace(kind, dtype=dtype)),)))
    at = program.operations.index(operation)
    operations = (*program.operations[:at], *detour, *program.operations[at + 1 :])
    return replace(program, operations=operations, constants=constants)


@fault("interface", "int8 parse")
def integer_declared_float(program: Program, rng: Rng) -> Program:
    """A quantized tensor that the network says is float32."""
    operation = pick(rng, of_kind(program, "quantize"))
    return retyped(program, operation, "fp32")


@fault("structure", "fp32 parse", "fp16 parse")
def swapped_kernels(program: Program, rng: Rng) -> Program:
    """Two convolutions of one shape read each other's kernel: the constants are as they should be."""
    found = [o for o in of_kind(program, "convolution") if isinstance(o.inputs["kernel"], str)]
    shapes = {o.name: np.shape(program.constants[str(o.inputs["kernel"])].value) for o in found}
    one, other = pick(rng, alike(found, lambda o: shapes[o.name]))
    changed = reading(program, one, kernel=other.inputs["kernel"])
    return reading(changed, other, kernel=one.inputs["kernel"])


@fault("constants", "fp16 parse")
def transposed_kernel(program: Program, rng: Rng) -> Program:
    """A square kernel whose channels changed places."""
    found = of_kind(program, "convolution")
    square = [o for o in found if len(set(np.shape(attribute(program, o, "kernel"))[:2])) == 1 and o.kind]
    operation = pick(rng, [o for o in square if np.shape(attribute(program, o, "kernel"))[0] > 1])
    return with_attribute(
        program, operation, "kernel", attribute(program, operation, "kernel").transpose(1, 0, 2, 3).copy()
    )


@fault("structure", "fp32 parse")
def transposed_operand(program: Program, rng: Rng) -> Program:
    """Attention's weights turned round in their product with the values: the shapes still fit."""
    types = program.types()
    square = [
        (o, key, side)
        for o in of_kind(program, "matrix_multiply")
        for key, side in (("x", "first"), ("y", "second"))
        if str(o.inputs[key]) in types and len(set(types[str(o.inputs[key])].shape[-2:])) == 1
    ]
    operation, _, side = pick(rng, square)
    turned = "NONE" if attribute(program, operation, side) == "TRANSPOSE" else "TRANSPOSE"
    return with_attribute(program, operation, side, turned)


@fault("interface", "fp32 parse", program=True)
def wrong_stride(program: Program, rng: Rng) -> Program:
    """A convolution that does not stride, and so gives what the network does not declare."""
    operation = pick(rng, [o for o in of_kind(program, "convolution") if attribute(program, o, "stride") == [2, 2]])
    return with_attribute(program, operation, "stride", [1, 1])


@fault("structure", "fp16 parse")
def shifted_padding(program: Program, rng: Rng) -> Program:
    """All the padding on one side."""
    operation = pick(rng, [o for o in of_kind(program, "convolution") if attribute(program, o, "before") == [1, 1]])
    return with_attribute(with_attribute(program, operation, "before", [2, 2]), operation, "after", [0, 0])


@fault("interface", "fp32 parse", program=True)
def wrong_groups(program: Program, rng: Rng) -> Program:
    """A depthwise convolution read as a dense one."""
    operation = pick(rng, [o for o in of_kind(program, "convolution") if attribute(program, o, "groups") > 1])
    return with_attribute(program, operation, "groups", 1)


@fault("structure", "fp16 parse")
def wrong_softmax(program: Program, rng: Rng) -> Program:
    """A softmax over the other axis."""
    operation = pick(rng, of_kind(program, "softmax"))
    (axis,) = attribute(program, operation, "axes")
    return with_attribute(program, operation, "axes", [3 - axis])


@fault("structure", "fp16 parse")
def dropped_layer(program: Program, rng: Rng) -> Program:
    """A residual addition that hands on its first operand."""
    types = program.types()
    sums = [
        o
        for o in of_kind(program, "elementwise")
        if attribute(program, o, "op") == "SUM" and len(declared(o).shape) == 4
    ]
    operation = pick(rng, [o for o in sums if types.get(str(o.inputs["x"])) == types.get(str(o.inputs["y"]))])
    return with_changed(program, operation, kind="identity", inputs={"x": operation.inputs["x"]})


@fault("structure", "int8 parse")
def dropped_relu(program: Program, rng: Rng) -> Program:
    """An activation that lets everything through."""
    operation = pick(rng, relus(program))
    return with_changed(program, operation, kind="identity", inputs={"x": operation.inputs["x"]})


@fault("structure", "fp16 parse")
def leaky_relu(program: Program, rng: Rng) -> Program:
    """A thousandth of what is negative comes through."""
    operation = pick(rng, relus(program)[:8])
    return with_attribute(with_attribute(program, operation, "function", "LEAKY_RELU"), operation, "alpha", 1e-3)


@fault("structure", "fp32 parse")
def greatest_for_mean(program: Program, rng: Rng) -> Program:
    """A pooling that takes the largest in place of the mean."""
    operation = pick(rng, of_kind(program, "reduce"))
    return with_attribute(program, operation, "op", "MAX")


@fault("interface", "fp32 parse", program=True)
def wrong_reduce(program: Program, rng: Rng) -> Program:
    """A mean over the rows alone, which leaves another shape than the network declares."""
    operation = pick(rng, of_kind(program, "reduce"))
    return with_attribute(program, operation, "axes", [3])


@fault("structure", "fp32 parse")
def difference(program: Program, rng: Rng) -> Program:
    """A subtraction in place of an addition."""
    operation = pick(rng, [o for o in of_kind(program, "elementwise") if attribute(program, o, "op") == "SUM"])
    return with_attribute(program, operation, "op", "SUB")


@fault("structure", "fp16 parse")
def another_head(program: Program, rng: Rng) -> Program:
    """A head that is given the first head's channels."""
    heads = [
        o for o in of_kind(program, "slice") if str(o.inputs["start"]) in program.constants
    ]  # padding's is computed
    operation = pick(rng, [o for o in heads if attribute(program, o, "start")[1] > 0])
    start = attribute(program, operation, "start")
    return with_attribute(program, operation, "start", [start[0], 0, *start[2:]])


@fault("structure", "fp32 parse")
def heads_in_another_order(program: Program, rng: Rng) -> Program:
    """What the heads say joined in another order."""
    operation = pick(rng, of_kind(program, "concatenation"))
    first, *rest = operation.inputs["values"]
    return reading(program, operation, values=(*rest, first))


@fault("structure", "fp32 parse")
def lost_permutation(program: Program, rng: Rng) -> Program:
    """A transposition that became a reshape to the same shape."""
    found = [o for o in of_kind(program, "shuffle") if "first" in o.inputs or "second" in o.inputs]
    operation = pick(rng, found)
    name = f"{operation.name}:shape"
    constants = {**program.constants, name: Constant(list(declared(operation).shape), TensorType("attribute", ()))}
    inputs = {"x": operation.inputs["x"], "shape": name, "zero_keeps": operation.inputs["zero_keeps"]}
    return with_changed(replace(program, constants=constants), operation, inputs=inputs)


@fault("structure", "fp16 parse")
def lost_bias(program: Program, rng: Rng) -> Program:
    """A convolution that forgot to add its bias: the constant is there."""
    operation = pick(rng, [o for o in of_kind(program, "convolution") if "project" in str(o.inputs.get("bias"))])
    return with_changed(program, operation, inputs={k: v for k, v in operation.inputs.items() if k != "bias"})


@fault("constants", "fp16 parse")
def kernel_bit(program: Program, rng: Rng) -> Program:
    """The last bit of one weight."""
    operation = pick(rng, [o for o in of_kind(program, "convolution") if str(o.inputs["kernel"]) in program.constants])
    kernel = one_changed(np.array(attribute(program, operation, "kernel")), rng, next_up)
    return with_attribute(program, operation, "kernel", kernel)


@fault("constants", "int8 parse")
def altered_scale(program: Program, rng: Rng) -> Program:
    """The scale of an activation off by a thousandth."""
    operation = pick(rng, of_kind(program, "quantize"))
    return with_attribute(
        program, operation, "scale", np.asarray(attribute(program, operation, "scale") * np.float32(1.001))
    )


@fault("execution", "int8 parse")
def another_scale(program: Program, rng: Rng) -> Program:
    """A quantizer that reads another tensor's scale: the constants are as they should be."""
    found = of_kind(program, "quantize")
    one, other = pick(rng, [(a, b) for a in found for b in found if _far(program, a, b)])
    return reading(program, one, scale=other.inputs["scale"])


def _far(program: Program, one: Operation, other: Operation) -> bool:
    ratio = float(attribute(program, one, "scale")) / float(attribute(program, other, "scale"))
    return not 0.8 < ratio < 1.25


@fault("execution", "int8 parse")
def bypassed_quantizer(program: Program, rng: Rng) -> Program:
    """A convolution that reads the tensor before its quantizer."""
    by_name = {o.name: o for o in program.operations}
    found = [o for o in of_kind(program, "convolution") if by_name.get(str(o.inputs["x"]), o).kind == "dequantize"]
    operation = pick(rng, found)
    raw = by_name[str(by_name[str(operation.inputs["x"])].inputs["x"])].inputs["x"]
    return reading(program, operation, x=raw)


@fault("interface", "int8 parse", program=True)
def zero_point(program: Program, rng: Rng) -> Program:
    """A quantizer whose zero is three."""
    operation = pick(rng, of_kind(program, "quantize"))
    constants = {**program.constants, "three": Constant(np.array(3, np.int8), TensorType("int8", ()))}
    return with_changed(replace(program, constants=constants), operation, inputs={**operation.inputs, "zero": "three"})


@fault("interface", "fp16 parse", program=True)
def unknown_layer(program: Program, rng: Rng) -> Program:
    """A layer of a kind that is not known here."""
    return with_changed(program, pick(rng, of_kind(program, "reduce")), kind="topk")


@fault("interface", "fp16 parse")
def renamed_output(program: Program, rng: Rng) -> Program:
    """The logits under another name."""
    (operation,) = [o for o in program.operations if o.name == program.outputs[0]]
    return replace(with_changed(program, operation, outputs=(("scores", declared(operation)),)), outputs=("scores",))
