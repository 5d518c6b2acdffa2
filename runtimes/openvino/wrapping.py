"""An OpenVINO IR around its network: preprocessing of photos before it, probabilities or the best classes after it.

Resampling is two matrix products, along the rows and along the columns, each rounded to 8 bits as in Pillow, with
Pillow's weights. OpenVINO's own imitation of Pillow (`Interpolate`, `bicubic_pillow`) gives the same pixels, but
prepares itself for every new size of a photo for seconds (2026.4).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from efficientvit.errors import BrokenArtifact
from efficientvit.images.preprocessing import Preprocessing
from runtimes.interface import BEST_CLASSES, BEST_SCORES, INPUT, OUTPUT, PROBABILITIES
from runtimes.openvino.package import import_openvino
from runtimes.openvino.program import port_name
from runtimes.wrapping import Gives, Wrapping

FILTERS = ("bicubic", "bilinear")
"""Pillow's filters whose weights are computed here."""

_BEFORE, _AFTER = "preprocessing/", "answers/"
NORMALIZED = f"{_BEFORE}normalized"
"""The operation whose result the network is fed."""


def wrap(model: Any, wrapping: Wrapping) -> Any:
    """Change an openvino.Model, which takes normalized images and gives logits; returns it."""
    openvino = import_openvino()
    parameters, outputs = model.get_parameters(), list(model.outputs)
    logits = next((port for port in outputs if port_name(port) == OUTPUT), None)
    if wrapping.takes_images:
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
    if len(parameters) != 1 or parameters[0].get_partial_shape().rank.is_dynamic:
        said = ", ".join(each.get_friendly_name() for each in parameters) or "none"
        raise BrokenArtifact("the IR does not take one image of a known shape", got=f"inputs: {said}")
    if wrapping.takes_images:
        normalized, (fed,) = _normalized(model), parameters
        size = wrapping.preprocessing.image_size
        shape = openvino.PartialShape([fed.get_partial_shape()[0], *map(openvino.Dimension, size.nchw(1)[1:])])
        tensor = openvino.op.Parameter(openvino.Type.f32, shape)
        _name(tensor, INPUT, tensor=INPUT)
        for reader in normalized.output(0).get_target_inputs():
            reader.replace_source_output(tensor.output(0))
        parameters = [tensor]
    try:
        return openvino.Model([named[name] for name in outputs], parameters, model.get_friendly_name())
    except RuntimeError as error:  # it reads what is not the network's
        raise BrokenArtifact("the IR's network cannot be taken out", got=str(error).strip().splitlines()[-1]) from error


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
    turned = ops("transpose", "channels_first", image, ops.hold("order", [0, 3, 1, 2]))
    number = ops("convert", "float", turned, destination_type="f32")
    if wrapping.resizes:
        number = _resize_and_crop(ops, image, number, preprocessing)
    unit = ops("divide", "unit", number, ops.hold("white", 255, np.float32))
    mean, std = (np.array(each).reshape(1, 3, 1, 1) for each in (preprocessing.mean, preprocessing.std))
    centered = ops("subtract", "centered", unit, ops.hold("mean", mean, np.float32))
    return ops("divide", "normalized", centered, ops.hold("std", std, np.float32))


def _resize_and_crop(ops: _Operations, image: Any, pixels: Any, preprocessing: Preprocessing) -> Any:
    """(B, 3, h, w) -> (B, 3, H, W), both in 8-bit units. `image`: whose shape says the size."""
    before, after, corner = _sizes(ops, image, preprocessing)
    cut = preprocessing.image_size
    weights = [
        _Weights(ops, side, place, preprocessing.interpolation)(before, after, corner, length)
        for place, (side, length) in enumerate((("height", cut.height), ("width", cut.width)))
    ]
    rows = ops("matmul", "rows_resampled", pixels, weights[1], transpose_a=False, transpose_b=True)
    rounded = _rounded(ops, "rows", rows)
    columns = ops("matmul", "both_resampled", weights[0], rounded, transpose_a=False, transpose_b=False)
    return _rounded(ops, "both", columns)


def _rounded(ops: _Operations, name: str, values: Any) -> Any:
    """As Pillow rounds: halves up, cut off at 0 and 255."""
    up = ops("add", f"{name}_and_half", values, ops.hold(f"{name}_half", 0.5, np.float32))
    return ops("clamp", f"{name}_rounded", ops("floor", f"{name}_floor", up), min_value=0.0, max_value=255.0)


