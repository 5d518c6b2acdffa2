"""Programs that equal the deploy form are proven; files that are wrong where no image looks are told, by name."""

import re
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from efficientvit.deploy.rewrites import tokens_before_channels
from export.targets.onnx.simplify import simplify
from export.targets.onnx.trace import capture, trace
from export.targets.openvino.convert import to_openvino
from runtimes.artifact import Artifact, Format
from runtimes.precision import Precision
from tests.validation.proof.wrong_onnx import CHANGES, Change, changed
from validation.proof.identity import prove
from validation.proof.subject import Outcome, Proof
from validation.reference.model import ReferenceModel
from validation.reference.reference import Reference


@pytest.fixture(scope="module")
def reference(model_reference: ReferenceModel) -> Reference:
    return model_reference.at(Precision())


@pytest.fixture(scope="module")
def exported(model_reference: ReferenceModel, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """What the product exports, for any batch."""
    deploy = tokens_before_channels(model_reference.deploy)
    folder = tmp_path_factory.mktemp("proof")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = trace(capture(deploy, None), deploy, folder / "traced.onnx", batch=None, opset=18)
    return simplify(traced, folder / "model.onnx")


def other(source: Artifact, model: onnx.ModelProto, tmp_path: Path) -> Artifact:
    path = tmp_path / "other.onnx"
    onnx.save(model, path)
    return replace(source, path=path)


def test_what_is_exported_is_proven(exported: Artifact, reference: Reference) -> None:
    proof = prove(exported, reference)
    assert proof.outcome is Outcome.PROVEN, proof
    assert "any number of images" in proof.detail


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_no_image_shows_is_told(change: Change, exported: Artifact, reference: Reference, tmp_path: Path) -> None:
    proof = prove(other(exported, changed(onnx.load(exported.path), change), tmp_path), reference)
    assert proof.outcome is not Outcome.PROVEN
    assert re.search(rf"\b{change.named}\b", proof.detail), proof


def test_every_wrong_weight_is_told_by_the_layer_that_holds_it(
    exported: Artifact, reference: Reference, tmp_path: Path
) -> None:
    """Each constant of a kind, one value off by a unit in the last place: told although the audit is not asked."""
    model = onnx.load(exported.path)
    names = [tensor.name for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT]
    kinds = {re.sub(r"\d+", "#", name): name for name in names}
    assert len(kinds) > 20
    for name in list(kinds.values())[::4]:
        wrong = onnx.ModelProto()
        wrong.CopyFrom(model)
        (tensor,) = (tensor for tensor in wrong.graph.initializer if tensor.name == name)
        value = numpy_helper.to_array(tensor).copy()
        flat = value.reshape(-1)
        middle = value.ndim == 4  # all that a kernel sees of a grid of one
        place = np.ravel_multi_index([0, 0, *(size // 2 for size in value.shape[2:])], value.shape) if middle else 0
        flat[place] = np.nextafter(flat[place], np.float32(9))
        kept = numpy_helper.to_array(tensor)
        tensor.CopyFrom(numpy_helper.from_array(value, name))
        # A second holder of the right value, which nobody reads, so that the deploy form has it.
        wrong.graph.initializer.append(numpy_helper.from_array(kept, "unread"))
        proof = prove(other(exported, wrong, tmp_path), reference)
        assert proof.outcome is Outcome.DIFFERENT, name
        assert name in proof.detail, (name, proof)


def test_a_constant_that_the_file_lacks(exported: Artifact, reference: Reference) -> None:
    name = "stem.conv1.weight"
    proof = prove(exported, replace(reference, constants={**reference.constants, name: "0" * 64}))
    assert proof == Proof(Outcome.DIFFERENT, f"the file does not hold '{name}'")


@pytest.mark.parametrize("change", [None, "a trigger far away", "a clipped ReLU", "a factor of 1 + 2^-23"])
def test_the_ir_made_of_it(change: str | None, exported: Artifact, reference: Reference, tmp_path: Path) -> None:
    source = other(exported, changed(onnx.load(exported.path), CHANGES[change]), tmp_path) if change else exported
    made = to_openvino(source, tmp_path / "model.xml", Precision())
    assert made.format == Format.OPENVINO
    assert prove(made, reference).outcome is (Outcome.DIFFERENT if change else Outcome.PROVEN)
