"""A parsed network as it is read: made by TensorRT's own API, and everything that is refused by name."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from efficientvit.errors import BrokenArtifact
from runtimes.evaluator.evaluator import Arithmetic, Evaluator
from runtimes.evaluator.program import Program, TensorType
from runtimes.tensorrt.api import RTX, engine_logger, product
from runtimes.tensorrt.network import _LAYERS, read_network
from runtimes.tensorrt.operators import LAYERS

trt = pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is made for Linux and Windows")

_TYPED = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
_BUILDER = trt.Builder(engine_logger(product(RTX))[0])

IMAGE = (1, 4, 6, 6)
ONES = np.ones((4, 4, 3, 3), np.float32)
_KEPT: list[Any] = [ONES]
"""Networks refer to the memory that they are given."""


def _network() -> Any:
    return _BUILDER.create_network(_TYPED)


def _constant(network: Any, value: Any, dtype: Any = np.float32) -> Any:
    _KEPT.append(np.ascontiguousarray(value, dtype))
    return network.add_constant(np.shape(value), _KEPT[-1]).get_output(0)


def _read(network: Any, *layers: Any) -> Program:
    for layer in layers:
        network.mark_output(layer.get_output(0))
    return read_network(network, trt)


Make = Callable[[Any, Any], Any]
"""(network, its input of shape IMAGE) -> the last layer."""


def _pooling(network: Any, x: Any) -> Any:
    return network.add_pooling_nd(x, trt.PoolingType.MAX, (2, 2))


def _scale(network: Any, x: Any) -> Any:
    one = np.ones(1, np.float32)
    _KEPT.append(one)
    return network.add_scale(x, trt.ScaleMode.UNIFORM, one, one, one)


def _select(network: Any, x: Any) -> Any:
    return network.add_select(_constant(network, np.ones(IMAGE, bool), np.bool_), x, x)


KINDS: dict[str, Make] = {
    "TOPK": lambda network, x: network.add_topk(x, trt.TopKOperation.MAX, 1, 2),
    "LRN": lambda network, x: network.add_lrn(x, 3, 1.0, 1.0, 1.0),
    "POOLING": _pooling,
    "SCALE": _scale,
    "SELECT": _select,
    "DECONVOLUTION": lambda network, x: network.add_deconvolution_nd(x, 4, (3, 3), ONES),
    "EINSUM": lambda network, x: network.add_einsum([x], "abcd->abdc"),
    "PARAMETRIC_RELU": lambda network, x: network.add_parametric_relu(x, x),
    "PADDING": lambda network, x: network.add_padding_nd(x, (1, 1), (1, 1)),
    "FILL": lambda network, _: network.add_fill((1, 4), trt.FillOperation.LINSPACE, trt.float32),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_that_is_not_known_is_refused_by_name(kind: str) -> None:
    network = _network()
    layer = KINDS[kind](network, network.add_input("x", trt.float32, IMAGE))
    layer.name = "stage1.block1/Odd"
    with pytest.raises(
        BrokenArtifact, match=r"layer 'stage1\.block1/Odd' of the parsed network is of an unsupported kind"
    ) as broken:
        _read(network, layer)
    assert broken.value.got == kind
    assert broken.value.expected == ", ".join(sorted(_LAYERS))


def _convolution(padding: Any) -> Make:
    def made(network: Any, x: Any) -> Any:
        layer = network.add_convolution_nd(x, 4, (3, 3), ONES)
        layer.padding_mode = padding
        return layer

    return made


def _slice(mode: Any) -> Make:
    def made(network: Any, x: Any) -> Any:
        layer = network.add_slice(x, (0, 0, 0, 0), (1, 4, 8, 8), (1, 1, 1, 1))
        layer.mode = mode
        return layer

    return made


def _slice_with(operand: int, value: Any, dtype: Any) -> Make:
    """With an operand more than is known here: what to fill with, or the axes."""

    def made(network: Any, x: Any) -> Any:
        layer = network.add_slice(x, (0, 0), (2, 2), (1, 1))
        layer.set_input(operand, _constant(network, value, dtype))
        return layer

    return made


def _gather(mode: Any, elementwise: int = 0) -> Make:
    def made(network: Any, x: Any) -> Any:
        shape = IMAGE if mode == trt.GatherMode.ELEMENT else (1, 2)
        layer = network.add_gather_v2(x, _constant(network, np.zeros(shape), np.int64), mode)
        layer.num_elementwise_dims = elementwise
        return layer

    return made


def _resize(**attributes: Any) -> Make:
    known = {
        "resize_mode": trt.InterpolationMode.LINEAR,
        "coordinate_transformation": trt.ResizeCoordinateTransformation.HALF_PIXEL,
        "shape": (1, 4, 12, 12),
    }

    def made(network: Any, x: Any) -> Any:
        layer = network.add_resize(x)
        for name, value in {**known, **attributes}.items():
            setattr(layer, name, value)
        return layer

    return made


def _blocks(network: Any, x: Any) -> Any:
    flat = network.add_shuffle(x)
    flat.reshape_dims = (4, 36)
    layer = network.add_quantize(flat.get_output(0), _constant(network, np.ones((2, 36))), trt.int8)
    layer.block_shape = (2, 1)
    return layer


def _groups(network: Any, x: Any) -> Any:
    one = _constant(network, np.ones((1, 4, 1, 1)))
    layer = network.add_normalization(x, one, one, 0b1100)
    layer.num_groups = 2
    return layer


ATTRIBUTES: dict[str, tuple[Make, str]] = {
    "padding by the size of the output": (_convolution(trt.PaddingMode.SAME_UPPER), "padding_mode SAME_UPPER"),
    "rounding up": (_convolution(trt.PaddingMode.EXPLICIT_ROUND_UP), "padding_mode EXPLICIT_ROUND_UP"),
    "a slice round the corner": (_slice(trt.SampleMode.WRAP), "mode WRAP"),
    "a slice beyond the edge": (_slice(trt.SampleMode.CLAMP), "mode CLAMP"),
    "a slice that is filled up": (_slice_with(4, np.zeros(()), np.float32), "5 inputs"),
    "a slice of axes in a tensor": (_slice_with(5, [2, 3], np.int64), "6 inputs"),
    "a gather of elements": (_gather(trt.GatherMode.ELEMENT), "mode ELEMENT"),
    "a gather of several axes": (_gather(trt.GatherMode.ND), "mode ND"),
    "a gather in batches": (_gather(trt.GatherMode.DEFAULT, 1), "1 elementwise dimensions"),
    "a cubic resize": (_resize(resize_mode=trt.InterpolationMode.CUBIC), "resize_mode InterpolationMode.CUBIC"),
    "a resize to the nearest": (_resize(resize_mode=trt.InterpolationMode.NEAREST), "InterpolationMode.NEAREST"),
    "a resize of other coordinates": (
        _resize(coordinate_transformation=trt.ResizeCoordinateTransformation.ALIGN_CORNERS),
        "coordinate_transformation ResizeCoordinateTransformation.ALIGN_CORNERS",
    ),
    "a resize that ends at the edge": (_resize(exclude_outside=True), "exclude_outside True"),
    "a quantizer in blocks": (_blocks, "blocks of [2, 1]"),
    "normalization in groups": (_groups, "2 groups"),
}


@pytest.mark.parametrize("what", ATTRIBUTES)
def test_an_attribute_that_is_not_known_is_refused_by_the_layers_name(what: str) -> None:
    make, got = ATTRIBUTES[what]
    network = _network()
    layer = make(network, network.add_input("x", trt.float32, IMAGE))
    layer.name = "stage1.block1/Odd"
    with pytest.raises(
        BrokenArtifact, match=r"layer 'stage1\.block1/Odd' of the parsed network is not supported"
    ) as broken:
        _read(network, layer)
    assert got in str(broken.value.got)


def test_a_resize_by_factors_is_refused_when_it_is_evaluated() -> None:
    """Its size would be the reader's to compute."""
    network = _network()
    layer = network.add_resize(network.add_input("x", trt.float32, IMAGE))
    layer.resize_mode = trt.InterpolationMode.LINEAR
    layer.coordinate_transformation = trt.ResizeCoordinateTransformation.HALF_PIXEL
    layer.scales = (1, 1, 2, 2)
    with pytest.raises(BrokenArtifact, match="lacks its input size"):
        Evaluator(_read(network, layer), Arithmetic.FLOAT32, language=LAYERS)