class _Weights:
    """(L, n): how much each of n pixels counts in L pixels of the crop, along one side."""

    def __init__(self, ops: _Operations, side: str, place: int, interpolation: str) -> None:
        if interpolation not in FILTERS:
            raise BrokenArtifact("an IR cannot resize so", got=interpolation)
        self._ops, self._side, self._place, self._interpolation = ops, side, place, interpolation

    def __call__(self, before: Any, after: Any, corner: Any, length: int) -> Any:
        """Pillow's filter of |(j + 1/2) m/n - (i + 1/2)| / max(m/n, 1), for n pixels that become m, rows summing to 1.

        Of i and j doubled and crossed out: whole numbers, of which those that count are small.
        """
        n, m, first = (self._of_side(what, each) for what, each in (("n", before), ("m", after), ("first", corner)))
        i = self._op("add", "i", first, self._whole("i_from_first", np.arange(length)[:, None]))
        count = self._op("squeeze", "count", n, self._whole("only_axis", [0]))
        j = self._op("range", "j", self._whole("from", 0), count, self._whole("by", 1), output_type="i64")
        distance = self._op("subtract", "d", self._crossed("j", j, m), self._crossed("i", i, n))
        longer = self._op("convert", "longer", self._op("maximum", "longest", n, m), destination_type="f32")
        doubled = self._op("multiply", "two_longer", longer, self._hold("2", 2))
        apart = self._op("convert", "d_float", distance, destination_type="f32")
        weights = self._filter(self._op("divide", "t", self._op("absolute", "abs_d", apart), doubled))
        sums = self._op("reduce_sum", "sums", weights, self._whole("over_j", [1]), keep_dims=True)
        return self._op("divide", "weights", weights, sums)

    def _filter(self, t: Any) -> Any:
        """Keys' cubic with a = -1/2, or the triangle (Pillow's Resample.c)."""
        if self._interpolation == "bilinear":
            return self._op("relu", "filter", self._op("subtract", "filter_1_t", self._hold("filter_1", 1), t))
        inner = self._polynomial("inner", t, (1.5, -2.5, 0, 1))
        outer = self._polynomial("outer", t, (-0.5, 2.5, -4, 2))
        beyond = self._op("select", "outside", self._less(t, 2), outer, self._hold("nothing", 0))
        return self._op("select", "filter", self._less(t, 1), inner, beyond)

    def _less(self, t: Any, limit: int) -> Any:
        return self._op("less", f"t_below_{limit}", t, self._hold(f"limit_{limit}", limit))

    def _polynomial(self, name: str, t: Any, coefficients: Sequence[float]) -> Any:
        found = self._hold(f"{name}_0", coefficients[0])
        for place, each in enumerate(coefficients[1:], 1):
            product = self._op("multiply", f"{name}_times_{place}", found, t)
            found = self._op("add", f"{name}_plus_{place}", product, self._hold(f"{name}_{place}", each))
        return found

    def _crossed(self, name: str, index: Any, size: Any) -> Any:
        """(2 index + 1) size."""
        twice = self._op("add", f"{name}_twice", index, index)
        odd = self._op("add", f"{name}_odd", twice, self._whole(f"{name}_1", 1))
        return self._op("multiply", f"{name}_crossed", odd, size)

    def _of_side(self, name: str, sizes: Any) -> Any:
        """(1,): this side's of (height, width)."""
        return self._op("gather", name, sizes, self._whole(f"{name}_at", [self._place]), self._axis(name))

    def _axis(self, name: str) -> Any:
        return self._whole(f"{name}_axis", 0)

    def _op(self, kind: str, name: str, *inputs: Any, **attributes: Any) -> Any:
        return self._ops(kind, f"{self._side}/{name}", *inputs, **attributes)

    def _hold(self, name: str, value: Any) -> Any:
        return self._ops.hold(f"{self._side}/{name}", value, np.float32)

    def _whole(self, name: str, value: Any) -> Any:
        return self._ops.hold(f"{self._side}/{name}", value)


def _sizes(ops: _Operations, image: Any, preprocessing: Preprocessing) -> tuple[Any, Any, Any]:
    """Height and width before and after resizing, and top and left of the crop, in whole numbers.

    Of a stated size all of it is known, and folded, when the file is compiled.
    """
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
    return sides, after, ops("add", "corner", half, ops("multiply", "rounds_up", odd, up))


def _covering(ops: _Operations, sides: Any, others: Any, preprocessing: Preprocessing) -> Any:
    """The smallest size of the same shape that covers the target, rounded: max(H, h W / w), max(W, w H / h).

    In whole numbers, halves to even: the plugin computes floats in 32 bits, however they are declared.
    """
    target = preprocessing.resize
    twice = ops("add", "twice", others, others)
    doubled = ops("multiply", "doubled", sides, ops.hold("twice_width_height", [2 * target.width, 2 * target.height]))
    with_half = ops("add", "with_half", doubled, others)
    up = ops("divide", "half_up", with_half, twice)
    whole = ops("equal", "is_half", ops("multiply", "up_times", up, twice), with_half)
    odd = ops("mod", "odd_half", up, ops.hold("two_halves", [2]))
    less = ops("multiply", "to_even", ops("convert", "is_half_number", whole, destination_type="i64"), odd)
    scaled = ops("subtract", "scaled", up, less)
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
