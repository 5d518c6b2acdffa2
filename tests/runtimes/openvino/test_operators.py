"""What OpenVINO's operations compute: graphs of one operation, against OpenVINO's own CPU plugin in float32."""

from collections.abc import Callable
from typing import Any

import numpy as np
import openvino as ov
import openvino.opset1 as op1
import openvino.opset8 as op8
import openvino.opset14 as op
import openvino.opset15 as op15
import pytest
from numpy.typing import NDArray
from openvino.utils.node_factory import NodeFactory

from efficientvit.errors import BrokenArtifact
from runtimes.evaluator.evaluator import Arithmetic, Evaluator
from runtimes.openvino.operators import OPENVINO
from runtimes.openvino.program import read_program

Node = Any
Build = Callable[..., Node]
"""Inputs of the graph -> the operation, or its outputs."""

IMAGE = (2, 4, 8, 6)


def const(value: Any, dtype: Any = np.float32) -> Node:
    return op.constant(np.array(value, dtype))


def ints(*values: int) -> Node:
    return const(values, np.int64)


def number(value: int) -> Node:
    return const(value, np.int64)


def drawn(*shape: int, seed: int = 1) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def both(build: Build, *shapes: tuple[int, ...], dynamic: bool = False, positive: bool = False) -> None:
    """Every output of the operation is OpenVINO's."""
    inputs = [op.parameter([-1, *s[1:]] if dynamic else list(s), np.float32, name=f"x{i}")
              for i, s in enumerate(shapes)]  # fmt: skip
    node = build(*inputs)
    results = [op.result(output) for output in (node if isinstance(node, list) else node.outputs())]
    model = ov.Model(results, inputs, "one")
    feeds = [2 * drawn(*shape, seed=index) for index, shape in enumerate(shapes)]
    if positive:
        feeds = [abs(feed) + 0.1 for feed in feeds]
    program = read_program(model)
    answer = Evaluator(program, Arithmetic.FLOAT32, OPENVINO)(dict(zip(program.inputs, feeds, strict=True)))
    wanted = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(feeds)
    for index, name in enumerate(program.outputs):
        got = answer[name].numpy()
        assert got.dtype == wanted[index].dtype
        np.testing.assert_allclose(got, wanted[index], rtol=2e-5, atol=2e-5)


UNARY: dict[str, Build] = {
    "abs": op.abs, "ceiling": op.ceiling, "cos": op.cos, "erf": op.erf, "exp": op.exp, "floor": op.floor,
    "hsigmoid": op.hsigmoid, "hswish": op.hswish, "mish": op.mish, "negative": op.negative,
    "relu": op.relu, "sigmoid": op.sigmoid, "sign": op.sign, "sin": op.sin, "softplus": op.softplus,
    "softsign": op.softsign, "tanh": op.tanh, "swish": op.swish,
    "swish of a beta": lambda x: op.swish(x, const(0.7)),
    "clamp": lambda x: op.clamp(x, -0.5, 1.0),
    "elu": lambda x: op.elu(x, 0.7),
    "gelu": lambda x: op.gelu(x, "erf"),
    "gelu by tanh": lambda x: op.gelu(x, "tanh"),
    "hard sigmoid": lambda x: op.hard_sigmoid(x, const(0.3), const(0.4)),
    "selu": lambda x: op.selu(x, const(1.5), const(1.1)),
    "round": lambda x: op.round(x, "half_to_even"),
    "softmax": lambda x: op.softmax(x, 1),
    "softmax from the end": lambda x: op8.softmax(x, -2),
    "softmax-1": lambda x: op1.softmax(x, 2),
    "log softmax": lambda x: op.log_softmax(x, 1),
    "prelu": lambda x: op.prelu(x, const([0.3])),
    "prelu of the channels": lambda x: op.prelu(x, const([0.1, 0.2, 0.3, 0.4])),
    "prelu of the last axis": lambda x: op.prelu(x, const(np.linspace(0, 1, 6))),
    "prelu of all axes": lambda x: op.prelu(x, const(np.linspace(0, 1, 4).reshape(1, 4, 1, 1))),
    "convert": lambda x: op.convert(op.convert(x, "i32"), "f32"),
    "convert to truth": lambda x: op.convert(op.greater(x, const(0.2)), "f32"),
    "convert like": lambda x: op.convert_like(op.convert(x, "i64"), x),
}  # fmt: skip