@pytest.mark.parametrize("dtype", ["FP8", "INT4", "UINT8", "FP4"])
def test_a_dtype_that_is_not_known_is_refused_by_the_tensors_name(dtype: str) -> None:
    network = _network()
    layer = network.add_identity(network.add_input("odd", getattr(trt.DataType, dtype), IMAGE))
    layer.get_output(0).name = "stage1.odd"
    says = r"tensor 'stage1\.odd' of the parsed network is of an unsupported dtype"
    with pytest.raises(BrokenArtifact, match=says) as broken:
        _read(network, layer)
    assert broken.value.got == dtype


def test_weights_of_a_dtype_without_numpy_are_refused() -> None:
    network = _network()
    memory = np.zeros(8, np.uint16)
    layer = network.add_constant((2, 4), trt.Weights(trt.DataType.BF16, memory.ctypes.data, memory.size))
    layer.name = "head.weight"
    with pytest.raises(BrokenArtifact, match=r"layer 'head\.weight'") as broken:
        _read(network, network.add_identity(layer.get_output(0)))
    assert broken.value.got == "weights of DataType.BF16"


def test_layers_are_sorted_after_what_they_read() -> None:
    """A parser may append what computes a shape to where it is used."""
    network = _network()
    x = network.add_input("x", trt.float32, IMAGE)
    last, middle, first = (
        network.add_identity(x),
        network.add_identity(x),
        network.add_activation(x, trt.ActivationType.RELU),
    )
    last.set_input(0, middle.get_output(0))
    middle.set_input(0, first.get_output(0))
    program = _read(network, last)
    assert [operation.name for operation in program.operations] == [
        layer.get_output(0).name for layer in (first, middle, last)
    ]
    value = np.linspace(-1, 1, 144, dtype=np.float32).reshape(IMAGE)
    (result,) = Evaluator(program, Arithmetic.FLOAT32, language=LAYERS)({"x": value}).values()
    assert np.array_equal(result, value.clip(0))


