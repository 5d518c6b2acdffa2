"""Faults in what a Core ML package takes, gives and says of itself."""

from typing import Any

import numpy as np

from export.selftest.faults.coreml.graph import inner
from export.selftest.faults.coreml.package import FLOAT16, Package, Rng, given, giving, next_up, pick, shape
from runtimes.interface import LABEL, METADATA_PREFIX, OUTPUT, PROBABILITIES


def _image_constant(package: Package, name: str) -> Any:
    """The floats that scale or shift the pixels."""
    return package.value(given(package.maker(name), "y")).immediateValue.tensor.floats.values


MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def image_scale(package: Package, rng: Rng) -> None:
    """A division by 256."""
    del rng
    _image_constant(package, "image__scaled__")[:] = [1 / 256]


def image_bias(package: Package, rng: Rng) -> None:
    """The means in the order blue, green, red."""
    del rng
    bias = _image_constant(package, "image__biased__")
    bias[:] = list(reversed(bias))


def image_bias_last_bit(package: Package, rng: Rng) -> None:
    """One channel's mean off by a unit in the last place."""
    bias = _image_constant(package, "image__biased__")
    values = np.array(bias, np.float32)
    next_up(values, int(rng.integers(3)))
    bias[:] = values.tolist()


def average_std(package: Package, rng: Rng) -> None:
    """One std for three channels, as guides recommend for a single scale, the first convolution as it was trained."""
    del rng
    _image_constant(package, "image__scaled__")[:] = [1 / (255 * 0.226)]
    _image_constant(package, "image__biased__")[:] = (-MEAN / 0.226).tolist()
    blob = next(blob for name, blob in package.blobs().items() if "stem_conv1_weight" in name)
    blob.values = (blob.values.reshape(-1, 3, 9) * STD.reshape(1, 3, 1)).reshape(-1)


def folded_mean(package: Package, rng: Rng) -> None:
    """The mean in the first convolution's bias in place of the image's: wrong at the border, where zeros are padded."""
    del rng
    (conv,) = package.weighted("stem_conv1_weight")
    weight = package.blobs()[given(conv, "weight")].values.reshape(-1, 3, 9)
    name, shift = given(conv, "bias"), (weight.astype(np.float64) * MEAN.reshape(1, 3, 1)).sum(axis=(1, 2))
    if (blob := package.blobs().get(name)) is not None:  # more than ten values lie in the weights' file
        blob.values = (blob.values - shift).astype(np.float32)
    else:
        held = package.value(name).immediateValue.tensor.floats.values
        held[:] = (np.array(held) - shift).tolist()
    _image_constant(package, "image__biased__")[:] = [0, 0, 0]


def normalized_twice(package: Package, rng: Rng) -> None:
    """Scale and bias once more, by the same constants."""
    del rng
    biased, scaled = package.maker("image__biased__"), package.maker("image__scaled__")
    again = package.insert(biased, "mul", "scaled_again", x="image__biased__", y=given(scaled, "y"))
    last = package.insert(again, "add", "biased_again", x="scaled_again", y=given(biased, "y"))
    package.rewire("image__biased__", "biased_again", but=[again])
    assert last.outputs[0].name == "biased_again"


def normalized_never(package: Package, rng: Rng) -> None:
    """The pixels as they are."""
    del rng
    for name in ("image__biased__", "image__scaled__"):
        operation = package.maker(name)
        package.drop(operation, given(operation, "x"))


def bgr_layout(package: Package, rng: Rng) -> None:
    """Blue first."""
    del rng
    image = package.model.description.input[0].type.imageType
    image.colorSpace = image.ColorSpace.Value("BGR")


def flexible_image(package: Package, rng: Rng) -> None:
    """An app is told that any size will do."""
    size = package.model.description.input[0].type.imageType.imageSizeRange
    size.widthRange.lowerBound = size.heightRange.lowerBound = int(rng.integers(32, _side(package)))
    size.widthRange.upperBound = size.heightRange.upperBound = -1