@pytest.mark.parametrize("name", UNARY)
def test_of_one_operand(name: str) -> None:
    both(UNARY[name], IMAGE)


@pytest.mark.parametrize("build", [op.log, op.sqrt], ids=["log", "sqrt"])
def test_of_a_positive_operand(build: Build) -> None:
    both(build, IMAGE, positive=True)


ARITHMETIC: dict[str, Build] = {
    "add": op.add, "subtract": op.subtract, "multiply": op.multiply, "divide": op.divide, "maximum": op.maximum,
    "minimum": op.minimum, "squared difference": op.squared_difference, "power": op.power,
}  # fmt: skip
COMPARED: dict[str, Build] = {
    "equal": op.equal, "not equal": op.not_equal, "greater": op.greater, "greater equal": op.greater_equal,
    "less": op.less, "less equal": op.less_equal,
}  # fmt: skip


@pytest.mark.parametrize("shape", [IMAGE, (4, 1, 1), (6,), (2, 1, 8, 1)], ids=str)
@pytest.mark.parametrize("name", ARITHMETIC)
def test_of_two_operands(name: str, shape: tuple[int, ...]) -> None:
    both(ARITHMETIC[name], IMAGE, shape, positive=name == "power")


@pytest.mark.parametrize("name", COMPARED)
def test_comparisons(name: str) -> None:
    both(lambda a, b: COMPARED[name](op.round(a, "half_to_even"), op.round(b, "half_to_even")), IMAGE, IMAGE)


@pytest.mark.parametrize("build", [op.logical_and, op.logical_or, op.logical_xor], ids=["and", "or", "xor"])
def test_logic(build: Build) -> None:
    both(lambda a, b: build(op.greater(a, const(0)), op.logical_not(op.less(b, const(0)))), IMAGE, IMAGE)


@pytest.mark.parametrize("build", [op.mod, op.floor_mod], ids=["mod", "floor_mod"])
@pytest.mark.parametrize("divisor", [3, -3])
def test_remainders(build: Build, divisor: int) -> None:
    both(lambda x: build(op.convert(op.multiply(x, const(5)), "i32"), const(divisor, np.int32)), IMAGE)


def test_division_of_integers() -> None:
    both(lambda x: op.divide(op.convert(op.multiply(x, const(5)), "i32"), const(3, np.int32)), IMAGE, positive=True)


def test_select() -> None:
    both(lambda a, b: op.select(op.greater(a, b), a, const(0.5)), IMAGE, IMAGE)


@pytest.mark.parametrize("transposed", [(False, False), (True, False), (False, True), (True, True)], ids=str)
def test_matrix_product(transposed: tuple[bool, bool]) -> None:
    a = (2, 5, 3) if transposed[0] else (2, 3, 5)
    b = (1, 4, 5) if transposed[1] else (1, 5, 4)
    both(lambda x, y: op.matmul(x, y, *transposed), a, b)


def test_matrix_product_with_a_vector() -> None:
    both(lambda x, y: op.matmul(x, y, False, True), (3, 5), (5,))


