"""int8 over its budget: the layers that cost the most stay in float32, as few as it takes, by name, and no others."""

import json
import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import onnx
import pytest
import torch

from efficientvit.deploy.compression import quantizable
from efficientvit.deploy.rewrites import to_deploy
from efficientvit.errors import ArtifactChanged
from efficientvit.size import square
from efficientvit.spec import model_spec
from efficientvit.weights.checkpoint import load_checkpoint, save_checkpoint
from efficientvit.weights.seeded import seeded
from export.cache.store import default_cache
from export.commands.verify import verify
from export.folder.exported import open_exported
from export.folder.schema import manifest_schema
from export.pipeline import judging
from export.pipeline.outcome import Outcome
from export.request.evaluation import Evaluation
from export.request.request import Request
from export.targets.int8_options import Int8Options
from export.targets.onnx.float_layers import leave_in_float
from runtimes.artifact import digest
from runtimes.onnx.qdq import activation_quantizers, layers, left_out, not_left_out
from runtimes.onnx.runtime import OnnxRuntime
from runtimes.precision import Dtype
from tests.export.pipeline.eval_folder import write_eval_folder
from tests.integer_cpu import needs_exact_int8
from tests.running import run_request
from validation.blame.ranking import Blame
from validation.budgets import Budgets
from validation.judge import judge
from validation.verdict import Rejected, VerifiedArtifact

ROOT = Path(__file__).parents[4]
SCHEMA = manifest_schema()
pytestmark = [needs_exact_int8, pytest.mark.tiny_m0]

SPOILED = "stage1.block1.ffn1.branch"
OUTLIER = f"{SPOILED}.project/Conv"


def _with_an_outlier(path: Path) -> Path:
    """The same function, of which one hidden channel is a thousand times larger, and read a thousand times smaller.

    Float arithmetic doesn't mind. One range for the whole tensor leaves the other channels a quarter of an integer.
    """
    model = seeded(model_spec("m0", square(64)))
    branch = model.get_submodule(SPOILED)
    expand, project = branch.get_submodule("expand"), branch.get_submodule("project")
    with torch.no_grad():
        for name in ("weight", "bias"):
            expand.get_parameter(f"norm.{name}")[3] *= 1000
        project.get_parameter("conv.weight")[:, 3] /= 1000
    save_checkpoint(model, path)
    return path


def _weights() -> int:
    """How many tensors of weights there are to quantize."""
    return len(list(quantizable(to_deploy(seeded(model_spec("m0", square(64)))), depthwise=True)))


def _products() -> int:
    """How many products with tokens there are, two a head; the last stage has one token, of which none is left."""
    spec = model_spec("m0", square(64))
    return sum(2 * heads * depth for heads, depth in zip(spec.heads[:-1], spec.depths[:-1], strict=True))


def _export(weights: str, out: Path, **options: Any) -> Outcome:
    request = Request(
        models=("m0",),
        targets=("onnx",),
        precision="int8",
        weights=weights,
        image_size=square(64),
        calibrate="golden",
        out=out,
        time=False,
        kit=False,
        **options,
    )
    (outcome,) = run_request(request, cache=default_cache())  # of the same weights, one trace
    return outcome


@dataclass(frozen=True)
class Made:
    """The export of a checkpoint whose int8 is over its budget."""

    checkpoint: Path
    outcome: Outcome

    @property
    def folder(self) -> Path:
        assert self.outcome.folder is not None
        return self.outcome.folder

    @property
    def manifest(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "manifest.json").read_text())
        return found


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("outlier")
    checkpoint = _with_an_outlier(folder / "outlier.safetensors")
    return Made(checkpoint, _export(str(checkpoint), folder / "out"))


def test_the_layer_that_reads_the_outlier_stays_in_float32(made: Made) -> None:
    final = made.outcome.final
    assert isinstance(final, VerifiedArtifact)
    left = final.artifact.precision.float_layers
    assert OUTLIER in left
    assert len(left) <= 4
    model = onnx.load(made.folder / "ship" / "efficientvit_m0.onnx")
    held = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    for layer in left:
        if layer.endswith("/Conv"):
            name = f"{layer.removesuffix('/Conv')}.weight"
            assert held[name] == onnx.TensorProto.FLOAT
            assert f"{name}_quantized" not in held
    assert len([name for name in held if name.endswith("weight_quantized")]) == _weights() - len(left)


def test_nobody_can_overlook_it(made: Made) -> None:
    jsonschema.Draft202012Validator(SCHEMA).validate(made.manifest)
    left = made.manifest["precision"]["float_layers"]
    assert OUTLIER in left
    stage = made.manifest["stages"][-1]
    note, costs = (each for each in stage["artifact"]["notes"] if "over its budget" in each or "multiply-adds" in each)
    assert note.startswith(f"{len(left)} of {_weights() + _products()} layers left in float32")
    assert ", ".join(left) in note
    for layer in left:  # what it brings and what it costs
        assert re.search(rf"{re.escape(layer)} error \d\.\d{{4}} to \d\.\d{{4}}, \d+\.\d %", costs), costs
    assert re.match(r"computed in floating point with them: \d+\.\d % of its multiply-adds", costs)
    assert ", ".join(left) in stage["verdict"]["gates"]["operators"]["warning"]
    page = (made.folder / "report.html").read_text(encoding="utf-8")
    assert f"<b>Not all of it is int8</b>: {len(left)} layers" in page
    assert ", ".join(left) in page


