"""What each TensorRT layer computes: networks of one layer, made by TensorRT's API and read back, against plain loops.

That way the attributes' meaning is tested with the arithmetic, and the shapes are TensorRT's own: an evaluation that
gives another shape than the network declares is an error. Values are multiples of 1/8 below 4 where sums and products
are to be exact and what is left to compare is which values were taken from where.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from efficientvit.errors import BrokenArtifact
from runtimes.evaluator.evaluator import Arithmetic, Evaluator
from runtimes.evaluator.field.residues import Residues
from runtimes.evaluator.field.sizes import computed, sizes
from runtimes.evaluator.field.tensor import Field, NoMeaning
from runtimes.evaluator.program import Constant, Operation, Program, TensorType
from runtimes.tensorrt.api import RTX, engine_logger, product
from runtimes.tensorrt.network import read_network
from runtimes.tensorrt.operators import LAYERS, OPERATORS

trt = pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is made for Linux and Windows")

Array = NDArray[Any]
Tensor = Any
"""A tensor of a TensorRT network."""

FEW, MANY = settings(max_examples=40), settings(max_examples=120)
_TYPED = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
_LOGGER = engine_logger(product(RTX))[0]
_BUILDER = trt.Builder(_LOGGER)


class Net:
    """A network under construction; its inputs are float tensors with the values that they will be fed."""

    def __init__(self) -> None:
        self.network = _BUILDER.create_network(_TYPED)
        self._feeds: dict[str, Array] = {}
        self._held: list[Array] = []  # the network refers to this memory

    def given(self, value: Array) -> Tensor:
        """An input."""
        name = f"x{len(self._feeds)}"
        self._feeds[name] = value
        return self.network.add_input(name, trt.float32, value.shape)

    def constant(self, value: Any, dtype: Any = np.float32) -> Tensor:
        array = np.ascontiguousarray(value, dtype)
        self._held.append(array)
        return self.network.add_constant(np.shape(value), array).get_output(0)

    def result(self, layer: Any, arithmetic: Arithmetic = Arithmetic.FLOAT32) -> Array:
        """What the evaluator makes of the network that ends with this layer."""
        self.network.mark_output(layer.get_output(0))
        program = read_network(self.network, trt)
        (answer,) = Evaluator(program, arithmetic, language=LAYERS)(self._feeds).values()
        assert tuple(answer.shape) == tuple(layer.get_output(0).shape)
        result: Array = answer.numpy()
        return result


class Draw:
    """Random operands of one example."""

    def __init__(self, data: st.DataObject) -> None:
        self._data = data
        self._rng = np.random.default_rng(self.integer(0, 2**32 - 1))

    def integer(self, least: int, greatest: int) -> int:
        return self._data.draw(st.integers(least, greatest))

    def flag(self) -> bool:
        return self._data.draw(st.booleans())

    def one_of(self, *choices: Any) -> Any:
        return self._data.draw(st.sampled_from(choices))

    def shape(self, least: int = 1, greatest: int = 4, largest: int = 5) -> tuple[int, ...]:
        return tuple(self.integer(1, largest) for _ in range(self.integer(least, greatest)))

    def permutation(self, rank: int) -> list[int]:
        return list(self._data.draw(st.permutations(range(rank))))

    def eighths(self, *shape: int) -> Array:
        return (self._rng.integers(-32, 33, shape) / 8).astype(np.float32)

    def real(self, *shape: int) -> Array:
        return self._rng.normal(0, 3, shape).astype(np.float32)

    def integers(self, least: int, greatest: int, *shape: int) -> Array:
        return self._rng.integers(least, greatest + 1, shape)


def _everywhere(shape: Sequence[int]) -> Iterator[tuple[int, ...]]:
    return itertools.product(*map(range, shape))


COMPARED: set[str] = set()
"""Which of the operators a test below compares."""


def compares(*kinds: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Mark a test as that of an operator."""

    def marked(test: Callable[..., None]) -> Callable[..., None]:
        COMPARED.update(kinds)
        return test

    return marked


def test_every_operator_is_compared_here() -> None:
    assert set(OPERATORS) == COMPARED


