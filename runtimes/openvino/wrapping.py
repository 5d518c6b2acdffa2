"""An OpenVINO IR around its network: preprocessing of photos before it, probabilities or the best classes after it.

Resampling is OpenVINO's own imitation of Pillow on 8 bits (`Interpolate`, modes `bicubic_pillow` and
`bilinear_pillow`).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from efficientvit.errors import BrokenArtifact
from efficientvit.images.preprocessing import Preprocessing, crop_corner, resized_size
from runtimes.interface import BEST_CLASSES, BEST_SCORES, INPUT, OUTPUT, PROBABILITIES
from runtimes.openvino.program import port_name
from runtimes.openvino.runtime import import_openvino
from runtimes.wrapping import Gives, Takes, Wrapping

FILTERS = {"bicubic": "bicubic_pillow", "bilinear": "bilinear_pillow"}
"""Pillow's filters that OpenVINO imitates, by its name for them."""

_BEFORE, _AFTER = "preprocessing/", "answers/"
NORMALIZED = f"{_BEFORE}normalized"
"""The operation whose result the network is fed."""


def wrap(model: Any, wrapping: Wrapping) -> Any:
    """Change an openvino.Model, which takes normalized images and gives logits; returns it."""
    openvino = import_openvino()
    parameters, outputs = model.get_parameters(), list(model.outputs)
    logits = next((port for port in outputs if port_name(port) == OUTPUT), None)
    if wrapping.feed.takes is not Takes.TENSOR:
        (tensor,) = parameters
        batch = tensor.get_partial_shape()[0]
        fed = _parameter(openvino, wrapping, batch)
        normalized = _preprocess(fed, wrapping)
        for reader in tensor.output(0).get_target_inputs():
            reader.replace_source_output(normalized.output(0))
        parameters = [fed]
    results = list(model.get_results())
    if wrapping.answers.gives is not Gives.LOGITS:
        assert logits is not None, "only a classifier gives more"
        source = next(each for each in results if port_name(each.output(0)) == OUTPUT).input_value(0)
        results += _answers(source, wrapping)
    return openvino.Model(results, parameters, model.get_friendly_name())


def network_in(model: Any, wrapping: Wrapping, outputs: Sequence[str]) -> Any:
    """The network in an openvino.Model that `wrap` made: the model, changed, that gives `outputs`.

    Raises:
        BrokenArtifact: the model is not built so.
    """
    openvino = import_openvino()
    named = {port_name(result.output(0)): result for result in model.get_results()}
    if lacking := [name for name in outputs if name not in named]:
        raise BrokenArtifact(f"the IR does not give '{lacking[0]}'", got=", ".join(named) or "no output")
    parameters = model.get_parameters()
    if wrapping.feed.takes is not Takes.TENSOR:
        normalized = _normalized(model)
        (fed,) = parameters
        size = wrapping.preprocessing.image_size
        shape = openvino.PartialShape([fed.get_partial_shape()[0], *map(openvino.Dimension, size.nchw(1)[1:])])
        tensor = openvino.op.Parameter(openvino.Type.f32, shape)
        _name(tensor, INPUT, tensor=INPUT)
        for reader in normalized.output(0).get_target_inputs():
            reader.replace_source_output(tensor.output(0))
        parameters = [tensor]
    return openvino.Model([named[name] for name in outputs], parameters, model.get_friendly_name())


def preprocessing_in(model: Any) -> Any:
    """The preprocessing in an openvino.Model that `wrap` made, as a model of its own: gives `NORMALIZED`."""
    openvino = import_openvino()
    return openvino.Model([_result(_normalized(model).output(0), NORMALIZED)], model.get_parameters(), "preprocessing")


def _normalized(model: Any) -> Any:
    found = next((each for each in model.get_ops() if each.get_friendly_name() == NORMALIZED), None)
    if found is None:
        raise BrokenArtifact(f"no operation of the IR is called '{NORMALIZED}', whose result its network takes")
    return found


def _name(operation: Any, name: str, tensor: str | None = None) -> Any:
    operation.set_friendly_name(name)
    if tensor is not None:
        operation.output(0).get_tensor().set_names({tensor})
    return operation


def _result(port: Any, name: str) -> Any:
    import openvino.opset13 as ops

    port.get_tensor().set_names({name})
    return _name(ops.result(port), f"{name}/result")


def _parameter(openvino: Any, wrapping: Wrapping, batch: Any) -> Any:
    size = wrapping.fed_size
    sides = (-1, -1) if size is None else (size.height, size.width)
    shape = openvino.PartialShape([batch, *map(openvino.Dimension, (*sides, 3))])
    return _name(openvino.op.Parameter(openvino.Type.u8, shape), INPUT, tensor=INPUT)


class _Operations:
    """Operations and constants under names of their own."""

    def __init__(self, prefix: str) -> None:
        import openvino.opset13 as ops

        self._ops, self._prefix = ops, prefix

    def __call__(self, kind: str, name: str, *inputs: Any, **attributes: Any) -> Any:
        return _name(getattr(self._ops, kind)(*inputs, **attributes), f"{self._prefix}{name}")

    def hold(self, name: str, value: Any, dtype: type = np.int64) -> Any:
        """A constant."""
        return _name(self._ops.constant(np.array(value, dtype)), f"{self._prefix}{name}")


