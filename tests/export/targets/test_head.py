"""Maps and embeddings through every target: verified and proven, and a wrong map rejected by its name."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from efficientvit.errors import BadOption
from efficientvit.head import Head
from efficientvit.images.preprocessing import Preprocessing
from efficientvit.model import tensors_of
from efficientvit.size import square
from efficientvit.spec import model_spec
from efficientvit.weights.reading import Reading
from efficientvit.weights.source import find_weights
from export.request.evaluation import Evaluation
from export.request.request import Request
from export.selftest.artifacts import Artifacts, Made, verdict_on
from export.targets.coreml.options import CoreMlOptions
from export.targets.onnx.target import TARGET as ONNX
from export.targets.target import Job
from export.targets.workshop import Workshop
from runtimes.artifact import Artifact
from runtimes.registry import read_ports, runtime_for
from tests.integer_cpu import skip_without_exact_int8
from validation.inputs.golden_set import Kind
from validation.inputs.synthetic import synthetic
from validation.reference import file
from validation.reference.model import ReferenceModel
from validation.verdict import Rejected, VerifiedArtifact

SIZE = square(64)
pytestmark = pytest.mark.tiny_m0


class Shop:
    """Seeded M0 at 64 pixels with one head: its reference, and what the stages make of it, each once."""

    def __init__(self, head: str, folder: Path) -> None:
        self.head = Head.parse(head)
        weights = find_weights("seeded", "m0", SIZE, reading=Reading(head=self.head))
        golden = synthetic(Preprocessing(image_size=SIZE)).one_of_each_kind()
        self.reference = ReferenceModel(weights.model, golden)
        self._artifacts = Artifacts(Workshop(weights, self.reference, folder), folder)

    def job(self, target: str, precision: str) -> Job:
        calibrate = "golden" if precision == "int8" else None
        request = Request(("m0",), (target,), precision, head=self.head, image_size=SIZE, calibrate=calibrate)
        (job,) = request.jobs()
        return job

    def made(self, target: str, precision: str) -> Made:
        """What ships, or of an engine the network."""
        return list(self._artifacts.chain(self.job(target, precision)).values())[-1]


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop("features", tmp_path_factory.mktemp("features"))


@pytest.fixture(scope="module")
def embedding(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop("embedding", tmp_path_factory.mktemp("embedding"))


TARGETS = {
    "features": ("onnx fp32", "onnx fp16", "onnx int8", "openvino fp32", "openvino fp16", "openvino int8",
                 "coreml fp16", "coreml fp32", "tensorrt fp16", "tensorrt fp32", "tensorrt int8"),
    "embedding": ("openvino int8", "coreml fp16"),
}  # fmt: skip


@pytest.mark.parametrize(("head", "made_as"), [(head, each) for head, listed in TARGETS.items() for each in listed])
def test_each_target_is_verified_and_proven(head: str, made_as: str, request: pytest.FixtureRequest) -> None:
    target, precision = made_as.split()
    if precision == "int8" and target != "tensorrt":
        skip_without_exact_int8()
    shop: Shop = request.getfixturevalue(head)
    made = shop.made(target, precision)
    verdict = verdict_on(made, shop.reference)
    assert isinstance(verdict, VerifiedArtifact), getattr(verdict, "reason", "")
    assert verdict.report.proven
    assert verdict.report.top1 is None
    names = [output.name for output in shop.reference.outputs]
    assert [port.name for port in read_ports(made.artifact)[1]] == names
    (structure,) = (gate for gate in verdict.report.gates if gate.gate == "structure")
    assert {kind.output for kind in structure.kinds} == set(names)
    assert all(kind.kl_nats is None for kind in structure.kinds)


def test_every_output_has_floors_and_budgets_of_its_own(features: Shop, tmp_path: Path) -> None:
    """And they come back from the folder, so that it is judged again without the weights."""
    saved = features.reference.at(features.job("onnx", "fp32").plan[-1][1])
    floors = {name: each.floors[Kind.NATURAL] for name, each in saved.outputs.items()}
    assert list(floors) == ["stage1", "stage2", "stage3"]
    assert len(set(floors.values())) == 3
    file.save(saved, tmp_path)
    loaded = file.load(tmp_path)
    assert list(loaded.outputs) == list(saved.outputs)
    for name, each in loaded.outputs.items():
        assert each.floors == saved.outputs[name].floors
        assert np.array_equal(each.right, saved.outputs[name].right)
        assert np.array_equal(each.structure, saved.outputs[name].structure)


def test_a_detector_of_torchvisions_takes_the_maps(features: Shop) -> None:
    """FPN and RetinaNet's head on what the file gives, and on what the trained model gives: the same detections."""
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.image_list import ImageList
    from torchvision.models.detection.retinanet import RetinaNetHead
    from torchvision.ops import FeaturePyramidNetwork

    artifact, outputs = features.made("onnx", "fp32").artifact, features.reference.outputs
    torch.manual_seed(0)
    neck = FeaturePyramidNetwork([output.shape[0] for output in outputs], 32).eval()
    anchors = AnchorGenerator(tuple((4 * (output.stride or 0),) for output in outputs), ((0.5, 1.0, 2.0),) * 3)
    head = RetinaNetHead(32, anchors.num_anchors_per_location()[0], 5).eval()
    images = features.reference.golden.images[:1].copy()
    with runtime_for(artifact.format).open(artifact) as session, torch.no_grad():
        given = {name: torch.from_numpy(values) for name, values in session(images).items()}
        found = head(list(neck(given).values()))
        maps = tensors_of(features.reference.trained(torch.from_numpy(images)))
        right = head(list(neck(dict(zip(given, maps, strict=True))).values()))
    boxes = anchors(ImageList(torch.from_numpy(images), [(SIZE.height, SIZE.width)]), list(given.values()))
    assert found["cls_logits"].shape == (1, len(boxes[0]), 5)
    assert found["bbox_regression"].shape == (1, len(boxes[0]), 4)
    assert len(boxes[0]) == 3 * sum(output.shape[1] * output.shape[2] for output in outputs)
    for name, values in found.items():
        assert float((values - right[name]).norm() / right[name].norm()) < 1e-5