def test_a_network_that_feeds_itself_is_refused() -> None:
    network = _network()
    first = network.add_identity(network.add_input("x", trt.float32, IMAGE))
    second = network.add_identity(first.get_output(0))
    first.set_input(0, second.get_output(0))
    with pytest.raises(BrokenArtifact, match="has no shape"):
        read_network(network, trt)


def test_operands_that_do_not_go_together_are_refused() -> None:
    network = _network()
    x, y = network.add_input("x", trt.float32, (2, 3)), network.add_input("y", trt.float32, (4, 5))
    layer = network.add_elementwise(x, y, trt.ElementWiseOperation.SUM)
    layer.get_output(0).name = "stem.sum"
    with pytest.raises(BrokenArtifact, match=r"tensor 'stem\.sum' of the parsed network has no shape"):
        read_network(network, trt)


class Altered:
    """A network whose layers come as told; TensorRT's own API would not let it be made."""

    def __init__(self, network: Any, order: list[int]) -> None:
        self._network, self._order = network, order
        self.num_layers = len(order)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._network, name)

    def get_layer(self, index: int) -> Any:
        return self._network.get_layer(self._order[index])


def _sum_of_constants() -> Any:
    """Layers: 0 and 1 constants, 2 their sum, 3 its negative."""
    network = _network()
    one, two = _constant(network, [1.0]), _constant(network, [2.0])
    added = network.add_elementwise(one, two, trt.ElementWiseOperation.SUM)
    network.mark_output(network.add_unary(added.get_output(0), trt.UnaryOperation.NEG).get_output(0))
    return network


@pytest.mark.parametrize(
    ("order", "says"),
    [
        ([0, 1, 2, 3, 3], "two tensors of the parsed network have the same name"),
        ([0, 0, 1, 2, 3], "of the parsed network is not supported"),
        ([0, 1, 3], "which no layer of the parsed network gives"),
        ([0, 2, 3], "which no layer of the parsed network gives"),
    ],
)
def test_names_that_are_given_twice_or_never_are_refused(order: list[int], says: str) -> None:
    network = _sum_of_constants()
    assert len(read_network(Altered(network, [0, 1, 2, 3]), trt).operations) == 2
    with pytest.raises(BrokenArtifact, match=says):
        read_network(Altered(network, order), trt)


