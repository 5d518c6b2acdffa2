"""Faults in a Core ML package's image input, and in how the program normalizes it."""

from typing import Any

import numpy as np

from export.selftest.faults.coreml.package import Package, given, opened, shape
from export.selftest.faults.fault import NUMBERS, Rng, Table, in_file, next_up, one_changed

fault = Table("coreml", in_file(opened), "fp16 coreml")

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def _image_constant(package: Package, name: str) -> Any:
    """The floats that scale or shift the pixels."""
    return package.value(given(package.maker(name), "y")).immediateValue.tensor.floats.values


@fault("constants", also=NUMBERS)
def image_scale(package: Package, rng: Rng) -> None:
    """A division by 256."""
    _image_constant(package, "image__scaled__")[:] = [1 / 256]


@fault("constants", "fp32 coreml", also=NUMBERS)
def image_bias(package: Package, rng: Rng) -> None:
    """The means in the order blue, green, red."""
    bias = _image_constant(package, "image__biased__")
    bias[:] = list(reversed(bias))


@fault("constants", rare=True)
def image_bias_last_bit(package: Package, rng: Rng) -> None:
    """One channel's mean off by a unit in the last place."""
    bias = _image_constant(package, "image__biased__")
    bias[:] = one_changed(np.array(bias, np.float32), rng, next_up).tolist()


@fault("constants", "fp32 coreml", also=NUMBERS)
def average_std(package: Package, rng: Rng) -> None:
    """One std for three channels, as guides recommend for a single scale, the first convolution as it was trained."""
    _image_constant(package, "image__scaled__")[:] = [1 / (255 * 0.226)]
    _image_constant(package, "image__biased__")[:] = (-MEAN / 0.226).tolist()
    blob = next(blob for name, blob in package.blobs().items() if "stem_conv1_weight" in name)
    blob.values = (blob.values.reshape(-1, 3, 9) * STD.reshape(1, 3, 1)).reshape(-1)


@fault("constants", "fp32 coreml", also=NUMBERS)
def folded_mean(package: Package, rng: Rng) -> None:
    """The mean in the first convolution's bias in place of the image's: wrong at the border, where zeros are padded."""
    (conv,) = package.weighted("stem_conv1_weight")
    weight = package.blobs()[given(conv, "weight")].values.reshape(-1, 3, 9)
    name, shift = given(conv, "bias"), (weight.astype(np.float64) * MEAN.reshape(1, 3, 1)).sum(axis=(1, 2))
    if (blob := package.blobs().get(name)) is not None:  # more than ten values lie in the weights' file
        blob.values = (blob.values - shift).astype(np.float32)
    else:
        held = package.value(name).immediateValue.tensor.floats.values
        held[:] = (np.array(held) - shift).tolist()
    _image_constant(package, "image__biased__")[:] = [0, 0, 0]


@fault("structure", "fp32 coreml", also=("precision",))
def normalized_twice(package: Package, rng: Rng) -> None:
    """Scale and bias once more, by the same constants."""
    biased, scaled = package.maker("image__biased__"), package.maker("image__scaled__")
    again = package.insert(biased, "mul", "scaled_again", x="image__biased__", y=given(scaled, "y"))
    last = package.insert(again, "add", "biased_again", x="scaled_again", y=given(biased, "y"))
    package.rewire("image__biased__", "biased_again", but=[again])
    assert last.outputs[0].name == "biased_again"


@fault("interface", program=True)
def normalized_never(package: Package, rng: Rng) -> None:
    """The pixels as they are."""
    for name in ("image__biased__", "image__scaled__"):
        operation = package.maker(name)
        package.drop(operation, given(operation, "x"))


@fault("interface")
def bgr_layout(package: Package, rng: Rng) -> None:
    """Blue first."""
    image = package.model.description.input[0].type.imageType
    image.colorSpace = image.ColorSpace.Value("BGR")


@fault("interface")
def flexible_image(package: Package, rng: Rng) -> None:
    """An app is told that any size will do."""
    size = package.model.description.input[0].type.imageType.imageSizeRange
    size.widthRange.lowerBound = size.heightRange.lowerBound = int(rng.integers(32, _side(package)))
    size.widthRange.upperBound = size.heightRange.upperBound = -1


@fault("interface")
def tensor_input(package: Package, rng: Rng) -> None:
    """A float32 array in place of an image."""
    array = package.model.description.input[0].type.multiArrayType
    array.dataType = array.ArrayDataType.Value("FLOAT32")
    array.shape[:] = (1, 3, _side(package), _side(package))


def _side(package: Package) -> int:
    return int(shape(package.function.inputs[0])[-1])