QKV = ((2, 3, 5, 4), (2, 3, 6, 4), (2, 3, 6, 7))
ATTENTION: dict[str, Build] = {
    "plain": op.scaled_dot_product_attention,
    "causal": lambda q, k, v: op.scaled_dot_product_attention(q, k, v, causal=True),
    "masked": lambda q, k, v: op.scaled_dot_product_attention(q, k, v, const(drawn(5, 6))),
    "masked by truth values": lambda q, k, v: op.scaled_dot_product_attention(
        q, k, v, const(np.tri(5, 6, 1), np.bool_)
    ),
    "scaled": lambda q, k, v: op.scaled_dot_product_attention(q, k, v, const(drawn(5, 6)), const(0.7)),
    "no mask but a scale": lambda q, k, v: op.scaled_dot_product_attention(q, k, v, const(0.0), const(0.7)),
    "causal and scaled": lambda q, k, v: op.scaled_dot_product_attention(
        q, k, v, const(drawn(5, 6)), const(0.7), causal=True
    ),
}


@pytest.mark.parametrize("name", ATTENTION)
def test_attention(name: str) -> None:
    both(ATTENTION[name], *QKV)


@pytest.mark.parametrize(("levels", "low", "high"), [(256, -1.28, 1.27), (255, -1.27, 1.27), (16, 0.0, 1.5)])
def test_fake_quantize(levels: int, low: float, high: float) -> None:
    both(lambda x: op.fake_quantize(x, const(low), const(high), const(low), const(high), levels), IMAGE)


def test_fake_quantize_of_channels() -> None:
    low, high = (const(np.reshape(each, (1, 4, 1, 1))) for each in ([-1, -2, -3, 0], [1, 2, 0.5, 3]))
    both(lambda x: op.fake_quantize(x, low, high, op.multiply(low, const(2)), high, 256), IMAGE)


WINDOWS: dict[str, dict[str, Any]] = {
    "plain": {},
    "strided": {"strides": [2, 2]},
    "padded": {"pads_begin": [1, 1], "pads_end": [1, 1]},
    "padded unevenly": {"strides": [2, 2], "pads_begin": [0, 1], "pads_end": [1, 2]},
    "dilated": {"dilations": [2, 1]},
    "same upper": {"strides": [2, 2], "auto_pad": "same_upper"},
    "same lower": {"strides": [2, 2], "auto_pad": "same_lower"},
    "same lower, dilated": {"dilations": [2, 2], "auto_pad": "same_lower"},
    "valid": {"pads_begin": [1, 1], "pads_end": [1, 1], "auto_pad": "valid"},
}
_PLAIN = {"strides": [1, 1], "pads_begin": [0, 0], "pads_end": [0, 0]}


@pytest.mark.parametrize("name", WINDOWS)
def test_convolution(name: str) -> None:
    window = {**_PLAIN, "dilations": [1, 1], **WINDOWS[name]}
    both(lambda x: op.convolution(x, const(drawn(5, 4, 3, 2)), **window), IMAGE)
    both(lambda x: op.group_convolution(x, const(drawn(2, 3, 2, 3, 2)), **window), IMAGE)


@pytest.mark.parametrize("exclude", [False, True])
@pytest.mark.parametrize("name", [name for name, window in WINDOWS.items() if "dilations" not in window])
def test_average(name: str, exclude: bool) -> None:
    window = {**_PLAIN, **WINDOWS[name]}
    both(lambda x: op.avg_pool(x, **window, kernel_shape=[3, 3], exclude_pad=exclude), IMAGE)


@pytest.mark.parametrize("name", WINDOWS)
def test_greatest(name: str) -> None:
    window = {**_PLAIN, **WINDOWS[name]}
    own = {"dilations": [1, 1], **window}
    both(lambda x: [op.max_pool(x, **own, kernel_shape=[3, 3]).output(0)], IMAGE)
    if "dilations" not in window:
        both(lambda x: op1.max_pool(x, **window, kernel_shape=[3, 3]), IMAGE)


RESIZED = [
    (mode, places)
    for mode in ("linear", "linear_onnx", "nearest", "cubic")
    for places in ("half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners")
]


