"""What a Core ML classifier takes its label from is proven too, in a package of another tool."""

import re
import shutil
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
from export.targets.coreml.package import write_model
from runtimes.coreml.mlpackage import load_model
from runtimes.external import open_foreign
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


def _operations(package: Path) -> tuple[Any, list[Any]]:
    file = load_model(package)
    function = file.mlProgram.functions["main"]
    return file, list(function.block_specializations[function.opset].operations)


def _softmax_over_the_images(operations: list[Any]) -> None:
    """Of a batch of one every probability is 1 then."""
    (softmax,) = [each for each in operations if each.type == "softmax" and each.outputs[0].type.tensorType.rank == 2]
    axis = softmax.inputs["axis"].arguments[0]
    (constant,) = [each for each in operations if each.outputs[0].name == axis.name]
    axis.ClearField("name")
    axis.value.CopyFrom(constant.attributes["val"])
    axis.value.immediateValue.tensor.ints.values[0] = 0


def _sigmoid_for_softmax(operations: list[Any]) -> None:
    (softmax,) = [each for each in operations if each.type == "softmax" and each.outputs[0].type.tensorType.rank == 2]
    softmax.type = "sigmoid"
    del softmax.inputs["axis"]


def test_a_classifier_is_proven_with_what_its_label_is_taken_from(classifier: Path, model: EfficientViT) -> None:
    found = proven(classifier, model)
    assert found.proof.outcome is Outcome.PROVEN, found


def test_a_dictionary_of_logits_is_judged_as_logits(classifier: Path, model: EfficientViT, tmp_path: Path) -> None:
    """Without a softmax the label is the same: the file gives logits, and says so."""
    package = Path(shutil.copytree(classifier, tmp_path / "logits.mlpackage"))
    file, operations = _operations(package)
    (softmax,) = [each for each in operations if each.type == "softmax" and each.outputs[0].type.tensorType.rank == 2]
    (label,) = [each for each in operations if each.type == "classify"]
    label.inputs["probabilities"].arguments[0].name = softmax.inputs["x"].arguments[0].name
    write_model(package, file)
    assert open_foreign(package, "m0", CLASSES).output.name == softmax.inputs["x"].arguments[0].name
    assert proven(package, model).proof.outcome is Outcome.PROVEN


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (_softmax_over_the_images, "classify reads 'var_.*', which is not the softmax of 'linear_0"),
        (_sigmoid_for_softmax, "sigmoid 'var_.*' gives what the trained form has nowhere"),
    ],
)
def test_a_label_that_is_taken_from_something_else_is_refused(
    change: Callable[[list[Any]], None], named: str, classifier: Path, model: EfficientViT, tmp_path: Path
) -> None:
    package = Path(shutil.copytree(classifier, tmp_path / "wrong.mlpackage"))
    file, operations = _operations(package)
    change(operations)
    write_model(package, file)
    found = proven(package, model)
    assert found.proof.outcome is Outcome.DIFFERENT, found
    assert re.search(named, found.proof.detail)
    assert found.refused