def test_a_tensor_of_an_inputs_name_is_refused() -> None:
    network = _sum_of_constants()

    class Also(Altered):
        num_inputs = 1

        def get_input(self, index: int) -> Any:
            del index
            return self._network.get_layer(2).get_output(0)

    with pytest.raises(BrokenArtifact, match="two tensors of the parsed network have the same name"):
        read_network(Also(network, [0, 1, 2, 3]), trt)


def test_what_a_convolution_holds_bears_its_modules_name() -> None:
    network = _network()
    bias = np.arange(4, dtype=np.float32)
    _KEPT.append(bias)
    layer = network.add_convolution_nd(network.add_input("x", trt.float32, IMAGE), 4, (3, 3), ONES, bias)
    layer.name = "stage1.block1.ffn1.branch.expand/Conv"
    program = _read(network, layer)
    held = {name: value.value for name, value in program.constants.items() if isinstance(value.value, np.ndarray)}
    assert list(held) == ["stage1.block1.ffn1.branch.expand.weight", "stage1.block1.ffn1.branch.expand.bias"]
    assert np.array_equal(held["stage1.block1.ffn1.branch.expand.weight"], ONES)
    assert np.array_equal(held["stage1.block1.ffn1.branch.expand.bias"], bias)
    assert set(program.operations[0].inputs) == {
        "x",
        "kernel",
        "bias",
        "stride",
        "before",
        "after",
        "dilation",
        "groups",
    }


def test_what_other_layers_hold_bears_the_layers_name() -> None:
    network = _network()
    x = network.add_input("x", trt.float32, IMAGE)
    convolution = network.add_convolution_nd(x, 4, (3, 3), ONES)
    convolution.name = "plain"
    softmax = network.add_softmax(convolution.get_output(0))
    softmax.name = "stage1/Softmax"
    program = _read(network, softmax)
    assert "plain:kernel" in program.constants
    assert program.constants["stage1/Softmax:axes"].value == [1]
    # An absent operand is no constant.
    assert "bias" not in program.operations[0].inputs


def test_one_name_is_given_once_to_what_layers_hold() -> None:
    """Of a layer of the name that another's operand would have."""
    network = _network()
    held = _constant(network, ONES)
    held.name = "head.weight"
    x = network.add_input("x", trt.float32, IMAGE)
    convolution = network.add_convolution_nd(x, 4, (3, 3), 2 * ONES)
    convolution.name = "head/Conv"
    other = network.add_convolution_nd(x, 4, (3, 3), trt.Weights(trt.float32))
    other.set_input(1, held)
    program = _read(network, convolution, other)
    by_name = {operation.name: operation.inputs["kernel"] for operation in program.operations}
    assert by_name == {convolution.get_output(0).name: "head.weight:2", other.get_output(0).name: "head.weight"}
    assert np.array_equal(np.asarray(program.constants["head.weight"].value), ONES)


def test_a_kernel_that_is_a_tensor_is_an_operand() -> None:
    network = _network()
    layer = network.add_convolution_nd(network.add_input("x", trt.float32, IMAGE), 4, (3, 3), trt.Weights(trt.float32))
    layer.name = "head/Conv"
    kernel = _constant(network, ONES)
    layer.set_input(1, kernel)
    (operation,) = _read(network, layer).operations
    assert operation.inputs["kernel"] == kernel.name
    assert "bias" not in operation.inputs


def test_a_zero_point_is_an_operand_of_its_own() -> None:
    network = _network()
    x = network.add_input("x", trt.float32, IMAGE)
    layer = network.add_quantize(x, _constant(network, np.array(0.5)), trt.int8)
    without = _read(network, layer).operations[0].inputs
    zero = _constant(network, np.array(0), np.int8)
    layer.set_input(2, zero)
    assert without == {
        key: name for key, name in read_network(network, trt).operations[-1].inputs.items() if key != "zero"
    }
    assert read_network(network, trt).operations[-1].inputs["zero"] == zero.name