@pytest.mark.parametrize(("mode", "places"), RESIZED)
@pytest.mark.parametrize("size", [(16, 12), (5, 9)], ids=str)
def test_interpolate(mode: str, places: str, size: tuple[int, int]) -> None:
    both(
        lambda x: op.interpolate(x, ints(*size), mode, "sizes", coordinate_transformation_mode=places, axes=ints(2, 3)),
        IMAGE,
    )


def test_interpolate_by_scales() -> None:
    both(lambda x: op.interpolate(x, const([1.5, 2]), "linear", "scales", axes=ints(2, 3)), IMAGE)


OVER_AXES: dict[str, Build] = {
    "mean": op.reduce_mean, "sum": op.reduce_sum, "max": op.reduce_max, "min": op.reduce_min, "l1": op.reduce_l1,
    "l2": op.reduce_l2, "prod": op.reduce_prod,
}  # fmt: skip


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("axes", [(1,), (2, 3), (-1, 0)], ids=str)
@pytest.mark.parametrize("name", OVER_AXES)
def test_reductions(name: str, axes: tuple[int, ...], keep: bool) -> None:
    both(lambda x: OVER_AXES[name](x, ints(*axes), keep), (2, 3, 4, 3))


NORMALIZED: dict[str, Build] = {
    "batch": lambda x: op.batch_norm_inference(
        x, const(drawn(4)), const(drawn(4, seed=2)), const(drawn(4, seed=3)), const(abs(drawn(4, seed=4))), 1e-3
    ),
    "batch-1": lambda x: op1.batch_norm_inference(
        x, const(drawn(4)), const(drawn(4, seed=2)), const(drawn(4, seed=3)), const(abs(drawn(4, seed=4))), 1e-3
    ),
    "mvn": lambda x: op.mvn(x, ints(2, 3), True, 1e-2, "inside_sqrt"),
    "mvn, outside": lambda x: op.mvn(x, ints(1), True, 1e-2, "outside_sqrt"),
    "mvn, mean alone": lambda x: op.mvn(x, ints(-1), False, 1e-2, "inside_sqrt"),
    "l2": lambda x: op.normalize_l2(x, ints(1), 0.5, "add"),
    "l2, at least": lambda x: op.normalize_l2(x, ints(1), 9.0, "max"),
    "group": lambda x: op.group_normalization(x, const(drawn(4)), const(drawn(4, seed=2)), 2, 1e-2),
}


@pytest.mark.parametrize("name", NORMALIZED)
def test_normalizations(name: str) -> None:
    both(NORMALIZED[name], IMAGE)


def strided(begin: Any, end: Any, stride: Any, **masks: list[int]) -> Build:
    own = {"begin_mask": [0] * len(begin), "end_mask": [0] * len(begin), **masks}
    return lambda x: op.strided_slice(x, ints(*begin), ints(*end), ints(*stride), **own)


