"""Faults that only a batch of distinct images shows: planted in a file whose batch is dynamic."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from efficientvit.images.preprocessing import Preprocessing
from efficientvit.size import square
from efficientvit.weights.source import find_weights
from export.targets.registry import TARGETS
from export.targets.target import Job
from export.targets.workshop import Workshop
from runtimes.artifact import Artifact
from runtimes.onnx.runtime import OnnxRuntime
from runtimes.precision import Precision
from tests.stages import STAGES
from validation.inputs.synthetic import synthetic
from validation.judge import judge
from validation.reference.model import ReferenceModel
from validation.reference.reference import Reference
from validation.verdict import Rejected, VerifiedArtifact

pytestmark = pytest.mark.tiny_m0

SIZE = 64


@pytest.fixture(scope="module")
def dynamic(tmp_path_factory: pytest.TempPathFactory) -> tuple[Artifact, Reference]:
    weights = find_weights("seeded", "m0", square(SIZE))
    model = ReferenceModel(weights.model, synthetic(Preprocessing(image_size=square(SIZE))))
    shop = Workshop(weights, model, tmp_path_factory.mktemp("dynamic"))
    job = Job("m0", TARGETS["onnx"], "fp32", None, 18)
    return STAGES["trace"](shop, job, Precision(), None), model.at(Precision())


def _last(model: onnx.ModelProto, *nodes: onnx.NodeProto) -> None:
    """Put `nodes`, from "before" to the output's name, after everything else."""
    (last,) = [node for node in model.graph.node if model.graph.output[0].name in node.output]
    last.output[0] = "before"
    model.graph.node.extend(nodes)


def _integers(model: onnx.ModelProto, **values: int) -> list[str]:
    for name, value in values.items():
        model.graph.initializer.append(numpy_helper.from_array(np.array([value]), name))
    return list(values)


def reversed_batch(model: onnx.ModelProto) -> None:
    """The logits in reverse order of the images: right at batch 1."""
    indices = _integers(model, start=-1, end=-(2**31), axis=0, step=-1)
    _last(model, onnx.helper.make_node("Slice", ["before", *indices], [model.graph.output[0].name]))


def first_of_batch(model: onnx.ModelProto) -> None:
    """The first image's logits for all of them: a batch of copies would hide it."""
    indices = _integers(model, start=0, end=1, axis=0)
    _last(
        model,
        onnx.helper.make_node("Slice", ["before", *indices], ["first"]),
        onnx.helper.make_node("Shape", ["before"], ["shape"]),
        onnx.helper.make_node("Expand", ["first", "shape"], [model.graph.output[0].name]),
    )


def batch_statistics(model: onnx.ModelProto) -> None:
    """The mean over the batch taken out: zero at batch 1, and no image's own logits beyond."""
    _integers(model, axes=0)
    _last(
        model,
        onnx.helper.make_node("ReduceMean", ["before", "axes"], ["over_batch"], keepdims=1),
        onnx.helper.make_node("Sub", ["before", "over_batch"], [model.graph.output[0].name]),
    )


@pytest.mark.parametrize("plant", [reversed_batch, first_of_batch, batch_statistics])
def test_planted_in_a_dynamic_batch(
    plant: Callable[[onnx.ModelProto], None], dynamic: tuple[Artifact, Reference], tmp_path: Path
) -> None:
    healthy, reference = dynamic
    model = onnx.load(healthy.path)
    plant(model)
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    spoiled = Artifact.on_disk(path, healthy.format, healthy.model, made_by="trace", batch=None)
    verdict = judge(spoiled, reference, OnnxRuntime())
    assert isinstance(verdict, Rejected)
    assert [gate.gate for gate in verdict.report.gates if not gate.passed] == ["identity", "structure", "precision"]


def test_the_healthy_one_passes_at_every_batch(dynamic: tuple[Artifact, Reference]) -> None:
    healthy, reference = dynamic
    verdict = judge(healthy, reference, OnnxRuntime())
    assert isinstance(verdict, VerifiedArtifact)
    assert verdict.report.batches == (1, 3, 8)


def test_a_batch_baked_in_does_not_pass_for_dynamic(dynamic: tuple[Artifact, Reference], tmp_path: Path) -> None:
    """The file says two where the manifest would say any."""
    healthy, reference = dynamic
    model = onnx.load(healthy.path)
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_value = 2
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    spoiled = replace(Artifact.on_disk(path, healthy.format, healthy.model, made_by="trace"), batch=None)
    verdict = judge(spoiled, reference, OnnxRuntime())
    assert isinstance(verdict, Rejected)
    assert [gate.gate for gate in verdict.report.gates if not gate.passed] == ["interface"]