@compares("convolution")
@MANY
@given(st.data())
def test_convolution(data: st.DataObject) -> None:
    """Unequal sides everywhere: a swapped height and width shows, and so does padding on the wrong side."""
    draw = Draw(data)
    groups, each, maps = draw.integer(1, 3), draw.integer(1, 2), draw.integer(1, 2)
    stride, dilation = [draw.integer(1, 3) for _ in "hw"], [draw.integer(1, 2) for _ in "hw"]
    kernel = [draw.integer(1, 3) for _ in "hw"]
    before, after = [draw.integer(0, 2) for _ in "hw"], [draw.integer(0, 2) for _ in "hw"]
    least = [max(1, d * (k - 1) + 1 - b - a) for d, k, b, a in zip(dilation, kernel, before, after, strict=True)]
    x = draw.eighths(draw.integer(1, 2), groups * each, *(size + draw.integer(0, 3) for size in least))
    w, bias = draw.eighths(groups * maps, each, *kernel), draw.eighths(groups * maps)
    biased, as_tensors = draw.flag(), draw.flag()

    net = Net()
    nothing = trt.Weights(trt.float32)
    own = (nothing, nothing) if as_tensors else (w, bias if biased else nothing)
    layer = net.network.add_convolution_nd(net.given(x), groups * maps, kernel, *own)
    if as_tensors:
        layer.set_input(1, net.constant(w))
        if biased:
            layer.set_input(2, net.constant(bias))
    layer.stride_nd, layer.dilation_nd, layer.num_groups = stride, dilation, groups
    layer.pre_padding, layer.post_padding = before, after

    padded = np.pad(x, [(0, 0), (0, 0), *zip(before, after, strict=True)])
    result = net.result(layer)
    wanted = np.empty_like(result)
    for n, o, i, j in _everywhere(result.shape):
        total = float(bias[o]) if biased else 0.0
        for c, p, q in _everywhere((each, *kernel)):
            row, column = i * stride[0] + p * dilation[0], j * stride[1] + q * dilation[1]
            total += float(w[o, c, p, q]) * float(padded[n, o // maps * each + c, row, column])
        wanted[n, o, i, j] = total
    np.testing.assert_array_equal(result, wanted)


ACTIVATIONS: dict[str, Callable[[float, float, float], float]] = {
    "RELU": lambda x, _, __: max(x, 0.0),
    "SIGMOID": lambda x, _, __: 1 / (1 + math.exp(-x)),
    "TANH": lambda x, _, __: math.tanh(x),
    "CLIP": lambda x, low, high: min(max(x, low), high),
    "HARD_SIGMOID": lambda x, slope, offset: min(max(slope * x + offset, 0.0), 1.0),
    "LEAKY_RELU": lambda x, slope, _: x if x >= 0 else slope * x,
    "GELU_ERF": lambda x, _, __: 0.5 * x * (1 + math.erf(x / math.sqrt(2))),
}


@compares("activation")
@pytest.mark.parametrize("function", ACTIVATIONS)
@FEW
@given(st.data())
def test_activation(function: str, data: st.DataObject) -> None:
    draw = Draw(data)
    x, alpha, beta = draw.real(*draw.shape()), draw.integer(-8, 0) / 8, draw.integer(1, 8) / 8
    net = Net()
    layer = net.network.add_activation(net.given(x), getattr(trt.ActivationType, function))
    layer.alpha, layer.beta = alpha, beta
    wanted = [ACTIVATIONS[function](float(value), alpha, beta) for value in x.reshape(-1)]
    np.testing.assert_allclose(net.result(layer, Arithmetic.FLOAT64).reshape(-1), wanted, rtol=1e-12, atol=1e-15)


BINARY: dict[str, Callable[[float, float], float]] = {
    "SUM": lambda x, y: x + y,
    "PROD": lambda x, y: x * y,
    "SUB": lambda x, y: x - y,
    "DIV": lambda x, y: x / y,
    "FLOOR_DIV": lambda x, y: math.floor(x / y),
    "MAX": max,
    "MIN": min,
    "POW": lambda x, y: abs(x) ** y,
}
COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "EQUAL": lambda x, y: x == y,
    "LESS": lambda x, y: x < y,
    "GREATER": lambda x, y: x > y,
}
LOGICAL: dict[str, Callable[[bool, bool], bool]] = {"AND": lambda x, y: x and y, "OR": lambda x, y: x or y}
WHOLE: dict[str, Callable[[int, int], int]] = {
    "SUM": lambda x, y: x + y,
    "PROD": lambda x, y: x * y,
    "SUB": lambda x, y: x - y,
    "DIV": lambda x, y: int(x / y),  # towards zero, as C does
    "FLOOR_DIV": lambda x, y: x // y,
    "MAX": max,
    "MIN": min,
}


def _pair(draw: Draw) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shapes of one rank that go together: TensorRT broadcasts sizes of one."""
    shape = draw.shape()
    first, second = (tuple(1 if draw.integer(0, 3) == 0 else size for size in shape) for _ in range(2))
    return first, second


def _pairwise(op: Callable[[Any, Any], Any], x: Array, y: Array) -> Array:
    wide = np.broadcast_shapes(x.shape, y.shape)
    values = [op(a.item(), b.item()) for a, b in zip(np.broadcast_to(x, wide).flat, np.broadcast_to(y, wide).flat)]  # noqa: B905 - one shape
    return np.array(values).reshape(wide)


@compares("elementwise")
@pytest.mark.parametrize("op", BINARY)
@FEW
@given(st.data())
def test_elementwise(op: str, data: st.DataObject) -> None:
    draw = Draw(data)
    first, second = _pair(draw)
    x, y = draw.eighths(*first), draw.eighths(*second)
    if op in ("DIV", "FLOOR_DIV"):
        y = np.where(y == 0, np.float32(0.5), y)
    if op == "POW":
        x, y = np.abs(x) + np.float32(0.5), np.round(y)
    net = Net()
    layer = net.network.add_elementwise(net.given(x), net.given(y), getattr(trt.ElementWiseOperation, op))
    np.testing.assert_allclose(net.result(layer, Arithmetic.FLOAT64), _pairwise(BINARY[op], x, y), rtol=1e-12, atol=0)


@pytest.mark.parametrize("op", WHOLE)
@FEW
@given(st.data())
def test_elementwise_of_integers(op: str, data: st.DataObject) -> None:
    """The arithmetic on shapes of a dynamic batch."""
    draw = Draw(data)
    first, second = _pair(draw)
    x, y = draw.integers(-9, 9, *first), draw.integers(1, 9, *second) * draw.one_of(-1, 1)
    net = Net()
    operands = net.constant(x, np.int64), net.constant(y, np.int64)
    result = net.result(net.network.add_elementwise(*operands, getattr(trt.ElementWiseOperation, op)))
    assert result.dtype == np.int64
    np.testing.assert_array_equal(result, _pairwise(WHOLE[op], x, y))


@pytest.mark.parametrize("op", [*COMPARISONS, *LOGICAL])
@FEW
@given(st.data())
def test_elementwise_truth(op: str, data: st.DataObject) -> None:
    draw = Draw(data)
    first, second = _pair(draw)
    net = Net()
    if op in LOGICAL:
        x, y = draw.integers(0, 1, *first) > 0, draw.integers(0, 1, *second) > 0
        operands = net.constant(x, np.bool_), net.constant(y, np.bool_)
        wanted = _pairwise(LOGICAL[op], x, y)
    else:
        x, y = draw.integers(-2, 2, *first).astype(np.float32), draw.integers(-2, 2, *second).astype(np.float32)
        operands = net.given(x), net.given(y)
        wanted = _pairwise(COMPARISONS[op], x, y)
    result = net.result(net.network.add_elementwise(*operands, getattr(trt.ElementWiseOperation, op)))
    assert result.dtype == np.bool_
    np.testing.assert_array_equal(result, wanted)


UNARY: dict[str, Callable[[float], float]] = {
    "EXP": math.exp,
    "SQRT": lambda x: math.sqrt(abs(x)),
    "RECIP": lambda x: 1 / x,
    "ABS": abs,
    "NEG": lambda x: -x,
    "ERF": math.erf,
}


@compares("unary")
@pytest.mark.parametrize("op", UNARY)
@FEW
@given(st.data())
def test_unary(op: str, data: st.DataObject) -> None:
    draw = Draw(data)
    x = draw.real(*draw.shape())
    x = np.abs(x) if op == "SQRT" else np.where(x == 0, np.float32(1), x)
    net = Net()
    result = net.result(net.network.add_unary(net.given(x), getattr(trt.UnaryOperation, op)), Arithmetic.FLOAT64)
    np.testing.assert_allclose(result.reshape(-1), [UNARY[op](float(v)) for v in x.reshape(-1)], rtol=1e-12, atol=0)


def test_not() -> None:
    net = Net()
    layer = net.network.add_unary(net.constant([[True], [False]], np.bool_), trt.UnaryOperation.NOT)
    assert net.result(layer).tolist() == [[False], [True]]


@compares("slice")
@MANY
@given(st.data())
def test_slice(data: st.DataObject) -> None:
    """Of all axes or of some, by attributes or by tensors; nothing may be left of an axis."""
    draw = Draw(data)
    shape = draw.shape()
    axes = (
        sorted(draw.permutation(len(shape))[: draw.integer(1, len(shape))]) if draw.flag() else list(range(len(shape)))
    )
    start, size, stride = [], [], []
    for axis in axes:
        first, step = draw.integer(0, shape[axis] - 1), draw.integer(1, 3)
        start.append(first)
        stride.append(step)
        size.append(draw.integer(0, (shape[axis] - 1 - first) // step + 1))
    x = draw.eighths(*shape)
    net = Net()
    if draw.flag() or len(axes) < len(shape):
        layer = net.network.add_slice(net.given(x), start, size, stride)
        if len(axes) < len(shape):
            layer.axes = axes
    else:
        layer = net.network.add_slice(net.given(x), start, size, stride)
        for operand, value in enumerate((start, size, stride), 1):
            layer.set_input(operand, net.constant(value, np.int64))
    result = net.result(layer)
    for place in _everywhere(result.shape):
        source = list(place)
        for axis, first, step in zip(axes, start, stride, strict=True):
            source[axis] = first + place[axis] * step
        assert result[place] == x[tuple(source)]
    assert [result.shape[axis] for axis in axes] == size


@compares("slice")
@MANY
@given(st.data())
def test_slice_beyond_the_edge(data: st.DataObject) -> None:
    """A Pad is lowered to a slice that starts before the tensor, ends after it, and is filled up."""
    draw = Draw(data)
    shape = draw.shape()
    before = [draw.integer(0, 2) for _ in shape]
    after = [draw.integer(0, 2) for _ in shape]
    value = draw.integer(-3, 3) if draw.flag() else None
    x = draw.eighths(*shape)
    net = Net()
    size = [a + b + n for a, b, n in zip(before, after, shape, strict=True)]
    layer = net.network.add_slice(net.given(x), [-count for count in before], size, [1] * len(shape))
    layer.mode = trt.SampleMode.FILL
    if value is not None:
        layer.set_input(4, net.constant(value, np.float32))
    expected = np.pad(x, list(zip(before, after, strict=True)), constant_values=value or 0)
    assert net.result(layer).tolist() == expected.tolist()


@compares("concatenation")
@FEW
@given(st.data())
def test_concatenation(data: st.DataObject) -> None:
    draw = Draw(data)
    shape = list(draw.shape())
    axis = draw.integer(0, len(shape) - 1)
    parts = []
    for _ in range(draw.integer(1, 3)):
        shape[axis] = draw.integer(1, 4)
        parts.append(draw.eighths(*shape))
    net = Net()
    layer = net.network.add_concatenation([net.given(part) for part in parts])
    layer.axis = axis
    result = net.result(layer)
    start = 0
    for part in parts:
        for place in _everywhere(part.shape):
            there = (*place[:axis], place[axis] + start, *place[axis + 1 :])
            assert result[there] == part[place]
        start += part.shape[axis]
    assert result.shape[axis] == start


@compares("shuffle")
@MANY
@given(st.data())
def test_shuffle(data: st.DataObject) -> None:
    """Transpose, reshape, transpose; some sizes said by 0 (as it was, once transposed) and -1 (what is left)."""
    draw = Draw(data)
    shape = draw.shape(largest=4)
    x = draw.eighths(*shape)
    moved = np.transpose(x, first := draw.permutation(len(shape)))
    count, wanted = x.size, list[int]()
    for _ in range(draw.integer(0, 3)):
        size = draw.one_of(*(n for n in range(1, count + 1) if count % n == 0))
        wanted.append(size)
        count //= size
    wanted.append(count)
    said = list(wanted)
    for axis in range(min(len(said), moved.ndim)):
        if wanted[axis] == moved.shape[axis] and draw.flag():
            said[axis] = 0
    if draw.flag():
        said[draw.integer(0, len(said) - 1)] = -1
    second = draw.permutation(len(wanted))

    net = Net()
    layer = net.network.add_shuffle(net.given(x))
    layer.first_transpose = first
    if draw.flag():
        layer.reshape_dims = said
    else:
        layer.set_input(1, net.constant(said, np.int64))
    layer.second_transpose = second
    result = net.result(layer)

    flat = [x[tuple(place[first.index(axis)] for axis in range(x.ndim))] for place in _everywhere(moved.shape)]
    reshaped = dict(zip(_everywhere(wanted), flat, strict=True))
    assert result.shape == tuple(wanted[axis] for axis in second)
    for place in _everywhere(result.shape):
        assert result[place] == reshaped[tuple(place[second.index(axis)] for axis in range(len(wanted)))]


def test_shuffle_where_zero_is_a_size() -> None:
    net = Net()
    layer = net.network.add_shuffle(net.given(np.zeros((3, 0), np.float32)))
    layer.zero_is_placeholder = False
    layer.reshape_dims = (0, 5)
    assert net.result(layer).shape == (0, 5)


@compares("matrix_multiply")
@FEW
@given(st.data())
def test_matrix_multiply(data: st.DataObject) -> None:
    """Either operand transposed, sizes of one in front broadcast."""
    draw = Draw(data)
    batch, (rows, inner, columns) = draw.shape(0, 2, 3), draw.shape(3, 3)
    fronts = [tuple(1 if draw.integer(0, 3) == 0 else size for size in batch) for _ in range(2)]
    turned = draw.flag(), draw.flag()
    x = draw.eighths(*fronts[0], *((inner, rows) if turned[0] else (rows, inner)))
    y = draw.eighths(*fronts[1], *((columns, inner) if turned[1] else (inner, columns)))
    net = Net()
    ops = [trt.MatrixOperation.TRANSPOSE if turn else trt.MatrixOperation.NONE for turn in turned]
    result = net.result(net.network.add_matrix_multiply(net.given(x), ops[0], net.given(y), ops[1]))
    for place in _everywhere(result.shape):
        *front, i, j = place
        left, right = (tuple(0 if size == 1 else at for size, at in zip(shape, front, strict=True)) for shape in fronts)
        total = sum(
            float(x[(*left, *((k, i) if turned[0] else (i, k)))])
            * float(y[(*right, *((j, k) if turned[1] else (k, j)))])
            for k in range(inner)
        )
        assert result[place] == total


@compares("softmax")
@FEW
@given(st.data())
def test_softmax(data: st.DataObject) -> None:
    draw = Draw(data)
    x = draw.real(*draw.shape(least=2))
    axis = draw.integer(0, x.ndim - 1)
    net = Net()
    layer = net.network.add_softmax(net.given(x))
    layer.axes = 1 << axis
    result = net.result(layer, Arithmetic.FLOAT64)
    for place in _everywhere(x.shape):
        row = [float(x[(*place[:axis], k, *place[axis + 1 :])]) for k in range(x.shape[axis])]
        assert result[place] == pytest.approx(math.exp(x[place]) / math.fsum(map(math.exp, row)), rel=1e-12)


REDUCTIONS: dict[str, Callable[[list[float]], float]] = {
    "AVG": lambda values: math.fsum(values) / len(values),
    "SUM": math.fsum,
    "MAX": max,
}


@compares("reduce")
@pytest.mark.parametrize("op", REDUCTIONS)
@FEW
@given(st.data())
def test_reduce(op: str, data: st.DataObject) -> None:
    draw = Draw(data)
    x = draw.eighths(*draw.shape())
    axes, keep = draw.permutation(x.ndim)[: draw.integer(1, x.ndim)], draw.flag()
    net = Net()
    mask = sum(1 << axis for axis in axes)
    layer = net.network.add_reduce(net.given(x), getattr(trt.ReduceOperation, op), mask, keep)
    result = net.result(layer, Arithmetic.FLOAT64)
    groups: dict[tuple[int, ...], list[float]] = {}
    for place in _everywhere(x.shape):
        there = tuple(0 if axis in axes else at for axis, at in enumerate(place) if keep or axis not in axes)
        groups.setdefault(there, []).append(float(x[place]))
    assert set(groups) == set(_everywhere(result.shape))
    for place, values in groups.items():
        assert result[place] == pytest.approx(REDUCTIONS[op](values), rel=1e-12)


@compares("cast")
@FEW
@given(st.data())
def test_cast(data: st.DataObject) -> None:
    """Integers are cut off towards zero, what is not zero is true."""
    draw = Draw(data)
    x = draw.eighths(*draw.shape())
    for to, whole in ((trt.int32, np.int32), (trt.int64, np.int64), (trt.bool, np.bool_)):
        net = Net()
        result = net.result(net.network.add_cast(net.given(x), to))
        assert result.dtype == whole
        wanted = [value != 0 if whole is np.bool_ else math.trunc(value) for value in x.reshape(-1).tolist()]
        assert result.reshape(-1).tolist() == wanted
    net = Net()
    integers = draw.integers(-9, 9, *x.shape)
    result = net.result(net.network.add_cast(net.constant(integers, np.int64), trt.float32))
    np.testing.assert_array_equal(result, integers.astype(np.float32))


@FEW
@given(st.data())
def test_a_cast_to_half_rounds_where_the_network_is_taken_at_its_word(data: st.DataObject) -> None:
    draw = Draw(data)
    x = draw.real(*draw.shape())
    for arithmetic, wanted in ((Arithmetic.DECLARED, x.astype(np.float16).astype(np.float32)), (Arithmetic.FLOAT32, x)):
        net = Net()
        np.testing.assert_array_equal(net.result(net.network.add_cast(net.given(x), trt.float16), arithmetic), wanted)


def _scales(draw: Draw, x: Array, per_axis: bool) -> tuple[int, Array]:
    """The axis, and a scale for it or one for the whole tensor: powers of two, so that ties are ties."""
    axis = draw.integer(0, x.ndim - 1)
    count = (x.shape[axis],) if per_axis else ()
    return axis, (2.0 ** draw.integers(-4, 0, *count)).astype(np.float32)


@compares("quantize")
@MANY
@given(st.data())
def test_quantize(data: st.DataObject) -> None:
    """Half to even, as Python's round does; -128 and 127 are the ends. A scale for the tensor or one for each index."""
    draw = Draw(data)
    shape = draw.shape()
    x = draw.integers(-600, 600, *shape).astype(np.float32) / np.float32(draw.one_of(1, 2, 8, 32))
    axis, scale = _scales(draw, x, draw.flag())
    net = Net()
    layer = net.network.add_quantize(net.given(x), net.constant(scale), trt.int8)
    if scale.ndim:
        layer.axis = axis
    result = net.result(layer)
    assert result.dtype == np.int8
    for place in _everywhere(x.shape):
        own = float(scale[place[axis]] if scale.ndim else scale)
        assert result[place] == min(max(round(float(x[place]) / own), -128), 127)


@FEW
@given(st.floats(2.0**-10, 2, width=32))
def test_quantize_divides_in_single_precision(scale: float) -> None:
    """Not by way of the reciprocal, and not in double precision: next to ties those go another way."""
    x = (np.arange(-127, 127, dtype=np.float32) + np.float32(0.5)) * np.float32(scale)
    net = Net()
    result = net.result(net.network.add_quantize(net.given(x), net.constant(np.float32(scale)), trt.int8))
    assert result.tolist() == [round(quotient) for quotient in (x / np.float32(scale)).tolist()]


@compares("dequantize")
@FEW
@given(st.data())
def test_dequantize(data: st.DataObject) -> None:
    draw = Draw(data)
    x = draw.integers(-128, 127, *draw.shape()).astype(np.int8)
    per_axis = draw.flag()
    axis = draw.integer(0, x.ndim - 1)
    scale = draw.real(*((x.shape[axis],) if per_axis else ()))
    net = Net()
    layer = net.network.add_dequantize(net.constant(x, np.int8), net.constant(scale), trt.float32)
    if per_axis:
        layer.axis = axis
    result = net.result(layer)
    for place in _everywhere(x.shape):
        own = scale[place[axis]] if per_axis else scale
        assert result[place] == np.float32(int(x[place])) * np.float32(own)


@compares("gather")
@FEW
@given(st.data())
def test_gather(data: st.DataObject) -> None:
    """Indices of any shape, counted from either end."""
    draw = Draw(data)
    x = draw.eighths(*draw.shape(greatest=3))
    axis = draw.integer(0, x.ndim - 1)
    indices = draw.integers(-x.shape[axis], x.shape[axis] - 1, *draw.shape(0, 2, 3))
    net = Net()
    result = net.result(net.network.add_gather(net.given(x), net.constant(indices, np.int64), axis))
    for before in _everywhere(x.shape[:axis]):
        for place in _everywhere(indices.shape):
            for after in _everywhere(x.shape[axis + 1 :]):
                assert result[(*before, *place, *after)] == x[(*before, int(indices[place]), *after)]


@compares("normalization")
@FEW
@given(st.data())
def test_normalization(data: st.DataObject) -> None:
    """Over the last axes; epsilon is added to the variance under the root."""
    draw = Draw(data)
    shape = draw.shape(least=2)
    x, last = draw.real(*shape), draw.integer(1, len(shape) - 1)
    epsilon = draw.one_of(1e-5, 1e-3, 0.5)
    own = (1,) * (len(shape) - last) + shape[-last:]
    scale, bias = draw.eighths(*own), draw.eighths(*own)
    net = Net()
    mask = sum(1 << axis for axis in range(len(shape) - last, len(shape)))
    layer = net.network.add_normalization(net.given(x), net.constant(scale), net.constant(bias), mask)
    layer.epsilon = epsilon
    result = net.result(layer, Arithmetic.FLOAT64)
    for front in _everywhere(shape[:-last]):
        values = [float(v) for v in x[front].reshape(-1)]
        mean = math.fsum(values) / len(values)
        variance = math.fsum((v - mean) ** 2 for v in values) / len(values)
        for place in _everywhere(shape[-last:]):
            there = (*[0] * (len(shape) - last), *place)
            # TensorRT holds epsilon in single precision.
            normal = (float(x[(*front, *place)]) - mean) / math.sqrt(variance + float(np.float32(epsilon)))
            wanted = normal * float(scale[there]) + float(bias[there])
            assert result[(*front, *place)] == pytest.approx(wanted, rel=1e-9, abs=1e-9)


@compares("resize")
@FEW
@given(st.data())
def test_resize(data: st.DataObject) -> None:
    """Linear between the pixels' middles, up and down; outside of the outer middles it is the outer pixel."""
    draw = Draw(data)
    x = draw.eighths(draw.integer(1, 2), draw.integer(1, 2), draw.integer(1, 5), draw.integer(1, 5))
    size = [draw.integer(1, 8), draw.integer(1, 8)]
    net = Net()
    layer = net.network.add_resize(net.given(x))
    layer.resize_mode = trt.InterpolationMode.LINEAR
    layer.coordinate_transformation = trt.ResizeCoordinateTransformation.HALF_PIXEL
    if draw.flag():
        layer.shape = (*x.shape[:2], *size)
    else:
        layer.set_input(1, net.constant((*x.shape[:2], *size), np.int64))
    result = net.result(layer, Arithmetic.FLOAT64)

    def along(at: int, before: int, after: int) -> Iterator[tuple[int, float]]:
        where = (at + 0.5) * before / after - 0.5
        low = math.floor(where)
        for pixel, share in ((low, 1 - (where - low)), (low + 1, where - low)):
            yield min(max(pixel, 0), before - 1), share

    for n, c, i, j in _everywhere(result.shape):
        wanted = math.fsum(
            p * q * float(x[n, c, row, column])
            for row, p in along(i, x.shape[2], size[0])
            for column, q in along(j, x.shape[3], size[1])
        )
        assert result[n, c, i, j] == pytest.approx(wanted, rel=1e-9, abs=1e-12)


@compares("squeeze", "unsqueeze")
@FEW
@given(st.data())
def test_squeeze_undoes_unsqueeze(data: st.DataObject) -> None:
    draw = Draw(data)
    x = draw.eighths(*draw.shape(greatest=3))
    rank = x.ndim + draw.integer(1, 2)
    axes = draw.permutation(rank)[: rank - x.ndim]
    said = [axis - rank if draw.flag() else axis for axis in axes]
    net = Net()
    wide = net.network.add_unsqueeze(net.given(x), net.constant(said, np.int64))
    rest = iter(x.shape)
    shape = tuple(1 if axis in axes else next(rest) for axis in range(rank))
    result = net.result(wide)
    assert result.shape == shape
    np.testing.assert_array_equal(result.reshape(-1), x.reshape(-1))
    net = Net()
    narrow = net.network.add_squeeze(net.given(result), net.constant(said, np.int64))
    np.testing.assert_array_equal(net.result(narrow), x)


@compares("shape", "identity")
@FEW
@given(st.data())
def test_shape_and_identity(data: st.DataObject) -> None:
    draw = Draw(data)
    x = draw.eighths(*draw.shape())
    net = Net()
    assert net.result(net.network.add_shape(net.given(x))).tolist() == list(x.shape)
    net = Net()
    np.testing.assert_array_equal(net.result(net.network.add_identity(net.given(x))), x)


def _alone(kind: str, shape: tuple[int, ...], dtype: str = "fp32", **operands: Any) -> Array:
    """A program of one operation that TensorRT's own API would not make. Float arrays vary, the rest is constant."""
    feeds = {key: value for key, value in operands.items() if getattr(value, "dtype", None) == np.float32}
    program = Program(
        opset="",
        inputs={key: TensorType("fp32", value.shape) for key, value in feeds.items()},
        outputs=("result",),
        operations=(Operation(kind, {key: key for key in operands}, (("result", TensorType(dtype, shape)),)),),
        constants={key: Constant(v, TensorType("attribute", ())) for key, v in operands.items() if key not in feeds},
    )
    (result,) = Evaluator(program, Arithmetic.FLOAT32, language=LAYERS)(feeds).values()
    answer: Array = result.numpy()
    return answer


X = np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4)
ONE = np.ones(1, np.float32)
WHOLE_SLICE: dict[str, Any] = {"x": X, "start": [0, 0, 0, 0], "size": [1, 2, 3, 4], "stride": [1, 1, 1, 1]}
QUANTIZED: dict[str, Any] = {"x": X, "scale": ONE, "axis": 1}