# --- labels -----------------------------------------------------------------------------------------------------------


def _labels(package: Package) -> Any:
    (classify,) = package.kind("classify")
    return classify.inputs["classes"].arguments[0].value.immediateValue.list.values


def _label(entry: Any) -> Any:
    return entry.immediateValue.tensor.strings.values


def swapped_labels(package: Package, rng: Rng) -> None:
    """Two labels with each other's place."""
    labels = _labels(package)
    first, second = (_label(labels[int(i)]) for i in rng.choice(len(labels), 2, replace=False))
    first[0], second[0] = second[0], first[0]


def repeated_label(package: Package, rng: Rng) -> None:
    """Two classes of one name: an app cannot tell their probabilities apart."""
    labels = _labels(package)
    first, second = (_label(labels[int(i)]) for i in rng.choice(len(labels), 2, replace=False))
    first[0] = second[0]


def missing_label(package: Package, rng: Rng) -> None:
    """A label left out."""
    labels = _labels(package)
    del labels[int(rng.integers(len(labels)))]


def exchanged_names(package: Package, rng: Rng) -> None:
    """Which output is the label and which the probabilities, told the wrong way round."""
    del rng
    description = package.model.description
    description.predictedFeatureName, description.predictedProbabilitiesName = PROBABILITIES, LABEL


def renamed_label(package: Package, rng: Rng) -> None:
    """An app that reads `classLabel` finds nothing of that name."""
    del rng
    _renamed(package, LABEL, "label")
    package.model.description.predictedFeatureName = "label"


def _probable(package: Package) -> Any:
    """The softmax whose result the label is taken from."""
    (softmax,) = [o for o in package.kind("softmax") if len(shape(o.outputs[0])) == 2]
    return softmax


def probabilities_over_the_batch(package: Package, rng: Rng) -> None:
    """A softmax over the one image: every class is certain."""
    del rng
    giving(package, _probable(package), "axis", 0)


def doubled_logits(package: Package, rng: Rng) -> None:
    """Probabilities of twice the logits: the label is right, and too certain."""
    del rng
    softmax = _probable(package)
    name = given(softmax, "x")
    doubled = package.insert(package.maker(name), "add", "doubled", x=name, y=name)
    _probable(package).inputs["x"].arguments[0].name = doubled.outputs[0].name


def cut_logits(package: Package, rng: Rng) -> None:
    """Probabilities of the logits with the negative ones cut off: the label is right."""
    del rng
    softmax = _probable(package)
    name = given(softmax, "x")
    cut = package.insert(package.maker(name), "relu", "cut", x=name)
    _probable(package).inputs["x"].arguments[0].name = cut.outputs[0].name


def softmax_twice(package: Package, rng: Rng) -> None:
    """Probabilities of probabilities: the label is right, and hardly more probable than any other."""
    del rng
    softmax = _probable(package)
    twice = package.insert(softmax, "softmax", "twice", x=softmax.outputs[0].name, axis=given(softmax, "axis"))
    package.rewire(softmax.outputs[0].name, "twice", but=[twice])


def sigmoid_probabilities(package: Package, rng: Rng) -> None:
    """Each class by itself: the label is right, the probabilities are none of one another."""
    del rng
    softmax = _probable(package)
    softmax.type = "sigmoid"
    del softmax.inputs["axis"]


def label_of_logits(package: Package, rng: Rng) -> None:
    """Logits in place of probabilities: the label is right."""
    del rng
    (classify,) = package.kind("classify")
    classify.inputs["probabilities"].arguments[0].name = OUTPUT


# --- what the package says --------------------------------------------------------------------------------------------


def other_digest(package: Package, rng: Rng) -> None:
    """Another digest of the weights, by one digit."""
    said = package.model.description.metadata.userDefined
    key = pick(rng, sorted(key for key in said if key.endswith("-sha256")))
    i, digest = int(rng.integers(64)), said[key]
    said[key] = f"{digest[:i]}{(int(digest[i], 16) + 1) % 16:x}{digest[i + 1 :]}"


