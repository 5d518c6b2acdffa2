"""Faults in a Core ML classifier: its labels and probabilities."""

from typing import Any

from export.selftest.faults.coreml.package import Package, given, giving, opened, renamed, shape
from export.selftest.faults.fault import Rng, Table, in_file
from runtimes.interface import LABEL, OUTPUT, PROBABILITIES

fault = Table("coreml", in_file(opened), "fp16 coreml")


def _labels(package: Package) -> Any:
    (classify,) = package.kind("classify")
    return classify.inputs["classes"].arguments[0].value.immediateValue.list.values


def _label(entry: Any) -> Any:
    return entry.immediateValue.tensor.strings.values


@fault("interface")
@fault("interface", "palette6 compress", rare=True)
def swapped_labels(package: Package, rng: Rng) -> None:
    """Two labels with each other's place."""
    labels = _labels(package)
    first, second = (_label(labels[int(i)]) for i in rng.choice(len(labels), 2, replace=False))
    first[0], second[0] = second[0], first[0]


@fault("interface")
def repeated_label(package: Package, rng: Rng) -> None:
    """Two classes of one name: an app cannot tell their probabilities apart."""
    labels = _labels(package)
    first, second = (_label(labels[int(i)]) for i in rng.choice(len(labels), 2, replace=False))
    first[0] = second[0]


@fault("interface")
def missing_label(package: Package, rng: Rng) -> None:
    """A label left out."""
    labels = _labels(package)
    del labels[int(rng.integers(len(labels)))]


@fault("interface")
def exchanged_names(package: Package, rng: Rng) -> None:
    """Which output is the label and which the probabilities, told the wrong way round."""
    description = package.model.description
    description.predictedFeatureName, description.predictedProbabilitiesName = PROBABILITIES, LABEL


@fault("interface")
def renamed_label(package: Package, rng: Rng) -> None:
    """An app that reads `classLabel` finds nothing of that name."""
    renamed(package, LABEL, "label")
    package.model.description.predictedFeatureName = "label"


def _probable(package: Package) -> Any:
    """The softmax whose result the label is taken from."""
    (softmax,) = [o for o in package.kind("softmax") if len(shape(o.outputs[0])) == 2]
    return softmax


@fault("labels")
def probabilities_over_the_batch(package: Package, rng: Rng) -> None:
    """A softmax over the one image: every class is certain."""
    giving(package, _probable(package), "axis", 0)


@fault("labels", "fp32 coreml")
def doubled_logits(package: Package, rng: Rng) -> None:
    """Probabilities of twice the logits: the label is right, and too certain."""
    softmax = _probable(package)
    name = given(softmax, "x")
    doubled = package.insert(package.maker(name), "add", "doubled", x=name, y=name)
    _probable(package).inputs["x"].arguments[0].name = doubled.outputs[0].name


@fault("labels", "fp32 coreml")
def cut_logits(package: Package, rng: Rng) -> None:
    """Probabilities of the logits with the negative ones cut off: the label is right."""
    softmax = _probable(package)
    name = given(softmax, "x")
    cut = package.insert(package.maker(name), "relu", "cut", x=name)
    _probable(package).inputs["x"].arguments[0].name = cut.outputs[0].name


@fault("labels", "fp32 coreml", rare=True)
def softmax_twice(package: Package, rng: Rng) -> None:
    """Probabilities of probabilities: the label is right, and hardly more probable than any other."""
    softmax = _probable(package)
    twice = package.insert(softmax, "softmax", "twice", x=softmax.outputs[0].name, axis=given(softmax, "axis"))
    package.rewire(softmax.outputs[0].name, "twice", but=[twice])


@fault("labels", "fp32 coreml", rare=True)
def sigmoid_probabilities(package: Package, rng: Rng) -> None:
    """Each class by itself: the label is right, the probabilities are none of one another."""
    softmax = _probable(package)
    softmax.type = "sigmoid"
    del softmax.inputs["axis"]


@fault("labels", "fp32 coreml", rare=True)
def label_of_logits(package: Package, rng: Rng) -> None:
    """Logits in place of probabilities: the label is right."""
    (classify,) = package.kind("classify")
    classify.inputs["probabilities"].arguments[0].name = OUTPUT
