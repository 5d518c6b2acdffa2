"""An ONNX file around its network: preprocessing of photos before it, probabilities or the best classes after it.

Resampling is ONNX's own `Resize`, antialiased, along the rows and then along the columns, both on 8 bits as in Pillow.
`exclude_outside` is what makes the edges Pillow's: without it the outermost pixels are repeated beyond the image.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from efficientvit.errors import BrokenArtifact
from efficientvit.images.preprocessing import Preprocessing
from efficientvit.size import ImageSize
from runtimes.interface import BEST_CLASSES, BEST_SCORES, INPUT, OUTPUT, PROBABILITIES, SIZES
from runtimes.onnx.graph import put, without_unread
from runtimes.wrapping import Gives, Wrapping

FILTERS = {"bicubic": "cubic", "bilinear": "linear"}
"""Pillow's filters that ONNX has antialiased, by its name for them."""

_BEFORE, _AFTER = "preprocessing/", "answers/"
NORMALIZED = f"{_BEFORE}normalized"
"""The tensor that the network is fed."""


def wrapped(network: Any, wrapping: Wrapping) -> Any:
    """An onnx.ModelProto that computes what `network` does, which takes normalized images and gives logits."""
    model = type(network)()
    model.CopyFrom(network)
    graph = model.graph
    nodes = list(graph.node)
    before, after = _Nodes(_BEFORE), _Nodes(_AFTER)
    if wrapping.takes_images:
        batch = graph.input[0].type.tensor_type.shape.dim[0]
        count = batch.dim_value if batch.HasField("dim_value") else None
        _rename(nodes, INPUT, NORMALIZED)
        _preprocess(before, wrapping, count)
        put(graph.input, [_bytes(wrapping, batch.dim_param if count is None else count)])
    _answer(after, graph, wrapping)
    put(graph.node, (*before.nodes, *nodes, *after.nodes))
    graph.initializer.extend((*before.constants, *after.constants))
    return model


def network_in(model: Any, wrapping: Wrapping, outputs: Sequence[str]) -> Any:
    """The network in an onnx.ModelProto that `wrapped` made: the graph that gives `outputs`, and nothing else.

    What the model holds besides (types of the preprocessing's tensors, sparse tensors, functions) is not taken along,
    and so is missed when the network is wrapped again.

    Raises:
        BrokenArtifact: the model is not built so.
    """
    import onnx

    _require_plain(model)
    network = type(model)()
    network.CopyFrom(model)
    network.ClearField("functions")
    graph = network.graph
    graph.ClearField("sparse_initializer")
    graph.ClearField("quantization_annotation")
    put(graph.value_info, [each for each in graph.value_info if not each.name.startswith((_BEFORE, _AFTER))])
    named = {output.name: output for output in graph.output}
    if lacking := [name for name in outputs if name not in named]:
        raise BrokenArtifact(f"the ONNX file does not give '{lacking[0]}'", got=", ".join(named) or "no output")
    put(graph.output, [named[name] for name in outputs])
    if wrapping.takes_images:
        if not any(NORMALIZED in node.output for node in graph.node):
            raise BrokenArtifact(f"no node of the ONNX file gives '{NORMALIZED}', which its network takes")
        batch = graph.input[0].type.tensor_type.shape.dim[0]
        size = wrapping.preprocessing.image_size
        count = batch.dim_value if batch.HasField("dim_value") else batch.dim_param
        nodes = [node for node in graph.node if NORMALIZED not in node.output]
        _rename(nodes, NORMALIZED, INPUT)
        put(graph.node, nodes)
        put(graph.input, [onnx.helper.make_tensor_value_info(INPUT, onnx.TensorProto.FLOAT, size.nchw(count))])
    without_unread(network)
    return network


def _require_plain(model: Any) -> None:
    """One image in, its shape known, and no graph within a graph.

    Raises:
        BrokenArtifact: it is otherwise.
    """
    graph = model.graph
    shapes = [value.type.tensor_type.shape.dim for value in (*graph.input, *graph.output)]
    if len(graph.input) != 1 or not all(len(shape) >= 2 for shape in shapes):
        said = ", ".join(value.name for value in graph.input) or "none"
        raise BrokenArtifact("the ONNX file does not take one image of a known shape", got=f"inputs: {said}")
    if any(tensor.name == graph.input[0].name for tensor in graph.initializer):
        raise BrokenArtifact(f"the ONNX file holds its input '{graph.input[0].name}' as a constant")
    for node in graph.node:
        if any(attribute.type in (attribute.GRAPH, attribute.GRAPHS) for attribute in node.attribute):
            raise BrokenArtifact(f"{node.op_type} '{node.name}' of the ONNX file has a graph of its own")