def _refused() -> Iterator[tuple[str, str, dict[str, Any], str]]:
    """What is wrong, the kind, its operands, and what the error says."""
    yield "function", "activation", {"x": X, "function": "ELU", "alpha": 1.0, "beta": 0.0}, "activation ELU"
    yield "operation", "elementwise", {"x": X, "y": X, "op": "XOR"}, "elementwise XOR"
    yield "operation", "unary", {"x": X, "op": "SIN"}, "unary SIN"
    yield "operation", "reduce", {"x": X, "op": "PROD", "axes": [1], "keep": True}, "reduction PROD"
    yield "mode", "matrix_multiply", {"x": X, "y": X, "first": "VECTOR", "second": "NONE"}, "VECTOR and NONE"
    yield "dtype", "cast", {"x": X, "to": "FP8"}, "a cast to FP8"
    yield "ranks", "elementwise", {"x": X, "y": X[0], "op": "SUM"}, "ranks 4 and 3"
    yield "ranks", "matrix_multiply", {"x": X, "y": X[0], "first": "NONE", "second": "TRANSPOSE"}, "ranks 4 and 3"
    one = {"stride": [1], "before": [0], "after": [0], "dilation": [1], "groups": 1}
    yield "rank", "convolution", {"x": X[0], "kernel": np.ones((1, 2, 1), np.float32), **one}, "over 1 axes"
    yield "zero point", "quantize", {**QUANTIZED, "zero": np.array([3], np.int8)}, "not zero"
    yield "one zero point", "dequantize", {**QUANTIZED, "zero": np.array([0, 1], np.int8)}, "not zero"
    yield "scales of another axis", "quantize", {**QUANTIZED, "scale": np.ones(4, np.float32)}, "values for axis 1"
    for what, key, value, says in (
        ("a start too late", "start", 2, "4 from 2 by 1 of 4"),
        ("a start too early", "start", -1, "4 from -1 by 1 of 4"),
        ("a size too large", "size", 5, "5 from 0 by 1 of 4"),
        ("a negative size", "size", -1, "-1 from 0 by 1 of 4"),
        ("a stride too long", "stride", 2, "4 from 0 by 2 of 4"),
        ("a stride backwards", "stride", -1, "4 from 0 by -1 of 4"),
    ):
        yield what, "slice", {**WHOLE_SLICE, key: [*WHOLE_SLICE[key][:3], value]}, says
    yield "index too large", "gather", {"x": X, "indices": np.array([4]), "axis": 3}, "index out of range"
    yield "index too small", "gather", {"x": X, "indices": np.array([-5]), "axis": 3}, "index out of range"
    yield "axes in front", "normalization", {"x": X, "scale": ONE, "bias": ONE, "axes": [1], "epsilon": 1e-5}, "of 4"
    yield "two axes", "softmax", {"x": X, "axes": [1, 2]}, "too many values"


