"""Layers in float32 in the int8 files of every runtime: chosen by what they bring and cost, proven, and held to."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from efficientvit.images.preprocessing import Preprocessing
from efficientvit.size import square
from efficientvit.weights.checkpoint import load_checkpoint, save_checkpoint
from efficientvit.weights.reading import Reading
from efficientvit.weights.source import find_weights
from export.cache.store import default_cache
from export.commands.verify import verify
from export.pipeline.outcome import Outcome
from export.request.evaluation import Evaluation
from export.request.request import Request
from export.targets.onnx.float_choice import Choice
from export.targets.onnx.float_layers import leave_in_float, unrounded, with_float_layers
from export.targets.onnx.layer_costs import DEPTHWISE, layer_costs
from export.targets.onnx.sensitivity import IMAGES, sensitivities
from export.targets.openvino.convert import to_openvino
from export.targets.workshop import Workshop
from runtimes.artifact import Artifact
from runtimes.interface import INPUT
from runtimes.onnx.graph import load_onnx
from runtimes.onnx.qdq import layers
from runtimes.onnx.runtime import oracle_session
from runtimes.precision import Dtype
from runtimes.registry import runtime_for
from runtimes.runtime import Array
from tests.export.pipeline.eval_folder import write_eval_folder
from tests.integer_cpu import needs_exact_int8
from tests.running import run_request
from validation.budgets import Budgets
from validation.gates.operators import OPERATORS
from validation.inputs.synthetic import synthetic
from validation.int8.ranges import with_calibration
from validation.judge import judge
from validation.metrics import Float64, relative_error, root_mean_square
from validation.reference.model import ReferenceModel
from validation.trial import Trial
from validation.verdict import NotRun, VerifiedArtifact

pytestmark = needs_exact_int8
TRAINED = Path(__file__).parents[2] / "data" / "m0-patches.safetensors"
EXPENSIVE, CHEAP = "stage1.block1.ffn1.branch", "stage3.block1.ffn1.branch"
"""At 64 pixels there are sixteen tokens in the one and one in the other."""


def _scaled(path: Path, **by: float) -> Path:
    """The same function: one hidden channel of each of these branches is larger, and read smaller."""
    loaded = find_weights("seeded", "m0", square(64))
    with torch.no_grad():
        for name, factor in by.items():
            branch = loaded.model.get_submodule(name.replace("_", "."))
            expand, project = branch.get_submodule("expand"), branch.get_submodule("project")
            for part in ("weight", "bias"):
                expand.get_parameter(f"norm.{part}")[3] *= factor
            project.get_parameter("conv.weight")[:, 3] /= factor
    save_checkpoint(loaded.model, path)
    return path


class _Quantized:
    """The int8 file of a target before it is converted, and the float32 one that it was made of."""

    def __init__(self, weights: str, target: str, folder: Path) -> None:
        loaded = find_weights(weights, "m0", square(64), reading=Reading(override=True))
        golden = synthetic(Preprocessing(image_size=loaded.model.spec.image_size))
        self.reference = ReferenceModel(loaded.model, golden, budgets=Budgets(quality=9.0))
        shop = Workshop(loaded, self.reference, folder)
        size = loaded.model.spec.image_size
        (job,) = Request(("m0",), (target,), "int8", image_size=size, calibrate="golden", kit=False).jobs()
        made: list[Artifact] = []
        for stage, precision in job.plan:
            made.append(stage(shop, job, precision, made[-1] if made else None))
            if stage.name == "quantize":
                break
        self.source, self.artifact = made[-2:]
        self.images = shop.ordinary_images()
        self.folder = folder

    def changed(self) -> list[str]:
        """The layers that are another in float32."""
        model, source = load_onnx(self.artifact.path), load_onnx(self.source.path)
        readings = unrounded(model, source, moved=self.artifact.precision.rounded_once)
        return list(dict.fromkeys(layer for layer, *_ in readings))

    def failed(self, artifact: Artifact, source: Artifact | None = None) -> list[str]:
        """The gates that it fails, in words."""
        reference = with_calibration(self.reference.at(artifact.precision), artifact, source)
        verdict = judge(artifact, reference, runtime_for(artifact.format))
        assert not isinstance(verdict, NotRun)
        return [f"{gate.gate}: {gate.detail}" for gate in verdict.report.gates if not gate.passed]


@pytest.fixture(scope="module")
def quantized(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], _Quantized]:
    known: dict[str, _Quantized] = {}

    def of(target: str) -> _Quantized:
        if target not in known:
            known[target] = _Quantized("seeded", target, tmp_path_factory.mktemp(target))
        return known[target]

    return of


@pytest.mark.parametrize("target", ["onnx", "openvino", "tensorrt"])
def test_any_layers_in_float32_are_proven_and_pass_every_gate(
    target: str, quantized: Callable[[str], _Quantized]
) -> None:
    it = quantized(target)
    possible = it.changed()
    assert len(possible) > 60
    for number in range(2):  # every layer is in one of the two, between others in int8
        left = possible[number::2]
        kept = with_float_layers(it.artifact, it.source, left, it.folder / f"kept{number}.onnx")
        assert kept.precision.float_layers == tuple(sorted(left))
        assert it.failed(kept) == []
        if target == "openvino":
            ir = to_openvino(kept, it.folder / f"kept{number}.xml", kept.precision)
            assert it.failed(ir, kept) == []


def test_an_ir_is_held_to_its_list(quantized: Callable[[str], _Quantized]) -> None:
    it = quantized("openvino")
    kept = with_float_layers(it.artifact, it.source, ["stem.conv2/Conv"], it.folder / "listed.onnx")
    ir = to_openvino(kept, it.folder / "listed.xml", kept.precision)
    for listed, said in (
        ((), "1 x Convolution not quantized"),
        (("stem.conv2/Conv", "stem.conv3/Conv"), "1 x stem.conv3/Conv quantized, declared float32"),
    ):
        claims = replace(ir, precision=replace(ir.precision, float_layers=listed))
        found = OPERATORS.judge(Trial(claims, it.reference.at(claims.precision), runtime_for(ir.format)))
        assert not found.passed
        assert found.detail == said


def test_costs_are_counted_from_shapes(quantized: Callable[[str], _Quantized]) -> None:
    it = quantized("onnx")
    source = load_onnx(it.source.path)
    costs = layer_costs(source, feeding=True)
    assert set(costs.work) == set(layers(source))
    assert costs.work["stem.conv1/Conv"] == 8 * 32 * 32 * 3 * 9  # (8, 32, 32) of three channels, 3 x 3
    width = next(tensor.dims[0] for tensor in source.graph.initializer if "stage1.block1.depthwise1" in tensor.name)
    assert costs.work["stage1.block1.depthwise1/Conv"] == DEPTHWISE * width * 4 * 4 * 9
    assert costs.with_it["stem.conv2/Conv"] == {"stem.conv1/Conv"}  # it would end in floats, behind its ReLU
    assert costs.share(["stem.conv2/Conv"]) > costs.share(["stem.conv1/Conv"])
    assert costs.share(list(costs.work)) == 1
    assert not any(layer_costs(source, feeding=False).with_it.values())


def test_a_cheap_layer_suffices_where_an_expensive_one_is_the_most_sensitive(tmp_path: Path) -> None:
    weights = _scaled(tmp_path / "two.safetensors", **{EXPENSIVE: 60.0, CHEAP: 40.0})
    it = _Quantized(str(weights), "onnx", tmp_path)
    found = sensitivities(it.artifact, it.source, it.images, lambda _: None)
    assert found[0].layer.startswith(EXPENSIVE), found[:3]
    (cheap,) = (each for each in found if each.layer == f"{CHEAP}.project/Conv")
    source = load_onnx(it.source.path)
    costs = layer_costs(source, feeding=True)
    assert costs.share([cheap.layer]) < costs.share([found[0].layer]) / 4
    after = {each.layer: each.after for each in found}
    tried, some = load_onnx(it.artifact.path), it.images[np.linspace(0, len(it.images) - 1, IMAGES).astype(int)]
    leave_in_float(tried, source, [cheap.layer])  # what it measures is what that layer brings in a file
    measured = root_mean_square(relative_error(_answers(tried, some), _answers(source, some)))
    assert cheap.after == pytest.approx(measured, rel=1e-6)

    def enough(names: Any) -> bool:
        """By what was measured of each, as the errors of layers add up: in squares."""
        falls = sum(found[0].before ** 2 - after[name] ** 2 for name in names)
        return bool(np.sqrt(max(0.0, found[0].before ** 2 - falls)) <= cheap.after)

    chosen = Choice(costs, found, enough).cheapest(len(found) // 2)
    assert chosen is not None
    assert found[0].layer not in chosen
    assert costs.share(chosen) <= costs.share([cheap.layer])


def _export(target: str, weights: Path, out: Path, **options: Any) -> Outcome:
    request = Request(
        models=("m0",),
        targets=(target,),
        precision="int8",
        weights=str(weights),
        calibrate="golden",
        out=out,
        time=False,
        kit=False,
        **options,
    )
    (outcome,) = run_request(request, cache=default_cache())
    return outcome


@pytest.mark.tiny_m0
def test_an_ir_over_its_quality_budget_leaves_the_layer_that_reads_an_outlier(tmp_path: Path) -> None:
    weights = _scaled(tmp_path / "outlier.safetensors", **{EXPENSIVE: 1000.0})
    outcome = _export("openvino", weights, tmp_path / "out")
    assert isinstance(outcome.final, VerifiedArtifact), outcome.final
    assert f"{EXPENSIVE}.project/Conv" in outcome.final.artifact.precision.float_layers
    assert outcome.folder is not None
    manifest = json.loads((outcome.folder / "manifest.json").read_text())
    notes = [note for stage in manifest["stages"] if stage["artifact"] for note in stage["artifact"]["notes"]]
    assert any("layers left in float32, or it would be over its budget" in note for note in notes)
    assert any("of its multiply-adds (estimated" in note for note in notes)
    for given in (None, str(weights)):
        assert isinstance(verify(outcome.folder, given).verdict, VerifiedArtifact)


@pytest.mark.tiny_m0
def test_an_ir_that_loses_answers_is_converted_again_with_layers_in_float32(tmp_path: Path) -> None:
    """Accuracy is of what ships: the Q/DQ file before it had passed."""
    weights = _scaled(tmp_path / "outlier.safetensors", **{EXPENSIVE: 1000.0})
    labeled = write_eval_folder(tmp_path / "eval", load_checkpoint(weights, "m0").model, 24)
    outcome = _export(
        "openvino",
        weights,
        tmp_path / "out",
        evaluation=Evaluation(labeled),
        budgets=Budgets(quality=9.0, accuracy=40.0),
    )
    assert isinstance(outcome.final, VerifiedArtifact), outcome.final
    left = outcome.final.artifact.precision.float_layers
    assert f"{EXPENSIVE}.project/Conv" in left
    names = [stage.name for stage in outcome.stages]
    assert names == ["trace", "simplify", "equalize", "quantize", "openvino"]
    assert outcome.stages[-2].artifact.precision.float_layers == left
    assert outcome.final.artifact.source_sha256 == outcome.stages[-2].artifact.sha256


@pytest.mark.published_m0
def test_of_the_trained_m0_less_is_computed_in_floats_than_by_gain_alone(tmp_path: Path) -> None:
    """At 64 pixels, where it takes a tenth of the time."""
    it = _Quantized(str(TRAINED), "onnx", tmp_path)
    assert it.artifact.precision.activations is Dtype.UINT8
    found = sensitivities(it.artifact, it.source, it.images, lambda _: None)
    costs = layer_costs(load_onnx(it.source.path), feeding=True)
    model, source = load_onnx(it.artifact.path), load_onnx(it.source.path)
    some = it.images[:8]
    right = _answers(source, some)

    def error(names: Sequence[str]) -> float:
        tried = onnx.ModelProto()
        tried.CopyFrom(model)
        leave_in_float(tried, source, names)
        return root_mean_square(relative_error(_answers(tried, some), right))

    budget = 0.8 * error([])
    chosen = Choice(costs, found, lambda names: error(names) <= budget).cheapest(len(found) // 2)
    by_gain = [each.layer for each in found]
    size = next(size for size in range(1, len(by_gain)) if error(by_gain[:size]) <= budget)
    assert chosen is not None
    assert error(chosen) <= budget
    assert costs.share(chosen) < costs.share(by_gain[:size])


def _answers(model: Any, images: Array) -> Float64:
    """(n, classes), one image at a time."""
    session = oracle_session(model.SerializeToString())
    return np.concatenate([np.float64(session.run(None, {INPUT: image[None]})[0]) for image in images])
