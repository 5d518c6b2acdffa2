"""What each MIL operation computes, by coremltools' `value_inference` or, where it has none, by plain loops.

Values are multiples of 1/8 below 4, so that sums and products are exact and what is left to compare is which values
were taken from where.
"""

import inspect
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from efficientvit.errors import BrokenArtifact
from runtimes.coreml.operators import MIL, OPERATORS
from runtimes.evaluator.evaluator import Arithmetic, Evaluator
from runtimes.evaluator.program import Constant, Operation, Program, TensorType, Value

Array = NDArray[Any]
Inputs = dict[str, Any]
"""An operation's inputs by name. Float tensors of rank 1 and above vary, lists hold several of them, the rest is
constant."""

NOT_INFERRED = {"batch_norm", "classify", "conv", "silu", "upsample_bilinear"}
"""coremltools has no `value_inference` for these."""

FEW, MANY = settings(max_examples=100), settings(max_examples=300)


def _varies(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind == "f" and value.ndim > 0


def _constant(value: Any) -> Constant:
    """As the reader has it: tensors of numbers stay arrays, lists of integers too, scalars are Python's."""
    if isinstance(value, list) and not isinstance(value[0], str):
        value = np.array(value, bool if isinstance(value[0], bool) else np.int32)
    kept: Value = value
    return Constant(kept, TensorType("any", np.shape(value)))


def ours(
    kind: str,
    inputs: Inputs,
    shapes: Sequence[tuple[int, ...]] | None = None,
    arithmetic: Arithmetic = Arithmetic.FLOAT32,
    dtype: str = "fp32",
) -> list[Any]:
    """The outputs of a program of one operation, which declares them in these shapes; None: as no tensors."""
    feeds: dict[str, Array] = {}
    constants: dict[str, Constant] = {}
    names: dict[str, str | tuple[str, ...]] = {}
    for key, value in inputs.items():
        several = isinstance(value, list) and isinstance(value[0], np.ndarray)
        members = {f"{key}{i}": v for i, v in enumerate(value)} if several else {key: value}
        feeds |= {name: v for name, v in members.items() if _varies(v)}
        constants |= {name: _constant(v) for name, v in members.items() if not _varies(v)}
        # The file has a list of one like a single value.
        names[key] = tuple(members) if len(members) > 1 else next(iter(members))
    outputs: tuple[tuple[str, TensorType | None], ...]
    if shapes is None:
        outputs = (("label", TensorType("string", ())), ("probabilities", None))
    else:
        outputs = tuple((f"output{i}", TensorType(dtype, shape)) for i, shape in enumerate(shapes))
    program = Program(
        opset="CoreML8",
        inputs={name: TensorType("fp32", value.shape) for name, value in feeds.items()},
        outputs=tuple(name for name, _ in outputs),
        operations=(Operation(kind, names, outputs),),
        constants=constants,
    )
    results = Evaluator(program, arithmetic, MIL)(feeds).values()
    return [value.numpy() if hasattr(value, "numpy") else value for value in results]


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

    def some(self, **inputs: Any) -> Inputs:
        """Any of these optional inputs."""
        return {name: value for name, value in inputs.items() if self.flag()}

    def shape(self, least: int = 1, greatest: int = 4, largest: int = 5) -> tuple[int, ...]:
        return tuple(self.integer(1, largest) for _ in range(self.integer(least, greatest)))

    def tensor(self, *shape: int) -> Array:
        return (self._rng.integers(-32, 33, shape) / 8).astype(np.float32)

    def real(self, *shape: int) -> Array:
        """Of any value: for what rounds whatever it is given."""
        return self._rng.normal(0, 3, shape).astype(np.float32)

    def scalar(self, least: float = -4, greatest: float = 4) -> Any:
        return np.float32(self.integer(int(8 * least), int(8 * greatest)) / 8)

    def axis(self, rank: int) -> int:
        return self.integer(-rank, rank - 1)

    def axes(self, rank: int, count: int | None = None) -> list[int]:
        """Different ones, counted from either end, in any order."""
        chosen = self.permutation(rank)[: count or self.integer(1, rank)]
        return [axis - rank if self.flag() else axis for axis in chosen]

    def permutation(self, rank: int) -> list[int]:
        return list(self._data.draw(st.permutations(range(rank))))


def _unary(draw: Draw) -> Inputs:
    return {"x": draw.real(*draw.shape())}


def _binary(draw: Draw) -> Inputs:
    """Broadcast either way, or with a scalar constant on either side."""
    shape = draw.shape()
    rank = draw.integer(1, len(shape))
    other = draw.tensor(*(size if draw.flag() else 1 for size in shape[-rank:]))
    operands = [draw.tensor(*shape), draw.scalar() if draw.flag() else other]
    return dict(zip("xy", operands if draw.flag() else operands[::-1], strict=True))


def _alpha(draw: Draw) -> Inputs:
    return {"x": draw.tensor(*draw.shape()), "alpha": draw.scalar()}


def _cast(draw: Draw) -> Inputs:
    return {"x": draw.real(*draw.shape()), "dtype": "fp32"}


def _clip(draw: Draw) -> Inputs:
    return {"x": draw.tensor(*draw.shape()), "alpha": draw.scalar(-4, 0), "beta": draw.scalar(1 / 8, 4)}


def _concat(draw: Draw) -> Inputs:
    shape = list(draw.shape())
    axis = draw.axis(len(shape))
    values = []
    for _ in range(draw.integer(1, 3)):
        shape[axis] = draw.integer(1, 4)
        values.append(draw.tensor(*shape))
    return {"values": values, "axis": axis, **draw.some(interleave=False)}


def _expand_dims(draw: Draw) -> Inputs:
    shape, added = draw.shape(greatest=3), draw.integer(1, 2)
    return {"x": draw.tensor(*shape), "axes": draw.axes(len(shape) + added, added)}


def _gather(draw: Draw) -> Inputs:
    """The entries of an axis by one number, or by several in any order."""
    shape = draw.shape(least=2)
    axis = draw.axis(len(shape))
    several = [draw.integer(0, shape[axis] - 1) for _ in range(draw.integer(1, 5))]
    return {"x": draw.tensor(*shape), "indices": several if draw.flag() else several[0], "axis": axis}


def _layer_norm(draw: Draw) -> Inputs:
    shape = draw.shape(least=2)
    last = draw.integer(1, len(shape))
    axes = [axis - len(shape) if draw.flag() else axis for axis in range(len(shape) - last, len(shape))]
    epsilon = np.float32(draw.one_of(1e-5, 1e-3, 0.5))
    inputs: Inputs = {"x": draw.tensor(*shape), "axes": axes, **draw.some(epsilon=epsilon)}
    # coremltools looks for gamma's shape where it checks beta's, so beta never comes alone.
    if draw.flag():
        inputs["gamma"] = draw.tensor(*shape[-last:])
        inputs |= draw.some(beta=draw.tensor(*shape[-last:]))
    return inputs


def _linear(draw: Draw) -> Inputs:
    shape, wide = draw.shape(greatest=3), draw.integer(1, 5)
    bias = draw.tensor(wide)
    return {"x": draw.tensor(*shape), "weight": draw.tensor(wide, shape[-1]), **draw.some(bias=bias)}


def _matmul(draw: Draw) -> Inputs:
    batch, (rows, inner, columns) = draw.shape(least=0, greatest=2), draw.shape(3, 3)
    transpose_x, transpose_y = draw.flag(), draw.flag()
    x = draw.tensor(*batch, *((inner, rows) if transpose_x else (rows, inner)))
    y = draw.tensor(*batch[draw.integer(0, len(batch)) :], *((columns, inner) if transpose_y else (inner, columns)))
    flags = {"transpose_x": transpose_x, "transpose_y": transpose_y}
    return {"x": x, "y": y, **{name: flag for name, flag in flags.items() if flag or draw.flag()}}


def _pad(draw: Draw) -> Inputs:
    shape = draw.shape()
    pad = [draw.integer(0, 3) for _ in range(2 * draw.integer(1, len(shape)))]
    return {"x": draw.tensor(*shape), "pad": pad, **draw.some(mode="constant", constant_val=draw.scalar())}


def _reduce_mean(draw: Draw) -> Inputs:
    shape = draw.shape()
    return {"x": draw.tensor(*shape), **draw.some(axes=draw.axes(len(shape)), keep_dims=draw.flag())}


def _reshape(draw: Draw) -> Inputs:
    """Sizes dealt anew, some of them said by 0 (counted from the right) or -1."""
    shape = draw.shape(largest=4)
    count = math.prod(shape)
    wanted: list[int] = []
    for _ in range(draw.integer(0, 3)):
        size = draw.one_of(*(n for n in range(1, count + 1) if count % n == 0))
        wanted.append(size)
        count //= size
    wanted.append(count)
    said = list(wanted)
    if draw.flag():
        said[draw.integer(0, len(said) - 1)] = -1
    for i in range(1, min(len(said), len(shape)) + 1):
        if wanted[-i] == shape[-i] and draw.flag():
            said[-i] = 0
    return {"x": draw.tensor(*shape), "shape": said}


def _reverse(draw: Draw) -> Inputs:
    shape = draw.shape()
    return {"x": draw.tensor(*shape), **draw.some(axes=draw.axes(len(shape)))}


def _scaled_dot_product_attention(draw: Draw) -> Inputs:
    batch, (queries, keys, inner, wide) = draw.shape(1, 2, 3), draw.shape(4, 4)
    inputs = {
        "query": draw.tensor(*batch, queries, inner),
        "key": draw.tensor(*batch, keys, inner),
        "value": draw.tensor(*batch, keys, wide),
    }
    mask = draw.tensor(*(size if draw.flag() else 1 for size in batch), queries, keys)
    return inputs | draw.some(attn_mask=mask)


def _sigmoid_hard(draw: Draw) -> Inputs:
    return {"x": draw.tensor(*draw.shape()), "alpha": draw.scalar(), "beta": draw.scalar()}


def _slice_by_index(draw: Draw) -> Inputs:
    """At least one element on every axis, whose ends are counted from either side or left open."""
    shape = draw.shape()
    begin, end, stride, squeeze, begin_open, end_open = ([] for _ in range(6))
    for size in shape:
        first = draw.integer(0, size - 1)
        last = draw.integer(first + 1, size)
        begin_open.append(draw.flag())
        end_open.append(draw.flag())
        begin.append(first - size if draw.flag() else first)
        end.append(last - size if draw.flag() and last < size else last)
        stride.append(draw.integer(1, 3))
        squeeze.append(draw.flag())
    inputs: Inputs = {"x": draw.tensor(*shape), "begin": begin, "end": end}
    masks = draw.some(begin_mask=begin_open, end_mask=end_open, squeeze_mask=squeeze)
    # With everything squeezed the answer is a scalar, and coremltools takes no float16 there.
    return inputs | masks | ({} if masks.get("squeeze_mask") else draw.some(stride=stride))


def _softmax(draw: Draw) -> Inputs:
    shape = draw.shape()
    return {"x": draw.real(*shape), **draw.some(axis=draw.axis(len(shape)))}


def _split(draw: Draw) -> Inputs:
    shape = list(draw.shape())
    axis = draw.axis(len(shape))
    if draw.flag():
        parts = draw.integer(2, 3)
        shape[axis] *= parts
        return {"x": draw.tensor(*shape), "axis": axis, "num_splits": parts}
    sizes = [draw.integer(1, 3) for _ in range(draw.integer(2, 3))]
    shape[axis] = sum(sizes)
    return {"x": draw.tensor(*shape), "axis": axis, "split_sizes": sizes, **draw.some(num_splits=len(sizes))}


def _squeeze(draw: Draw) -> Inputs:
    shape = [size if draw.flag() else 1 for size in draw.shape(least=2)]
    shape[draw.axis(len(shape))] = 2  # a scalar would be left otherwise
    ones = [axis for axis in draw.axes(len(shape)) if shape[axis] == 1]
    return {"x": draw.tensor(*shape), **({"axes": ones} if ones and draw.flag() else {})}


def _transpose(draw: Draw) -> Inputs:
    shape = draw.shape()
    perm = [axis - len(shape) if draw.flag() else axis for axis in draw.permutation(len(shape))]
    return {"x": draw.tensor(*shape), "perm": perm}


INFERRED: Mapping[str, Callable[[Draw], Inputs]] = {
    "add": _binary,
    "cast": _cast,
    "clip": _clip,
    "concat": _concat,
    "expand_dims": _expand_dims,
    "gather": _gather,
    "identity": _unary,
    "layer_norm": _layer_norm,
    "linear": _linear,
    "matmul": _matmul,
    "mul": _binary,
    "pad": _pad,
    "reduce_mean": _reduce_mean,
    "relu": _unary,
    "relu6": _unary,
    "reshape": _reshape,
    "reverse": _reverse,
    "scaled_dot_product_attention": _scaled_dot_product_attention,
    "sigmoid": _unary,
    "sigmoid_hard": _sigmoid_hard,
    "slice_by_index": _slice_by_index,
    "softmax": _softmax,
    "split": _split,
    "squeeze": _squeeze,
    "sub": _binary,
    "thresholded_relu": _alpha,
    "transpose": _transpose,
}


def test_every_operator_is_compared_here() -> None:
    assert INFERRED.keys() | NOT_INFERRED == OPERATORS.keys()
    assert not INFERRED.keys() & NOT_INFERRED


def test_coremltools_infers_values_of_all_others() -> None:
    from coremltools.converters.mil.mil import Operation as MilOperation

    without = {
        kind
        for kind in OPERATORS
        if all(form.value_inference is MilOperation.value_inference for form in _forms(kind).values())
    }
    assert without == NOT_INFERRED


def _forms(kind: str) -> dict[Any, Any]:
    """An operation's class by the first iOS that has it so."""
    from coremltools.converters.mil.mil.ops.registry import SSAOpRegistry

    forms: dict[Any, Any] = SSAOpRegistry.core_ops[kind]
    return forms


@pytest.mark.parametrize("kind", sorted(OPERATORS))
def test_it_takes_the_inputs_that_coremltools_knows_and_needs_those_that_it_requires(kind: str) -> None:
    parameters = inspect.signature(OPERATORS[kind]).parameters
    required = {name for name, parameter in parameters.items() if parameter.default is inspect.Parameter.empty}
    known: set[str] = set()
    for form in _forms(kind).values():
        types = form.input_spec.input_types
        known |= set(types)
        assert required == {name for name, given_type in types.items() if not given_type.optional}
    assert set(parameters) == known


def _distance(mine: Array, theirs: Array) -> float:
    """Of the greatest magnitude."""
    assert mine.shape == theirs.shape
    return float(np.abs(mine.astype(np.float64) - theirs).max() / (np.abs(theirs).max() or 1))


@pytest.mark.parametrize("kind", sorted(INFERRED))
@FEW
@given(st.data())
def test_it_computes_what_coremltools_infers(kind: str, infer: Any, data: st.DataObject) -> None:
    inputs = INFERRED[kind](Draw(data))
    # Copies: coremltools' thresholded_relu writes into its input.
    theirs = infer(kind, **{key: value.copy() if _varies(value) else value for key, value in inputs.items()})
    arrays = [np.asarray(value) for value in theirs]
    mine = ours(kind, inputs, [array.shape for array in arrays])
    assert all(_distance(a, b) <= 1e-6 for a, b in zip(mine, arrays, strict=True))


@FEW
@given(st.data())
def test_a_cast_to_half_precision_rounds_as_coremltools_does(infer: Any, data: st.DataObject) -> None:
    x = Draw(data).real(7)
    (theirs,) = infer("cast", x=x, dtype="fp16")
    (mine,) = ours("cast", {"x": x, "dtype": "fp16"}, [x.shape], Arithmetic.DECLARED, "fp16")
    assert theirs.dtype == np.float16
    assert np.array_equal(mine, theirs.astype(np.float32))


def _origin(pad_type: str, size: int, kernel: int, stride: int, before: int, after: int) -> tuple[int, int]:
    """Where the first window begins, and how many there are, along one axis; `kernel` with its dilation."""
    if pad_type == "valid":
        before = after = 0
    elif pad_type != "custom":
        count = math.ceil(size / stride)
        lacking = max(0, (count - 1) * stride + kernel - size)
        return -((lacking + 1) // 2 if pad_type == "same_lower" else lacking // 2), count
    return -before, (size + before + after - kernel) // stride + 1


def _convolved(inputs: Inputs) -> Array:
    x, weight = inputs["x"].astype(np.float64), inputs["weight"].astype(np.float64)
    (n, channels, height, width), (out, per_group, kernel_h, kernel_w) = x.shape, weight.shape
    strides, dilations = inputs.get("strides", [1, 1]), inputs.get("dilations", [1, 1])
    pad_type, pad = inputs.get("pad_type", "valid"), inputs.get("pad", [0, 0, 0, 0])
    (top, rows), (left, columns) = (
        _origin(pad_type, size, (k - 1) * dilation + 1, stride, *pair)
        for size, k, dilation, stride, pair in zip(
            (height, width), (kernel_h, kernel_w), dilations, strides, (pad[:2], pad[2:]), strict=True
        )
    )
    result = np.zeros((n, out, rows, columns))
    per_output = out // (channels // per_group)
    for image, o, i, j in np.ndindex(result.shape):
        for c, p, q in np.ndindex(per_group, kernel_h, kernel_w):
            row, column = top + i * strides[0] + p * dilations[0], left + j * strides[1] + q * dilations[1]
            if 0 <= row < height and 0 <= column < width:
                value = x[image, o // per_output * per_group + c, row, column]
                result[image, o, i, j] += weight[o, c, p, q] * value
    result += inputs.get("bias", np.zeros(out)).reshape(1, -1, 1, 1)
    return result


@MANY
@given(st.data())
def test_a_convolution_is_its_sum_over_a_window(infer: Any, data: st.DataObject) -> None:
    draw = Draw(data)
    groups = draw.integer(1, 3)
    n, per_group, per_output, kernel_h, kernel_w = draw.shape(5, 5, 3)
    dilations, strides = [draw.integer(1, 2), draw.integer(1, 2)], [draw.integer(1, 3), draw.integer(1, 3)]
    height, width = kernel_h * dilations[0] + draw.integer(0, 3), kernel_w * dilations[1] + draw.integer(0, 3)
    inputs: Inputs = {
        "x": draw.tensor(n, groups * per_group, height, width),
        "weight": draw.tensor(groups * per_output, per_group, kernel_h, kernel_w),
        "pad_type": draw.one_of("valid", "custom", "same", "same_lower"),
        **draw.some(strides=strides, dilations=dilations, bias=draw.tensor(groups * per_output)),
    }
    if groups > 1:
        inputs["groups"] = groups
    if inputs["pad_type"] == "custom" or draw.flag():  # which anything but custom ignores
        inputs["pad"] = [draw.integer(0, 2) for _ in range(4)]
    expected = _convolved(inputs)
    (mine,) = ours("conv", inputs, [expected.shape], Arithmetic.FLOAT64)
    assert _distance(mine, expected) <= 1e-12


@FEW
@given(st.data())
def test_same_padding_gives_the_shape_that_coremltools_declares(data: st.DataObject) -> None:
    from coremltools.converters.mil.mil.ops.defs._utils import spatial_dimensions_out_shape

    draw = Draw(data)
    size, kernel, stride, dilation = (draw.integer(3, 9), draw.integer(1, 4), draw.integer(1, 3), draw.integer(1, 2))
    for pad_type in ("same", "same_lower"):
        (declared,) = spatial_dimensions_out_shape(pad_type, (size,), (kernel,), (stride,), (dilation,))
        inputs = {
            "x": draw.tensor(1, 1, size, 1),
            "weight": draw.tensor(1, 1, kernel, 1),
            "pad_type": pad_type,
            "strides": [stride, 1],
            "dilations": [dilation, 1],
        }
        ours("conv", inputs, [(1, 1, declared, 1)])


@FEW
@given(st.data())
def test_silu_is_x_over_one_plus_e_to_minus_x(data: st.DataObject) -> None:
    x = Draw(data).real(11)
    (mine,) = ours("silu", {"x": x}, [x.shape], Arithmetic.FLOAT64)
    wide = x.astype(np.float64)
    assert mine == pytest.approx(wide / (1 + np.exp(-wide)), rel=1e-12)


def _grid(old: int, new: int, *, align_corners: bool) -> list[float]:
    """Where each of `new` samples lies among `old` ones, as coremltools' documentation says."""
    if align_corners:
        spacing = (old - 1) / (new - 1) if new > 1 else 0.0
        return [min(old - 1, max(0, i * spacing)) for i in range(new)]
    spacing = old / new
    return [min(old - 1, max(0, i * spacing + 0.5 * spacing - 0.5)) for i in range(new)]


def _upsampled(x: Array, shape: tuple[int, ...], *, align_corners: bool) -> Array:
    result = np.zeros(shape)
    rows, columns = (_grid(x.shape[i], shape[i], align_corners=align_corners) for i in (2, 3))
    for (i, row), (j, column) in itertools.product(enumerate(rows), enumerate(columns)):
        (top, below), (left, right) = math.modf(row)[::-1], math.modf(column)[::-1]
        for p, q, share in (
            (0, 0, (1 - below) * (1 - right)),
            (0, 1, (1 - below) * right),
            (1, 0, below * (1 - right)),
            (1, 1, below * right),
        ):
            if share:
                result[:, :, i, j] += share * x[:, :, int(top) + p, int(left) + q]
    return result


@MANY
@given(st.data())
def test_upsampling_interpolates_between_the_documented_grid_points(data: st.DataObject) -> None:
    draw = Draw(data)
    x = draw.tensor(*draw.shape(4, 4))
    factors = {f"scale_factor_{side}": np.float32(draw.one_of(1, 1.5, 2, 2.25, 3)) for side in ("height", "width")}
    inputs = {"x": x, **draw.some(**factors)}
    aligned = draw.flag()
    if not aligned or draw.flag():
        inputs["align_corners"] = aligned
    inputs |= draw.some(half_pixel_centers=not aligned)
    height, width = (
        math.floor(size * inputs.get(f"scale_factor_{side}", 1))
        for size, side in zip(x.shape[2:], ("height", "width"), strict=True)
    )
    expected = _upsampled(x.astype(np.float64), (*x.shape[:2], height, width), align_corners=aligned)
    (mine,) = ours("upsample_bilinear", inputs, [expected.shape], Arithmetic.FLOAT64)
    assert _distance(mine, expected) <= 1e-12


@FEW
@given(st.data())
def test_classify_names_the_most_probable_class(data: st.DataObject) -> None:
    draw = Draw(data)
    probabilities = draw.real(1, draw.integer(1, 9))
    classes = [f"class {i}" for i in draw.permutation(probabilities.size)]
    label, by_name = ours("classify", {"probabilities": probabilities, "classes": classes})
    assert by_name == dict(zip(classes, probabilities[0].tolist(), strict=True))
    assert by_name[label] == probabilities.max()


@FEW
@given(st.data())
def test_batch_normalization_is_by_the_mean_and_variance_that_are_given(data: st.DataObject) -> None:
    draw = Draw(data)
    shape = draw.shape(least=3)
    channels = shape[1]
    inputs: Inputs = {"x": draw.tensor(*shape), "mean": draw.tensor(channels), "variance": draw.tensor(channels) ** 2}
    if draw.flag():
        inputs |= {"gamma": draw.tensor(channels), "beta": draw.tensor(channels)}
    inputs |= draw.some(epsilon=np.float32(draw.one_of(1e-5, 1e-3, 0.5)))

    def along(name: str, default: float) -> Any:
        return inputs[name].astype(np.float64).reshape(-1, *[1] * (len(shape) - 2)) if name in inputs else default

    scale = along("gamma", 1) / np.sqrt(along("variance", 1) + float(inputs.get("epsilon", 1e-5)))
    expected = (inputs["x"].astype(np.float64) - along("mean", 0)) * scale + along("beta", 0)
    (mine,) = ours("batch_norm", inputs, [tuple(shape)], Arithmetic.FLOAT64)
    assert _distance(mine, expected) <= 1e-12


@FEW
@given(st.data())
def test_normalization_is_by_mean_and_variance_of_the_last_axes(data: st.DataObject) -> None:
    inputs = _layer_norm(Draw(data))
    x = inputs["x"].astype(np.float64)
    axes = tuple(inputs["axes"])
    if len(axes) == x.ndim:  # the default, which coremltools' builder cannot make
        del inputs["axes"]
    mean = sum(part / np.prod([x.shape[a] for a in axes]) for part in _parts(x, axes))
    variance = sum((part - mean) ** 2 / np.prod([x.shape[a] for a in axes]) for part in _parts(x, axes))
    spread = np.sqrt(variance + float(inputs.get("epsilon", 1e-5)))
    expected = (x - mean) / spread * inputs.get("gamma", 1) + inputs.get("beta", 0)
    (mine,) = ours("layer_norm", inputs, [x.shape], Arithmetic.FLOAT64)
    assert _distance(mine, expected) <= 1e-12


def _parts(x: Array, axes: tuple[int, ...]) -> list[Array]:
    """The slices along some axes one by one, which stay as axes of one."""
    places = itertools.product(*(range(x.shape[axis]) for axis in axes))
    parts = []
    for place in places:
        part = x
        for axis, i in zip(axes, place, strict=True):
            part = np.take(part, [i], axis)
        parts.append(part)
    return parts


@FEW
@given(st.data())
def test_attention_weighs_values_by_the_softmax_over_keys(data: st.DataObject) -> None:
    inputs = _scaled_dot_product_attention(Draw(data))
    query, key, value = (inputs[name].astype(np.float64) for name in ("query", "key", "value"))
    expected = np.zeros((*query.shape[:-1], value.shape[-1]))
    mask = np.broadcast_to(inputs.get("attn_mask", np.zeros(1)), (*query.shape[:-1], key.shape[-2]))
    for place in np.ndindex(query.shape[:-1]):
        *batch, _ = place
        scores = [
            float(query[place] @ key[(*batch, k)]) / math.sqrt(query.shape[-1]) + float(mask[(*place, k)])
            for k in range(key.shape[-2])
        ]
        weights = [math.exp(score - max(scores)) for score in scores]
        expected[place] = sum(w * value[(*batch, k)] for k, w in enumerate(weights)) / sum(weights)
    (mine,) = ours("scaled_dot_product_attention", inputs, [expected.shape], Arithmetic.FLOAT64)
    assert _distance(mine, expected) <= 1e-12


IMAGE, ROW = np.ones((1, 2, 4, 4), np.float32), np.ones((1, 4), np.float32)
KERNEL = np.ones((2, 2, 1, 1), np.float32)

REFUSED: tuple[tuple[str, Inputs, str], ...] = (
    ("conv", {"x": IMAGE, "weight": KERNEL, "pad_type": "reflect"}, "pad_type 'reflect'"),
    ("conv", {"x": IMAGE[0], "weight": KERNEL[0]}, "a convolution over 1 axes"),
    ("pad", {"x": IMAGE, "pad": [1, 1], "mode": "replicate"}, "mode 'replicate'"),
    ("cast", {"x": ROW, "dtype": "int32"}, "a cast to 'int32'"),
    ("cast", {"x": ROW, "dtype": "bool"}, "a cast to 'bool'"),
    ("concat", {"values": [ROW, ROW], "axis": 0, "interleave": True}, "interleave"),
    ("slice_by_index", {"x": ROW, "begin": [0, 3], "end": [1, 0], "stride": [1, -1]}, "a stride below 1"),
    ("layer_norm", {"x": IMAGE, "axes": [1]}, "normalization over axes (1,) of 4"),
    ("upsample_bilinear", {"x": IMAGE, "align_corners": True, "half_pixel_centers": True}, "half_pixel_centers True"),
    ("split", {"x": ROW, "axis": 1}, "neither num_splits nor split_sizes"),
    ("split", {"x": ROW, "axis": 1, "num_splits": 3}, "3 equal parts of 4"),
    ("split", {"x": ROW, "axis": 1, "split_sizes": [1, 2]}, "split_sizes"),
    ("classify", {"probabilities": ROW, "classes": ["a", "b", "c"]}, "3 different labels for 4 classes"),
    ("classify", {"probabilities": ROW, "classes": ["a", "b", "b", "a"]}, "2 different labels for 4 classes"),
    ("reshape", {"x": ROW, "shape": [3, -1]}, "invalid for input of size 4"),
)


@pytest.mark.parametrize(
    ("kind", "inputs", "named"), REFUSED, ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_value_of_an_operand_that_is_not_known_is_refused_by_name(kind: str, inputs: Inputs, named: str) -> None:
    with pytest.raises(BrokenArtifact) as caught:
        ours(kind, inputs, [(1, 4)])
    assert caught.value.what == f"{kind} 'output0' cannot be evaluated"
    assert named in str(caught.value.got)