CASES = [pytest.param(kind, operands, says, id=f"{kind}-{what}") for what, kind, operands, says in _refused()]


@pytest.mark.parametrize(("kind", "operands", "says"), CASES)
def test_what_is_not_known_is_refused(kind: str, operands: dict[str, Any], says: str) -> None:
    with pytest.raises(BrokenArtifact, match=f"{kind} 'result' cannot be evaluated") as broken:
        _alone(kind, X.shape, **operands)
    assert says in str(broken.value.got)


def test_what_is_known_is_not_refused() -> None:
    """The healthy operands that the refusals above spoil."""
    assert _alone("slice", X.shape, **WHOLE_SLICE).tolist() == X.tolist()
    zeros = np.zeros(2, np.int8)
    assert _alone("quantize", X.shape, "int8", **QUANTIZED, zero=zeros).tolist() == X.tolist()


def test_an_attribute_that_is_not_known_is_refused() -> None:
    with pytest.raises(BrokenArtifact, match="an unsupported input: scales"):
        _alone("resize", (1, 2, 6, 8), x=X, size=[1, 2, 6, 8], scales=[1, 1, 2, 2])


def test_a_result_of_another_type_than_declared_is_refused() -> None:
    with pytest.raises(BrokenArtifact, match="does not give what the file declares"):
        _alone("quantize", X.shape, "fp32", x=X, scale=ONE, axis=1)
    with pytest.raises(BrokenArtifact, match="does not give what the file declares"):
        _alone("identity", (1, 2, 4, 3), x=X)


