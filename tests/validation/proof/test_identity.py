"""Programs that equal the deploy form are proven; files that are wrong where no image looks are told, by name."""

import re
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from onnx.helper import make_node as node

from efficientvit.deploy.rewrites import tokens_before_channels
from efficientvit.errors import StageFailed
from efficientvit.size import square
from export.targets.onnx.simplify import simplify
from export.targets.onnx.trace import capture, trace
from export.targets.openvino.convert import to_openvino
from runtimes.artifact import Artifact, Format, digest
from runtimes.onnx.operators import ONNX
from runtimes.onnx.program import read_program
from runtimes.precision import Precision
from runtimes.registry import runtime_for
from tests.validation.proof.wrong_onnx import CHANGES, Change, changed
from validation.judge import judge
from validation.proof.comparison import equal
from validation.proof.identity import prove
from validation.proof.outcome import Outcome, Proof
from validation.proof.subject import Subject, images_for, right_of
from validation.reference.model import ReferenceModel
from validation.reference.reference import Reference
from validation.verdict import Rejected


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
    proof = prove(exported, reference.constants)
    assert proof.outcome is Outcome.PROVEN, proof
    assert "any number of images" in proof.detail


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_no_image_shows_is_told(change: Change, exported: Artifact, reference: Reference, tmp_path: Path) -> None:
    """By all that `verify -w` asks: rejected, the operator named; what the runtime refuses is told as well."""
    wrong = other(exported, changed(onnx.load(exported.path), change), tmp_path)
    wrong = replace(wrong, sha256=digest(wrong.path))
    try:
        verdict = judge(wrong, reference, runtime_for(wrong.format))
    except StageFailed:
        proof: Proof | None = prove(wrong, reference.constants)
    else:
        assert isinstance(verdict, Rejected)
        proof = verdict.report.proof
    assert proof is not None
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
        proof = prove(other(exported, wrong, tmp_path), reference.constants)
        assert proof.outcome is Outcome.DIFFERENT, name
        assert name in proof.detail, (name, proof)


def test_a_constant_that_the_file_lacks(exported: Artifact, reference: Reference) -> None:
    name = "stem.conv1.weight"
    proof = prove(exported, {**reference.constants, name: "0" * 64})
    reader = onnx.load(exported.path).graph.node[0]
    said = f"the file does not hold '{name}', and Conv '{reader.output[0]}' reads '{name}', which is not the model's"
    assert proof == Proof(Outcome.DIFFERENT, said, reader.output[0], constants=frozenset({name}))


class _InParts(torch.nn.Module):
    """Softmax over each sixth of an image's values."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.reshape(-1, 2048).softmax(1).reshape(-1, 3 * 64 * 64)


def test_parts_whose_size_depends_on_the_number_of_images() -> None:
    """Right for one image; for two each image is in three parts, and for three in two."""
    nodes = [node("Shape", ["image"], ["n"], start=0, end=1), node("Mul", ["n", "part"], ["wide"]),
             node("Concat", ["rest", "wide"], ["shape"], axis=0), node("Reshape", ["image", "shape"], ["parts"]),
             node("Softmax", ["parts"], ["shares"], axis=1), node("Reshape", ["shares", "back"], ["y"])]  # fmt: skip
    constants = {"part": [2048], "rest": [-1], "back": [-1, 3 * 64 * 64]}
    image = onnx.helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ["n", 3, 64, 64])
    y = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 3 * 64 * 64])
    held = [numpy_helper.from_array(np.array(value), name) for name, value in constants.items()]
    graph = onnx.helper.make_graph(nodes, "parts", [image], [y], held)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)])
    form = _InParts()
    right = right_of(form, images_for(square(64), None))
    program = read_program(model)
    proof = equal(Subject(program, ONNX, program.outputs), right, None)
    assert proof.outcome is Outcome.DIFFERENT
    assert "'parts' has another shape for each image when there are 2 of them" in proof.detail


@pytest.mark.parametrize("change", [None, "a trigger far away", "a clipped ReLU", "a factor of 1 + 2^-23"])
def test_the_ir_made_of_it(change: str | None, exported: Artifact, reference: Reference, tmp_path: Path) -> None:
    source = other(exported, changed(onnx.load(exported.path), CHANGES[change]), tmp_path) if change else exported
    made = to_openvino(source, tmp_path / "model.xml", Precision())
    assert made.format == Format.OPENVINO
    assert prove(made, reference.constants).outcome is (Outcome.DIFFERENT if change else Outcome.PROVEN)


def _of_three(exported: Artifact, tmp_path: Path, change: Change | None) -> Artifact:
    """The same with three images a batch, by another change than the exporter's: the declared size alone."""
    model = onnx.load(exported.path)
    model = changed(model, change) if change else model
    for port in (*model.graph.input, *model.graph.output):
        port.type.tensor_type.shape.dim[0].dim_value = 3
    del model.graph.value_info[:]
    return replace(other(exported, model, tmp_path), batch=3)


SECOND_NEGATED = Change(
    [node("Split", ["x", "each"], ["a", "b", "c"], axis=0), node("Neg", ["b"], ["minus"]),
     node("Concat", ["a", "minus", "c"], ["y"], axis=0)], {"each": np.array([1, 1, 1])}, "different images",
)  # fmt: skip
SPLIT_AND_JOINED = replace(SECOND_NEGATED, nodes=[
    SECOND_NEGATED.nodes[0], node("Identity", ["b"], ["minus"]), SECOND_NEGATED.nodes[2],
])  # fmt: skip


@pytest.mark.parametrize(
    ("change", "outcome"),
    [(None, Outcome.PROVEN), (SPLIT_AND_JOINED, Outcome.PROVEN), (SECOND_NEGATED, Outcome.DIFFERENT),
     (CHANGES["a clipped ReLU"], Outcome.DIFFERENT)],
)  # fmt: skip
def test_a_fixed_batch(
    change: Change | None, outcome: Outcome, exported: Artifact, reference: Reference, tmp_path: Path
) -> None:
    proof = prove(_of_three(exported, tmp_path, change), reference.constants)
    assert proof.outcome is outcome, proof
    assert "every 3 images" in proof.detail or (change is not None and change.named in proof.detail)