def _spoiled(made: Made, folder: Path, output: str, instead: Any) -> Made:
    """A copy whose `output` is what `instead` finds in its graph."""
    model = onnx.load(made.artifact.path)
    tensor = instead(model.graph)
    for node in model.graph.node:
        node.output[:] = ["unread" if name == output else name for name in node.output]
        node.input[:] = ["unread" if name == output else name for name in node.input]
    model.graph.node.append(onnx.helper.make_node("Identity", [tensor], [output]))
    path = folder / "spoiled.onnx"
    onnx.save(model, path)
    artifact = made.artifact
    spoiled = Artifact.on_disk(path, artifact.format, artifact.model, made_by="test", precision=artifact.precision)
    return Made(spoiled, None)


def _before_the_last_block(graph: Any) -> str:
    """What stage 2's last feed-forward reads: a map of the right shape, one layer too early."""
    last = f"stage2.block{model_spec('m0').depths[1]}"
    (node,) = (each for each in graph.node if each.name == f"{last}.ffn2.branch.expand/Conv")
    return str(node.input[0])


def test_a_map_from_a_layer_too_early_is_rejected_by_its_name(features: Shop, tmp_path: Path) -> None:
    """Its values are the model's: the proof sees that they are not this output's, the samples how far off they are."""
    spoiled = _spoiled(features.made("onnx", "fp32"), tmp_path, "stage2", _before_the_last_block)
    verdict = verdict_on(spoiled, features.reference)
    assert isinstance(verdict, Rejected)
    failed = {gate.gate: gate.detail for gate in verdict.report.gates if not gate.passed}
    assert {"identity", "structure", "precision"} <= set(failed)
    assert "stage2, natural" in failed["structure"]
    assert "stage1" not in failed["structure"]
    assert "stage3" not in failed["structure"]


def test_maps_under_each_others_names_are_rejected(features: Shop, tmp_path: Path) -> None:
    model = onnx.load(features.made("onnx", "fp32").artifact.path)
    outputs = list(model.graph.output)
    del model.graph.output[:]
    model.graph.output.extend([outputs[1], outputs[0], outputs[2]])
    path = tmp_path / "turned.onnx"
    onnx.save(model, path)
    made = features.made("onnx", "fp32").artifact
    turned = Artifact.on_disk(path, made.format, made.model, made_by="test", precision=made.precision)
    verdict = verdict_on(Made(turned, None), features.reference)
    assert isinstance(verdict, Rejected)
    assert verdict.reason.startswith("interface gate: outputs 'stage2'")


def test_what_is_about_classes_is_refused_before_any_work(tmp_path: Path) -> None:
    head = Head.parse("features")
    with pytest.raises(BadOption, match="--eval measures top-1 accuracy, which only a classifier has"):
        Request(("m0",), ("onnx",), head=head, evaluation=Evaluation(tmp_path)).jobs()
    labeled = {"coreml": CoreMlOptions(labels="imagenet")}
    with pytest.raises(BadOption, match="--labels names the classes of a classifier"):
        Request(("m0",), ("coreml",), head=head, options=labeled).jobs()


def test_a_target_of_a_package_makes_classifiers_unless_it_says_more() -> None:
    from dataclasses import replace

    with pytest.raises(BadOption, match="cannot be made in fp32 with --head features") as refused:
        replace(ONNX, heads=()).require_head(Head.parse("features"), "fp32")
    assert "name another target" in str(refused.value.next_step)
    replace(ONNX, heads=()).require_head(Head.parse("logits"), "fp32")