def _taken(count: Callable[[Any], Any], **more: Any) -> Any:
    """A slice of images of 4 x 6 whose first two sizes are `count` of the images' own shape."""
    x = Field(Residues(11), 3, uniform=True).images((3, 4, 6))
    given = {"x": x, "start": [0, 2, 0], "size": torch.cat([count(x), torch.tensor([6])]), "stride": [1, 1, 1]}
    return computed(OPERATORS["slice"], given | more)


def test_a_slice_may_take_as_many_images_as_there_are() -> None:
    assert tuple(_taken(lambda x: torch.cat([sizes(x, 0, 1), torch.tensor([2])])).shape) == (3, 2, 6)


@pytest.mark.parametrize(
    ("count", "more"),
    [
        pytest.param(lambda x: torch.cat([sizes(x, 0, 1), sizes(x, 0, 1)]), {"start": [0, 0, 0]}, id="as many rows"),
        pytest.param(lambda x: torch.cat([torch.tensor([2]), torch.tensor([2])]), {}, id="two images"),
        pytest.param(lambda x: torch.cat([sizes(x, 0, 1), torch.tensor([2])]), {"start": [-1, 0, 0], "fill": 0.0},
                     id="the images shifted"),
        pytest.param(lambda x: torch.cat([sizes(x, 0, 1), torch.tensor([2])]), {"stride": [2, 1, 1], "fill": 0.0},
                     id="every other image"),
        pytest.param(lambda x: torch.cat([sizes(x, 0, 1) * 2, torch.tensor([2])]), {"fill": 0.0}, id="twice as many"),
    ],
)  # fmt: skip
def test_a_slice_may_not_take_anything_else_that_depends_on_them(count: Callable[[Any], Any], more: Any) -> None:
    with pytest.raises(NoMeaning, match="images"):
        _taken(count, **more)