def preprocessing_in(model: Any) -> Any:
    """The preprocessing in an onnx.ModelProto that `wrapped` made, as a model of its own: gives `NORMALIZED`."""
    import onnx

    before = type(model)()
    before.CopyFrom(model)
    graph = before.graph
    put(graph.output, [onnx.helper.make_tensor_value_info(NORMALIZED, onnx.TensorProto.FLOAT, None)])
    without_unread(before)
    return before


class _Nodes:
    """Nodes and constants under names of their own."""

    def __init__(self, prefix: str) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._prefix = prefix

    def add(self, kind: str, name: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """The name of its output."""
        import onnx

        full = f"{self._prefix}{name}"
        outputs = [full if output is None else output]
        self.nodes.append(onnx.helper.make_node(kind, inputs, outputs, name=full, **attributes))
        return outputs[0]

    def hold(self, name: str, value: NDArray[Any]) -> str:
        """The name of the constant."""
        import onnx

        full = f"{self._prefix}{name}"
        self.constants.append(onnx.numpy_helper.from_array(value, full))
        return full

    def whole(self, name: str, *values: int) -> str:
        """A one-dimensional constant of whole numbers."""
        return self.hold(name, np.array(values, np.int64))


def _rename(nodes: Sequence[Any], old: str, new: str) -> None:
    """What reads `old` reads `new`."""
    for node in nodes:
        for place, name in enumerate(node.input):
            if name == old:
                node.input[place] = new


def _bytes(wrapping: Wrapping, batch: int | str) -> Any:
    import onnx

    size = wrapping.fed_size
    sides: tuple[int | str, ...] = SIZES if size is None else (size.height, size.width)
    return onnx.helper.make_tensor_value_info(INPUT, onnx.TensorProto.UINT8, (batch, *sides, 3))


def _preprocess(nodes: _Nodes, wrapping: Wrapping, batch: int | None) -> None:
    """(B, h, w, 3) uint8 -> (B, 3, H, W) float32."""
    import onnx

    preprocessing = wrapping.preprocessing
    cut = nodes.add("Transpose", "channels_first", INPUT, perm=[0, 3, 1, 2])
    if wrapping.resizes:
        cut = _resize_and_crop(nodes, cut, wrapping, batch)
    number = nodes.add("Cast", "float", cut, to=onnx.TensorProto.FLOAT)
    unit = nodes.add("Div", "unit", number, nodes.hold("white", np.array(255, np.float32)))
    centered = nodes.add("Sub", "centered", unit, nodes.hold("mean", _by_channel(preprocessing.mean)))
    nodes.add("Div", "normalized", centered, nodes.hold("std", _by_channel(preprocessing.std)))


def _by_channel(values: Sequence[float]) -> NDArray[np.float32]:
    return np.array(values, np.float32).reshape(3, 1, 1)


def _resize_and_crop(nodes: _Nodes, image: str, wrapping: Wrapping, batch: int | None) -> str:
    preprocessing = wrapping.preprocessing
    cut = preprocessing.image_size
    before = nodes.add("Shape", "size", image, start=2)  # height and width: of a stated size folded when it is loaded
    height = nodes.add("Slice", "height", before, nodes.whole("0", 0), nodes.whole("1", 1))
    after = _resized(nodes, before, preprocessing)
    width = nodes.add("Slice", "resized_width", after, nodes.whole("from_1", 1), nodes.whole("to_2", 2))
    corner = _corner(nodes, after, preprocessing)
    images = nodes.whole("batch", batch) if batch else nodes.add("Shape", "batch", image, start=0, end=1)
    channels, nothing = nodes.whole("channels", 3), ""
    filtered: dict[str, Any] = {
        "mode": _filter(preprocessing),
        "antialias": 1,
        "exclude_outside": 1,
        "coordinate_transformation_mode": "half_pixel",
        "cubic_coeff_a": -0.5,
    }
    # Pillow resamples the rows first, and rounds to 8 bits before it resamples the columns.
    rows = nodes.add("Concat", "rows_resized_size", images, channels, height, width, axis=0)
    along_rows = nodes.add("Resize", "rows_resized", image, nothing, nothing, rows, **filtered)
    both = nodes.add("Concat", "both_resized_size", images, channels, after, axis=0)
    resized_image = nodes.add("Resize", "both_resized", along_rows, nothing, nothing, both, **filtered)
    end = nodes.add("Add", "end", corner, nodes.whole("cut", cut.height, cut.width))
    cropped = nodes.add("Slice", "cropped", resized_image, corner, end, nodes.whole("axes", 2, 3))
    # What shape inference cannot know: the corner is computed.
    return nodes.add("Reshape", "of_known_size", cropped, nodes.whole("known_size", 0, 3, cut.height, cut.width))


def _filter(preprocessing: Preprocessing) -> str:
    if preprocessing.interpolation not in FILTERS or preprocessing.crop == "squash":
        raise BrokenArtifact(
            "an ONNX file cannot resize so", got=f"{preprocessing.interpolation}, {preprocessing.crop}"
        )
    return FILTERS[preprocessing.interpolation]


def _resized(nodes: _Nodes, size: str, preprocessing: Preprocessing) -> str:
    """Height and width after resizing, as `resized_size` has them."""
    import onnx

    target = preprocessing.resize
    if target.is_square:  # whole numbers: the cut-off quotient of two of them is what floats give too
        shorter = nodes.add("ReduceMin", "shorter", size)
        scaled = nodes.add("Mul", "scaled", size, nodes.whole("short_side", target.height))
        return nodes.add("Div", "resized", scaled, shorter)
    double = onnx.TensorProto.DOUBLE
    sides = nodes.add("Cast", "sides", size, to=double)
    covering = nodes.hold("covering", np.array([target.height, target.width], np.float64))
    ratio = nodes.add("ReduceMin", "ratio", nodes.add("Div", "ratios", sides, covering))
    rounded = nodes.add("Round", "rounded", nodes.add("Div", "divided", sides, ratio))
    return nodes.add("Cast", "resized", rounded, to=onnx.TensorProto.INT64)


def _corner(nodes: _Nodes, resized: str, preprocessing: Preprocessing) -> str:
    """Top and left of the crop, as `crop_corner` has them: halves are rounded to even, by `Round` too."""
    import onnx

    cut: ImageSize = preprocessing.image_size
    over = nodes.add("Sub", "over", resized, nodes.whole("kept", cut.height, cut.width))
    number = nodes.add("Cast", "over_float", over, to=onnx.TensorProto.FLOAT)
    half = nodes.add("Mul", "half", number, nodes.hold("one_half", np.array(0.5, np.float32)))
    return nodes.add("Cast", "corner", nodes.add("Round", "corner_rounded", half), to=onnx.TensorProto.INT64)


def _answer(nodes: _Nodes, graph: Any, wrapping: Wrapping) -> None:
    """Add what the logits say in other words."""
    import onnx

    answers = wrapping.answers
    if answers.gives is Gives.LOGITS:
        return
    dims = graph.output[0].type.tensor_type.shape.dim
    batch: int | str = dims[0].dim_value if dims[0].HasField("dim_value") else dims[0].dim_param
    classes = dims[1].dim_value
    topk = answers.gives is Gives.TOPK
    shares = f"{_AFTER}{PROBABILITIES}" if topk else PROBABILITIES
    if classes == 1:
        nodes.add("Sigmoid", PROBABILITIES, OUTPUT, output=shares)
    else:
        nodes.add("Softmax", PROBABILITIES, OUTPUT, output=shares, axis=-1)
    number = onnx.TensorProto.FLOAT
    if not topk:
        graph.output.append(onnx.helper.make_tensor_value_info(PROBABILITIES, number, (batch, classes)))
        return
    best = nodes.whole("best", answers.best)
    made = onnx.helper.make_node("TopK", [shares, best], [BEST_SCORES, BEST_CLASSES], name=f"{_AFTER}topk", axis=-1)
    nodes.nodes.append(made)
    shape = (batch, answers.best)
    graph.output.append(onnx.helper.make_tensor_value_info(BEST_SCORES, number, shape))
    graph.output.append(onnx.helper.make_tensor_value_info(BEST_CLASSES, onnx.TensorProto.INT64, shape))