MOVED: dict[str, Build] = {
    "reshape": lambda x: op.reshape(x, ints(2, -1, 6), False),
    "reshape, special zero": lambda x: op.reshape(x, ints(0, 0, -1), True),
    "transpose": lambda x: op.transpose(x, ints(0, 2, 3, 1)),
    "transpose, reversed": lambda x: op.transpose(x, const([], np.int64)),
    "squeeze": lambda x: op.squeeze(op.unsqueeze(x, ints(0, -1)), ints(0, -1)),
    "squeeze, one": lambda x: op.squeeze(op.unsqueeze(x, ints(0, 2)), ints(2)),
    "unsqueeze": lambda x: op.unsqueeze(x, ints(3, 1)),
    "concat": lambda x: op.concat([x, op.relu(x), const(drawn(2, 1, 8, 6))], 1),
    "concat from the end": lambda x: op.concat([x, op.relu(x)], -1),
    "split": lambda x: op.split(x, number(1), 2),
    "split from the end": lambda x: op.split(x, number(-1), 3),
    "variadic split": lambda x: op.variadic_split(x, number(2), ints(1, -1, 2)),
    "slice": lambda x: op.slice(x, ints(1, 0), ints(100, -1), ints(2, 1), ints(2, 3)),
    "slice backwards": lambda x: op.slice(x, ints(-1), ints(-100), ints(-2), ints(2)),
    "slice of all axes": lambda x: op.slice(x, ints(0, 1, 2, 3), ints(1, 3, 7, 5), ints(1, 1, 3, 1)),
    "strided slice": strided((0, 1, 2, 0), (2, 4, 8, 5), (1, 2, 3, 1)),
    "strided slice, fewer": strided((0, 1), (1, 3), (1, 1)),
    "strided slice, edges": strided((1, 1, 2, 1), (1, 2, 3, 2), (1, 1, 2, 1),
                                    begin_mask=[1, 0, 1, 0], end_mask=[1, 1, 0, 0]),
    "strided slice backwards": strided((0, 0, 7, 0), (0, 0, 2, 0), (1, 1, -2, -1),
                                       begin_mask=[1, 1, 0, 1], end_mask=[1, 1, 0, 1]),
    "strided slice, new axis": strided((0, 0, 0), (0, 2, 2), (1, 1, 1), new_axis_mask=[1, 0, 0]),
    "strided slice, shrunk": strided((0, -1, 0), (0, 0, 3), (1, 1, 1), shrink_axis_mask=[0, 1, 0],
                                     begin_mask=[1, 0, 0], end_mask=[1, 0, 0]),
    "strided slice, ellipsis": strided((0, 0, 1), (1, 0, 4), (1, 1, 1), ellipsis_mask=[0, 1, 0]),
    "strided slice, of all": strided((0, 0, 2, 0), (0, 0, 3, 0), (1, 1, 1, 1), ellipsis_mask=[1, 0, 0, 0],
                                     shrink_axis_mask=[0, 0, 1, 0], new_axis_mask=[0, 1, 0, 0], begin_mask=[0, 0, 0, 1],
                                     end_mask=[0, 0, 0, 1]),
    "gather": lambda x: op.gather(x, ints(3, 0, -1), number(1)),
    "gather one": lambda x: op.gather(x, number(1), number(2)),
    "gather a table": lambda x: op.gather(x, const([[0, 1], [2, 2]], np.int32), number(-1)),
    "pad": lambda x: op.pad(x, ints(0, 1, 2, 0), ints(0, 0, 1, 3), "constant", const(0.5)),
    "pad with 0": lambda x: op.pad(x, ints(0, 1, 2, 0), ints(0, 0, 1, 3), "constant"),
    "pad by less than 0": lambda x: op.pad(x, ints(0, 0, -1, 0), ints(0, 0, 1, -2), "constant"),
    "pad at the edge": lambda x: op.pad(x, ints(0, 1, 2, 0), ints(0, 0, 1, 3), "edge"),
    "pad, reflected": lambda x: op.pad(x, ints(0, 1, 2, 0), ints(0, 0, 1, 3), "reflect"),
    "pad, symmetric": lambda x: op.pad(x, ints(0, 1, 2, 0), ints(0, 0, 1, 3), "symmetric"),
    "broadcast": lambda x: op.broadcast(op.reduce_sum(x, ints(1), True), ints(3, 2, 5, 8, 6)),
    "broadcast, bidirectional": lambda x: op.broadcast(x, ints(3, 1, 1, 1, 6), broadcast_spec="bidirectional"),
    "broadcast, explicit": lambda x: op.broadcast(
        op.reduce_sum(x, ints(0, 2)), ints(5, 4, 2, 6), ints(1, 3), "explicit"
    ),
    "tile": lambda x: op.tile(x, ints(1, 2, 1, 3)),
    "tile, more axes": lambda x: op.tile(x, ints(3, 1, 2, 1, 1)),
    "tile, fewer axes": lambda x: op.tile(x, ints(2, 2)),
    "depth to space": lambda x: op.depth_to_space(op.concat([x, op.exp(x)], 1), "blocks_first", 2),
    "depth to space, depth first": lambda x: op.depth_to_space(op.concat([x, op.exp(x)], 1), "depth_first", 2),
    "space to depth": lambda x: op.space_to_depth(x, "blocks_first", 2),
    "space to depth, depth first": lambda x: op.space_to_depth(x, "depth_first", 2),
    "shuffled channels": lambda x: op.shuffle_channels(x, 1, 2),
    "greatest two": lambda x: op.topk(x, number(2), 1, "max", "value"),
    "least three": lambda x: op.topk(x, number(3), -1, "min", "value", "i64"),
    "shape": op.shape_of,
    "shape in 32 bits": lambda x: op.shape_of(x, "i32"),
    "range": lambda x: op.add(
        op.convert(op.range(number(0), op.gather(op.shape_of(x), number(3), number(0)), number(1), "i64"), "f32"), x
    ),
}  # fmt: skip