def _preprocess(image: Any, wrapping: Wrapping) -> Any:
    """(B, h, w, 3) uint8 -> (B, 3, H, W) float32."""
    ops, preprocessing = _Operations(_BEFORE), wrapping.preprocessing
    cut = _resize_and_crop(ops, image, wrapping) if wrapping.feed.takes is Takes.IMAGE else image
    turned = ops("transpose", "channels_first", cut, ops.hold("order", [0, 3, 1, 2]))
    number = ops("convert", "float", turned, destination_type="f32")
    unit = ops("divide", "unit", number, ops.hold("white", 255, np.float32))
    mean, std = (np.array(each).reshape(1, 3, 1, 1) for each in (preprocessing.mean, preprocessing.std))
    centered = ops("subtract", "centered", unit, ops.hold("mean", mean, np.float32))
    return ops("divide", "normalized", centered, ops.hold("std", std, np.float32))


def _resize_and_crop(ops: _Operations, image: Any, wrapping: Wrapping) -> Any:
    preprocessing, size = wrapping.preprocessing, wrapping.feed.size
    cut = preprocessing.image_size
    if size is None:
        after, corner = _sizes(ops, image, preprocessing)
    else:
        resized = resized_size(size, preprocessing)
        after = ops.hold("resized_size", [resized.height, resized.width])
        corner = ops.hold("corner", crop_corner(resized, preprocessing))
    scaled = ops(
        "interpolate",
        "resized",
        image,
        after,
        mode=FILTERS[preprocessing.interpolation],
        shape_calculation_mode="sizes",
        coordinate_transformation_mode="half_pixel",
        cube_coeff=-0.5,
        axes=ops.hold("sides", [1, 2]),
    )
    end = ops("add", "end", corner, ops.hold("cut", [cut.height, cut.width]))
    cropped = ops("slice", "cropped", scaled, corner, end, ops.hold("step", [1, 1]), ops.hold("axes", [1, 2]))
    # What shape inference cannot know: the corner is computed.
    size_known = ops.hold("known_size", [0, cut.height, cut.width, 3])
    return ops("reshape", "of_known_size", cropped, size_known, special_zero=True)


def _sizes(ops: _Operations, image: Any, preprocessing: Preprocessing) -> tuple[Any, Any]:
    """Height and width after resizing, and top and left of the crop, of an image of any size, in whole numbers."""
    target, cut = preprocessing.resize, preprocessing.image_size
    shape = ops("shape_of", "shape", image)
    sides = ops("gather", "size", shape, ops.hold("height_width", [1, 2]), ops.hold("axis", 0))
    if target.is_square:
        shorter = ops("reduce_min", "shorter", sides, ops.hold("all", [0]), keep_dims=True)
        scaled = ops("multiply", "scaled", sides, ops.hold("short_side", [target.height]))
        after = ops("divide", "resized_size", scaled, shorter)
    else:
        others = ops("gather", "other_sides", shape, ops.hold("width_height", [2, 1]), ops.hold("same_axis", 0))
        after = _covering(ops, sides, others, preprocessing)
    over = ops("subtract", "over", after, ops.hold("kept", [cut.height, cut.width]))
    # Halves to even, as Python rounds: of 2n + 1 pixels it is n where that is even, else n + 1.
    half = ops("divide", "half", over, ops.hold("two", [2]))
    odd = ops("subtract", "odd", over, ops("add", "twice_half", half, half))
    up = ops("mod", "half_is_odd", half, ops.hold("two_more", [2]))
    return after, ops("add", "corner", half, ops("multiply", "rounds_up", odd, up))


def _covering(ops: _Operations, sides: Any, others: Any, preprocessing: Preprocessing) -> Any:
    """The smallest size of the same shape that covers the target, rounded: max(H, h W / w), max(W, w H / h).

    In whole numbers: the plugin computes floats in 32 bits, however they are declared.
    """
    target = preprocessing.resize
    doubled = ops("multiply", "doubled", sides, ops.hold("twice_width_height", [2 * target.width, 2 * target.height]))
    rounding = ops("add", "with_half", doubled, others)
    scaled = ops("divide", "scaled", rounding, ops("add", "twice", others, others))
    return ops("maximum", "resized_size", scaled, ops.hold("covered", [target.height, target.width]))


def _answers(logits: Any, wrapping: Wrapping) -> list[Any]:
    """What the logits say in other words, as results."""
    ops, answers = _Operations(_AFTER), wrapping.answers
    single = logits.get_partial_shape()[1].get_length() == 1
    shares = ops("sigmoid", PROBABILITIES, logits) if single else ops("softmax", PROBABILITIES, logits, axis=1)
    if answers.gives is not Gives.TOPK:
        return [_result(shares.output(0), PROBABILITIES)]
    best = ops("topk", "topk", shares, ops.hold("best", answers.best), axis=1, mode="max", sort="value")
    indices = ops("convert", "indices", best.output(1), destination_type="i64")
    return [_result(best.output(0), BEST_SCORES), _result(indices.output(0), BEST_CLASSES)]
