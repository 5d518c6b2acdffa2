"""What a Core ML classifier takes its label from is proven too, in a package of another tool."""

import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from efficientvit.model import EfficientViT
from efficientvit.size import square
from efficientvit.spec import model_spec
from efficientvit.weights.seeded import seeded
from runtimes.external import open_foreign
from tests.validation.proof.opened_package import opened
from validation.proof.foreign import ForeignProof, prove_foreign
from validation.proof.outcome import Outcome

SIZE, CLASSES = square(64), 10


@pytest.fixture(scope="module")
def model() -> EfficientViT:
    return seeded(model_spec("m0", SIZE, CLASSES))


@pytest.fixture(scope="module")
def classifier(model: EfficientViT, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Logits behind a softmax, converted with labels, as coremltools' guide does."""
    import coremltools as ct

    network = torch.nn.Sequential(model, torch.nn.Softmax(1)).eval()
    package: Path = tmp_path_factory.mktemp("classifier") / "classifier.mlpackage"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(network, torch.zeros(1, 3, 64, 64))
        ct.convert(
            traced,
            inputs=[ct.TensorType(name="image", shape=(1, 3, 64, 64))],
            classifier_config=ct.ClassifierConfig([f"class {index}" for index in range(CLASSES)]),
            minimum_deployment_target=ct.target.iOS15,
            skip_model_load=True,
        ).save(str(package))
    return package


def proven(package: Path, model: EfficientViT) -> ForeignProof:
    """Of the logits that a classifier's dictionary is made of."""
    return prove_foreign(open_foreign(package, "m0", CLASSES), model, probabilities=False)


def _softmax_of(block: Any) -> Any:
    """That of the logits; those of attention have more axes."""
    (found,) = [op for op in block.operations if op.type == "softmax" and op.outputs[0].type.tensorType.rank == 2]
    return found


def _softmax_over_the_images(block: Any) -> None:
    """Of a batch of one every probability is 1 then."""
    axis = _softmax_of(block).inputs["axis"].arguments[0]
    (constant,) = [each for each in block.operations if each.outputs[0].name == axis.name]
    axis.ClearField("name")
    axis.value.CopyFrom(constant.attributes["val"])
    axis.value.immediateValue.tensor.ints.values[0] = 0


def _sigmoid_for_softmax(block: Any) -> None:
    softmax = _softmax_of(block)
    softmax.type = "sigmoid"
    del softmax.inputs["axis"]


def test_a_classifier_is_proven_with_what_its_label_is_taken_from(classifier: Path, model: EfficientViT) -> None:
    found = proven(classifier, model)
    assert found.proof.outcome is Outcome.PROVEN, found


def test_a_dictionary_of_logits_is_judged_as_logits(classifier: Path, model: EfficientViT, tmp_path: Path) -> None:
    """Without a softmax the label is the same: the file gives logits, and says so."""
    package = tmp_path / "logits.mlpackage"
    with opened(classifier, package) as block:
        logits = _softmax_of(block).inputs["x"].arguments[0].name
        (label,) = [each for each in block.operations if each.type == "classify"]
        label.inputs["probabilities"].arguments[0].name = logits
    assert open_foreign(package, "m0", CLASSES).output.name == logits
    assert proven(package, model).proof.outcome is Outcome.PROVEN


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (_softmax_over_the_images, "classify reads 'var_.*', which is not the softmax of 'linear_0"),
        (_sigmoid_for_softmax, "sigmoid 'var_.*' gives what the trained form has nowhere"),
    ],
)
def test_a_label_that_is_taken_from_something_else_is_refused(
    change: Callable[[Any], None], named: str, classifier: Path, model: EfficientViT, tmp_path: Path
) -> None:
    package = tmp_path / "wrong.mlpackage"
    with opened(classifier, package) as block:
        change(block)
    found = proven(package, model)
    assert found.proof.outcome is Outcome.DIFFERENT, found
    assert re.search(named, found.proof.detail)
    assert found.refused