@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
@pytest.mark.parametrize("name", MOVED)
def test_what_moves_values(name: str, dynamic: bool) -> None:
    if dynamic and name.startswith("concat") and "end" not in name:
        pytest.skip("a constant of another batch")
    both(MOVED[name], IMAGE, dynamic=dynamic)


@pytest.mark.parametrize("by", ["scales", "sizes"])
def test_interpolate_of_opset_4(by: str) -> None:
    attributes = {
        "mode": "linear_onnx", "shape_calculation_mode": by, "pads_begin": [0] * 4, "pads_end": [0] * 4,
        "coordinate_transformation_mode": "half_pixel",
    }  # fmt: skip

    def build(x: Node) -> Node:
        operands = [x, ints(4, 9), const([0.5, 1.5]), ints(2, 3)]
        return NodeFactory("opset4").create("Interpolate", [each.output(0) for each in operands], attributes)

    both(build, IMAGE)


def test_squeeze_that_skips_axes() -> None:
    both(lambda x: op15.squeeze(x, ints(0, 1), True), (1, 4, 5))


REFUSED: dict[str, tuple[Build, str]] = {
    "an unsupported kind": (lambda x: op.random_uniform(op.shape_of(x), const(0), const(1), "f32"), "RandomUniform"),
    "state": (lambda x: op.read_value(x, "v"), "ReadValue"),
    "values that depend on their number": (lambda x: op.convert(op.non_zero(x), "f32"), "NonZero"),
    "8-bit floats": (lambda x: op.fake_convert(x, const(1)), "FakeConvert"),
    "batched indices": (
        lambda x: op.gather(x, const(np.zeros((2, 1)), np.int64), number(1), 1), "batch_dims 1",
    ),
    "integers below 0 divided": (
        lambda x: op.divide(op.convert(op.multiply(x, const(5)), "i32"), const(3, np.int32)), "integers below 0",
    ),
    "more than the padding": (
        lambda x: op.avg_pool(x, [3, 3], [0, 0], [0, 0], [2, 2], False, "ceil"), "rounding_type ceil",
    ),
    "the places of the greatest": (
        lambda x: op.max_pool(x, [1, 1], [1, 1], [0, 0], [0, 0], [2, 2]), "MaxPool",
    ),
    "antialiasing": (
        lambda x: op.interpolate(x, ints(4, 3), "linear_onnx", "sizes", antialias=True, axes=ints(2, 3)), "antialias",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_name(name: str) -> None:
    build, word = REFUSED[name]
    x = op.parameter(list(IMAGE), np.float32, name="x")
    model = ov.Model([op.result(output) for output in build(x).outputs()], [x], "one")
    program = read_program(model)
    with pytest.raises(BrokenArtifact) as caught:
        Evaluator(program, Arithmetic.FLOAT32, OPENVINO)({"x": drawn(*IMAGE)})
    assert word in str(caught.value)