def test_the_folder_gives_the_same_verdict_with_and_without_the_weights(made: Made) -> None:
    for weights in (None, str(made.checkpoint)):
        verification = verify(made.folder, weights)
        assert isinstance(verification.verdict, VerifiedArtifact)
        assert verification.verdict.artifact.precision.float_layers == tuple(made.manifest["precision"]["float_layers"])


def _forged(made: Made, folder: Path, *more: str) -> Path:
    """Another layer in float32, and a manifest with the digest of that file, but not with the layer's name."""
    shutil.copytree(made.folder, folder)
    path = folder / "ship" / "efficientvit_m0.onnx"
    model = onnx.load(path)
    source = onnx.ModelProto()
    weight = f"{more[0].removesuffix('/Conv')}.weight"
    held = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    scale = held[f"{weight}_scale"].reshape(-1, 1, 1, 1)
    value = (held[f"{weight}_quantized"].astype(np.float32) * scale).astype(np.float32)
    source.graph.initializer.append(onnx.numpy_helper.from_array(value, weight))
    leave_in_float(model, source, more)
    onnx.save(model, path)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["stages"][-1]["artifact"]["sha256"] = digest(path)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_another_layer_without_its_quantizers_is_rejected(made: Made, tmp_path: Path) -> None:
    folder = _forged(made, tmp_path / "forged", "stem.conv2/Conv")
    verdict = verify(folder).verdict
    assert isinstance(verdict, Rejected)
    over = {str(gate.gate): gate.detail for gate in verdict.report.gates if not gate.passed}
    assert over["operators"] == "1 x Conv not quantized"
    assert "stem.conv2.weight" in over["constants"]


def test_a_name_that_is_added_to_the_manifest_excuses_nothing(made: Made, tmp_path: Path) -> None:
    """The reference in the folder is of another precision."""
    folder = _forged(made, tmp_path / "forged", "stem.conv2/Conv")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["precision"]["float_layers"] = sorted([*manifest["precision"]["float_layers"], "stem.conv2/Conv"])
    (folder / "manifest.json").write_text(json.dumps(manifest))
    for weights in (None, str(made.checkpoint)):
        with pytest.raises(ArtifactChanged, match="the precision in"):
            verify(folder, weights)


def test_a_declared_layer_that_is_quantized_is_rejected(made: Made) -> None:
    """By the operators gate, where manifest and reference agree on it."""
    exported = open_exported(made.folder)
    artifact = exported.artifact
    more = replace(artifact.precision, float_layers=(*artifact.precision.float_layers, "stem.conv2/Conv"))
    reference = replace(exported.reference, precision=more)
    verdict = judge(replace(artifact, precision=more), reference, OnnxRuntime())
    assert isinstance(verdict, Rejected)
    assert "stem.conv2/Conv quantized, declared float32" in verdict.reason


def test_all_int8_is_rejected_and_by_accuracy_too(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging, "blame_artifact", lambda *_, **__: Blame(()))
    labeled = write_eval_folder(tmp_path / "eval", load_checkpoint(made.checkpoint, "m0").model, 24)
    outcome = _export(
        str(made.checkpoint), tmp_path / "out", int8=Int8Options(all_int8=True), evaluation=Evaluation(labeled)
    )
    assert isinstance(outcome.final, Rejected)
    assert [gate.gate for gate in outcome.final.report.gates if not gate.passed] == ["quality", "accuracy"]
    assert outcome.final.artifact.precision.float_layers == ()


def test_reduced_range(tmp_path: Path) -> None:
    """Weights in 7 bits, the addends in 8; bit for bit our own; the folder says so by name and precision."""
    outcome = _export("seeded", tmp_path / "out", int8=Int8Options(reduce_range=True), budgets=Budgets(quality=0.5))
    final = outcome.final
    assert isinstance(final, VerifiedArtifact)
    assert outcome.slug == "m0-64-onnx-int8-reduced-untrained"
    assert final.artifact.precision.weights is Dtype.INT7
    assert outcome.folder is not None
    manifest = json.loads((outcome.folder / "manifest.json").read_text())
    jsonschema.Draft202012Validator(SCHEMA).validate(manifest)
    assert manifest["precision"]["weights"] == "int7"
    model = onnx.load(outcome.folder / "ship" / "efficientvit_m0.onnx")
    held = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    weights = [value for name, value in held.items() if name.endswith("weight_quantized")]
    assert len(weights) == _weights()
    assert all(np.abs(value.astype(int)).max() == 64 for value in weights)
    addends = [value for name, value in held.items() if name.endswith("_quantized") and ".bias." in name]
    assert max(value.max() for value in addends) == 255
    assert isinstance(verify(outcome.folder, "seeded", Budgets(quality=0.5)).verdict, VerifiedArtifact)


def test_all_layers_in_float32_leave_no_activation_quantized(made: Made) -> None:
    model = onnx.load(made.folder / "ship" / "efficientvit_m0.onnx")
    names = layers(model)
    assert len(names) == _weights() + _products()
    weights = [f"{name.rpartition('/')[0]}.weight" for name in names if "/MatMul" not in name]
    source = onnx.ModelProto()
    source.graph.initializer.extend(onnx.numpy_helper.from_array(np.zeros(1, np.float32), name) for name in weights)
    leave_in_float(model, source, names)
    assert not list(activation_quantizers(model))
    assert not_left_out(model, names) == set()
    assert left_out(model, depthwise=True, declared=names[1:]) == {"Conv": 1}