def test_constants_outlive_the_network() -> None:
    network = _network()
    value = np.arange(6, dtype=np.float16).reshape(2, 3)
    program = _read(network, network.add_identity(network.add_constant((2, 3), value).get_output(0)))
    del network
    value[:] = -1
    (constant,) = program.constants.values()
    assert constant.type == TensorType("fp16", (2, 3))
    assert np.array_equal(np.asarray(constant.value), np.arange(6, dtype=np.float16).reshape(2, 3))
    assert constant.value.dtype == np.float16  # type: ignore[union-attr]


def test_what_is_declared_is_read() -> None:
    network = _network()
    x = network.add_input("image", trt.float32, (-1, 3, 8, 8))
    half = network.add_cast(x, trt.float16)
    half.get_output(0).name = "half"
    program = _read(network, half, network.add_shape(x))
    assert program.opset == trt.__version__
    assert program.inputs == {"image": TensorType("fp32", (-1, 3, 8, 8))}
    assert program.outputs[0] == "half"
    types = program.types()
    assert types["half"] == TensorType("fp16", (-1, 3, 8, 8))
    assert types[program.outputs[1]] == TensorType("int64", (4,))


def _attributes(make: Make) -> dict[str, Any]:
    network = _network()
    program = _read(network, make(network, network.add_input("x", trt.float32, IMAGE)))
    (operation,) = program.operations
    return {key: program.constants[name].value for key, name in operation.inputs.items() if name in program.constants}  # type: ignore[index]


def _shuffled(first: Any = None, shape: Any = None, second: Any = None) -> Make:
    def made(network: Any, x: Any) -> Any:
        layer = network.add_shuffle(x)
        for name, value in (("first_transpose", first), ("reshape_dims", shape), ("second_transpose", second)):
            if value is not None:
                setattr(layer, name, value)
        return layer

    return made


def _clip(network: Any, x: Any) -> Any:
    layer = network.add_activation(x, trt.ActivationType.CLIP)
    layer.alpha, layer.beta = -0.5, 6.0
    return layer


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (_shuffled(), {"zero_keeps": True}),
        (_shuffled(first=(0, 2, 3, 1)), {"zero_keeps": True, "first": [0, 2, 3, 1]}),
        (_shuffled(shape=(4, -1), second=(1, 0)), {"zero_keeps": True, "shape": [4, -1], "second": [1, 0]}),
        (lambda network, x: network.add_reduce(x, trt.ReduceOperation.AVG, 0b1100, False),
         {"op": "AVG", "axes": [2, 3], "keep": False}),
        (_clip, {"function": "CLIP", "alpha": -0.5, "beta": 6.0}),
        (lambda network, x: network.add_slice(x, (0, 1, 0, 0), (1, 2, 6, 3), (1, 1, 1, 2)),
         {"start": [0, 1, 0, 0], "size": [1, 2, 6, 3], "stride": [1, 1, 1, 2]}),
        (lambda network, x: network.add_cast(x, trt.float16), {"to": "fp16"}),
        (lambda network, x: network.add_cast(x, trt.int64), {"to": "int64"}),
    ],
)  # fmt: skip
def test_attributes_are_read(make: Make, found: dict[str, Any]) -> None:
    assert _attributes(make) == found


def test_only_kinds_that_are_evaluated_are_read() -> None:
    assert {kind.lower() for kind in _LAYERS} - {"constant"} == set(LAYERS.operators)


def test_another_number_of_outputs_is_refused() -> None:
    network = _network()
    network.add_identity(network.add_input("x", trt.float32, IMAGE))

    class Twofold:
        """A stand-in for a layer that would give two tensors."""

        def __init__(self, layer: Any) -> None:
            self.type, self.name, self.num_outputs, self.get_output = layer.type, "odd", 2, layer.get_output

    stand_in = SimpleNamespace(IIdentityLayer=Twofold, __version__="0")
    altered = SimpleNamespace(num_layers=1, get_layer=lambda _: Twofold(network.get_layer(0)))
    with pytest.raises(BrokenArtifact, match="layer 'odd'") as broken:
        read_network(altered, stand_in)
    assert broken.value.got == "2 outputs"