def missing_key(package: Package, rng: Rng) -> None:
    """A key of the metadata left out."""
    said = package.model.description.metadata.userDefined
    del said[pick(rng, sorted(key for key in said if key.startswith(METADATA_PREFIX)))]


def additional_key(package: Package, rng: Rng) -> None:
    """Something said in our name that we did not say."""
    del rng
    package.model.description.metadata.userDefined[f"{METADATA_PREFIX}accuracy"] = "99.9%"


def other_field(package: Package, rng: Rng) -> None:
    """Author, license, version or description."""
    metadata = package.model.description.metadata
    name = pick(rng, ["author", "license", "versionString", "shortDescription"])
    setattr(metadata, name, f"{getattr(metadata, name)}.")


def _renamed(package: Package, old: str, new: str, *, described: bool = True) -> None:
    for output in package.maker(old).outputs:
        if output.name == old:
            output.name = new
    package.rewire(old, new)
    package.block.outputs[:] = [new if name == old else name for name in package.block.outputs]
    if described:
        for output in package.model.description.output:
            output.name = new if output.name == old else output.name


def renamed_output(package: Package, rng: Rng) -> None:
    """An app that reads `logits` finds nothing of that name; the numbers are right."""
    del rng
    _renamed(package, OUTPUT, "scores")


def renamed_inside(package: Package, rng: Rng) -> None:
    """An output that the program calls otherwise than the description."""
    del rng
    _renamed(package, OUTPUT, "scores", described=False)


def unreturned(package: Package, rng: Rng) -> None:
    """An output that the program computes and does not return."""
    del rng
    package.block.outputs.remove(OUTPUT)


def additional_output(package: Package, rng: Rng) -> None:
    """One output more, described as it is."""
    _returned(package, rng)
    output = package.model.description.output.add(name=package.block.outputs[-1])
    array = output.type.multiArrayType
    array.dataType = array.ArrayDataType.Value("FLOAT16")
    array.shape[:] = shape(package.maker(output.name).outputs[0])


def _returned(package: Package, rng: Rng) -> None:
    package.block.outputs.append(inner(package, rng).outputs[0].name)


def undescribed_output(package: Package, rng: Rng) -> None:
    """One output more that the description is silent about."""
    _returned(package, rng)


def undescribed_input(package: Package, rng: Rng) -> None:
    """One input more that the description is silent about: nobody can feed it."""
    del rng
    package.function.inputs.add(name="more").type.CopyFrom(package.function.inputs[0].type)


def half_input(package: Package, rng: Rng) -> None:
    """A program that takes fp16 where the description's image becomes float32."""
    del rng
    package.function.inputs[0].type.tensorType.dataType = FLOAT16


def tensor_input(package: Package, rng: Rng) -> None:
    """A float32 array in place of an image."""
    del rng
    array = package.model.description.input[0].type.multiArrayType
    array.dataType = array.ArrayDataType.Value("FLOAT32")
    array.shape[:] = (1, 3, _side(package), _side(package))


def half_logits(package: Package, rng: Rng) -> None:
    """Logits in fp16, described as float32: the last cast is lost."""
    del rng
    cast = package.maker(OUTPUT)
    name = given(cast, "x")
    package.block.operations.remove(cast)
    package.maker(name).outputs[0].name = OUTPUT
    package.rewire(name, OUTPUT)


def half_logits_described(package: Package, rng: Rng) -> None:
    """The same, and an app is told."""
    half_logits(package, rng)
    array = package.model.description.output[0].type.multiArrayType
    array.dataType = array.ArrayDataType.Value("FLOAT16")


def newer_format(package: Package, rng: Rng) -> None:
    """A version of the format that older devices refuse, though nothing in the program needs it."""
    package.model.specificationVersion += int(rng.integers(1, 3))


def _side(package: Package) -> int:
    return int(shape(package.function.inputs[0])[-1])
