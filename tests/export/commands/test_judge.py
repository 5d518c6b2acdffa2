"""Files that other tools made of timm's model, by the real exporters: the healthy pass, the spoiled are refused."""

import copy
import functools
import json
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import PIL.Image
import pytest
import torch
from onnx import helper, numpy_helper
from onnxruntime.quantization import quantize_dynamic
from rich.console import Console
from torch import nn

from efficientvit.errors import BadInput, BrokenArtifact
from efficientvit.images.preprocessing import Preprocessing, load_rgb, normalize, to_uint8
from efficientvit.model import EfficientViT
from efficientvit.size import ImageSize, square
from efficientvit.weights.reading import Reading
from efficientvit.weights.source import find_weights
from export.bench.timm_export import stock_model
from export.cli import main as cli
from export.cli.tables import show_judged
from export.commands import judge as judging
from export.commands.judge import Judged, JudgeOptions, judge_file
from export.exits import Exit
from export.request.evaluation import Evaluation
from export.targets.coreml.validated_once import validated_once
from export.workers.gc_freeze import collector_at_rest
from runtimes import registry
from runtimes.artifact import Format
from runtimes.host.machine import version
from runtimes.onnx.reader import OnnxReader
from runtimes.onnx.runtime import OnnxRuntime
from runtimes.openvino.package import import_openvino
from runtimes.precision import Precision
from runtimes.reader import Reader
from runtimes.registry import Row
from runtimes.runtime import Evidence
from validation.budgets import Budgets
from validation.external.input_format import Range, Scores
from validation.gates import table
from validation.gates.gate import Gate
from validation.gates.result import GateResult
from validation.inputs.golden_set import GoldenSet
from validation.reference.memo import fingerprint
from validation.self_check import SelfCheck, self_check
from validation.trial import Trial
from validation.verdict import Rejected

SIZE = 64
pytestmark = pytest.mark.tiny_m0
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As timm would save it."""
    path = tmp_path_factory.mktemp("weights") / "timm.pth"
    torch.save(_timm().state_dict(), path)
    return path


def _timm() -> nn.Module:
    """timm's M0 with our seeded weights, on which a check can fail."""
    return copy.deepcopy(_made_by_timm())


@functools.cache
def _made_by_timm() -> nn.Module:
    return stock_model(find_weights("seeded", "m0", square(SIZE)).model)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A stock export by its tool, made once."""
    folder = tmp_path_factory.mktemp("stock")
    known: dict[str, Path] = {}

    def make(tool: str) -> Path:
        if tool not in known:
            known[tool] = _MAKERS[tool](folder)
        return known[tool]

    return make


@contextmanager
def unheeded() -> Iterator[None]:
    """Other people's tools warn of themselves and of each other."""
    with warnings.catch_warnings(), collector_at_rest():
        warnings.simplefilter("ignore")
        yield


IMAGE = (torch.zeros(1, 3, SIZE, SIZE),)


def _dynamo(folder: Path) -> Path:
    path = folder / "dynamo.onnx"
    with unheeded():
        torch.onnx.export(_timm(), IMAGE, path, dynamo=True, verbose=False, external_data=False)
    return path


def _dynamic(folder: Path) -> Path:
    path = folder / "dynamic.onnx"
    images, shapes = (torch.zeros(2, 3, SIZE, SIZE),), ({0: torch.export.Dim("n")},)
    with unheeded():
        torch.onnx.export(_timm(), images, path, dynamo=True, verbose=False, external_data=True, dynamic_shapes=shapes)
    assert path.with_name("dynamic.onnx.data").exists()
    return path


def _torchscript(folder: Path) -> Path:
    path = folder / "script.onnx"
    with unheeded():
        torch.onnx.export(_timm(), IMAGE, path, dynamo=False, opset_version=17)
    return path


def _training(folder: Path) -> Path:
    """Not in eval mode, nothing folded: BatchNorm takes the batch's own statistics."""
    path, mode = folder / "training.onnx", torch.onnx.TrainingMode.TRAINING
    images = (torch.zeros(4, 3, SIZE, SIZE),)
    with unheeded():
        torch.onnx.export(
            _timm().train(), images, path, dynamo=False, opset_version=17, training=mode, do_constant_folding=False
        )
    return path


def _openvino(folder: Path, *, half: bool) -> Path:
    openvino = import_openvino()
    path = folder / f"ir{16 if half else 32}.xml"
    with unheeded():
        model = openvino.convert_model(_timm(), example_input=IMAGE[0], input=[(1, 3, SIZE, SIZE)])
    openvino.save_model(model, path, compress_to_fp16=half)
    return path


def _coreml(folder: Path) -> Path:
    ct = pytest.importorskip("coremltools")
    path = folder / "app.mlpackage"
    with unheeded(), validated_once():
        traced = torch.jit.trace(_timm(), IMAGE[0])
        inputs = [ct.TensorType("x", shape=IMAGE[0].shape)]
        ct.convert(traced, inputs=inputs, convert_to="mlprogram", skip_model_load=True).save(str(path))
    return path


def core_ai(network: nn.Module, path: Path) -> Path:
    """Apple's converter, as its documentation has it."""
    coreai_torch = pytest.importorskip("coreai_torch")
    with unheeded():
        program = torch.export.export(network.eval(), IMAGE).run_decompositions(coreai_torch.get_decomp_table())
        converter = coreai_torch.TorchConverter()
        converter.add_exported_program(program, input_names=["x"], output_names=["y"])
        converter.to_coreai().save_asset(path)
    return path


_MAKERS: dict[str, Callable[[Path], Path]] = {
    "torch.onnx, dynamo": _dynamo,
    "torch.onnx, dynamic batch": _dynamic,
    "torch.onnx, TorchScript": _torchscript,
    "torch.onnx, training": _training,
    "OpenVINO fp32": lambda folder: _openvino(folder, half=False),
    "OpenVINO fp16": lambda folder: _openvino(folder, half=True),
    "Core ML": _coreml,
    "Core AI": lambda folder: core_ai(_timm(), folder / "app.aimodel"),
}
_ELSEWHERE = {"Core ML": Evidence.REFERENCE, "Core AI": Evidence.VENDOR}
"""The evidence that this host has of formats for other ones."""

_RUNS = {"onnx": "onnxruntime", "openvino": "openvino", "coreml": "mil", "coreai": "coreai"}


def wrapped(source: Path, out: Path, before: list[tuple[str, Any]] = (), *, softmax: bool = False) -> Path:  # type: ignore[assignment]
    """The same file with elementwise nodes in front of the network, or a softmax behind it."""
    model = onnx.load(source)
    graph = model.graph
    given = graph.input[0].name
    nodes, last = [], given
    for i, (kind, value) in enumerate(before):
        if kind == "Transpose":
            nodes.append(helper.make_node(kind, [last], [f"in{i}"], perm=value))
            shape = graph.input[0].type.tensor_type.shape.dim
            shape[1].dim_value, shape[3].dim_value = SIZE, 3
        elif kind == "Cast":
            nodes.append(helper.make_node(kind, [last], [f"in{i}"], to=value))
        else:
            constant = np.array(value, np.float32).reshape(1, -1, 1, 1)
            graph.initializer.append(numpy_helper.from_array(constant, f"value{i}"))
            nodes.append(helper.make_node(kind, [last, f"value{i}"], [f"in{i}"]))
        last = f"in{i}"
    for node in graph.node:
        node.input[:] = [last if name == given else name for name in node.input]
    for node in reversed(nodes):
        graph.node.insert(0, node)
    if softmax:
        output = graph.output[0].name
        graph.node.append(helper.make_node("Softmax", [output], ["probabilities"], axis=-1))
        graph.output[0].name = "probabilities"
    onnx.save(model, out)
    return out


def judged(path: Path, weights: Path | str, **options: Any) -> Judged:
    return judge_file("m0", str(weights), path, JudgeOptions(**options))


@pytest.fixture(scope="module", autouse=True)
def one_reference() -> Iterator[None]:
    """Most files are judged by the same checkpoint on the same images: what it gives is measured once."""
    from validation.reference import model

    made: dict[tuple[Any, ...], model.ReferenceModel] = {}

    def reference(trained: EfficientViT, golden: GoldenSet, budgets: Budgets) -> model.ReferenceModel:
        pixels = tuple(member.has_pixels for member in golden.members)
        key = (fingerprint("trained", trained, ()), golden.sha256, pixels, golden.preprocessing, budgets)
        if key not in made:
            made[key] = real(trained, golden, budgets)
        return made[key]

    @functools.cache
    def check(of: model.ReferenceModel, precisions: frozenset[Precision]) -> SelfCheck:
        return self_check(of, precisions)

    real = model.ReferenceModel
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "ReferenceModel", reference)
        patch.setattr(judging, "self_check", lambda of, precisions: check(of, frozenset(precisions)))
        yield


def behind_half_ports(source: Path, out: Path) -> Path:
    """The same network in float32, which takes and gives float16."""
    model = onnx.load(wrapped(source, out, [("Cast", onnx.TensorProto.FLOAT)]))
    graph, half = model.graph, onnx.TensorProto.FLOAT16
    graph.node.append(helper.make_node("Cast", [graph.output[0].name], ["given16"], to=half))
    graph.output[0].name = "given16"
    for port in (graph.input[0], graph.output[0]):
        port.type.tensor_type.elem_type = half
    onnx.save(model, out)
    return out


def test_what_ports_in_half_precision_round_is_no_fault_of_the_network(
    made: Callable[[str], Path], checkpoint: Path, tmp_path: Path
) -> None:
    path = behind_half_ports(made("torch.onnx, dynamo"), tmp_path / "ports.onnx")
    result = judged(path, checkpoint)
    assert result.code(Evidence.NATIVE) is Exit.OK, result.found.verdict
    gates = {gate.gate: gate for gate in result.found.verdict.report.gates}
    assert gates["identity"].detail.startswith("proven")
    assert 1e-5 < gates["precision"].worst < gates["precision"].budget < 2e-2

    model = onnx.load(path)  # a class without its weights
    weight = next(each for each in model.graph.initializer if list(each.dims)[:1] == [1000])
    value = numpy_helper.to_array(weight).copy()
    value[0] = 0
    weight.CopyFrom(numpy_helper.from_array(value, weight.name))
    onnx.save(model, path)
    assert judged(path, checkpoint).code(Evidence.NATIVE) is Exit.REJECTED


@pytest.mark.parametrize("tool", [tool for tool in _MAKERS if "training" not in tool])
def test_a_healthy_stock_export_passes(tool: str, made: Callable[[str], Path], checkpoint: Path) -> None:
    result = judged(made(tool), checkpoint)
    assert result.code(Evidence.REFERENCE) is Exit.OK, result.found.verdict
    assert result.found.taken.range is Range.NORMALIZED
    assert result.blame is None
    report = result.found.verdict.report
    assert report.evidence is _ELSEWHERE.get(tool, Evidence.NATIVE)
    assert report.attestation is not None
    assert report.attestation.runtime == _RUNS[result.foreign.artifact.format]
    traced = next(gate for gate in result.found.verdict.report.gates if gate.gate == "constants")
    assert traced.detail.startswith(("0 of", "1", "2", "3"))
    assert "within rounding" in traced.detail


def test_a_stock_export_of_a_rectangle_passes(tmp_path: Path) -> None:
    size = ImageSize(height=SIZE, width=96)
    stock = stock_model(find_weights("seeded", "m0", size).model)
    with unheeded():
        path = tmp_path / "rectangle.onnx"
        torch.onnx.export(stock, (torch.zeros(size.nchw(1)),), path, dynamo=False, opset_version=17)
    result = judged(path, "seeded")
    assert result.code(Evidence.NATIVE) is Exit.OK, result.found.verdict
    assert result.foreign.artifact.model.image_size == size
    proof = next(gate for gate in result.found.verdict.report.gates if gate.gate == "identity")
    assert proof.detail.startswith("proven")


NORMALIZE = [("Sub", MEAN), ("Div", STD)]


def test_half_precision_ports_are_fed_and_probabilities_in_half_refused(
    made: Callable[[str], Path], checkpoint: Path, tmp_path: Path
) -> None:
    from onnxconverter_common import float16

    for softmax in (False, True):
        source = made("torch.onnx, dynamo")
        if softmax:
            source = wrapped(source, tmp_path / "softmax.onnx", softmax=True)
        with unheeded():
            half = float16.convert_float_to_float16(onnx.load(source), min_positive_val=1e-30, max_finite_val=6e4)
        path = tmp_path / "half.onnx"
        onnx.save(half, path)
        if softmax:
            with pytest.raises(BadInput, match="probabilities in float16"):
                judged(path, checkpoint, scores=Scores.PROBABILITIES)
            continue
        result = judged(path, checkpoint)
        assert result.foreign.image.dtype == "float16"
        assert result.code(Evidence.NATIVE) is Exit.OK, result.found.verdict


def test_layout_and_range_are_recognized(made: Callable[[str], Path], checkpoint: Path, tmp_path: Path) -> None:
    before = [("Transpose", [0, 3, 1, 2]), ("Div", [255.0]), *NORMALIZE]
    result = judged(wrapped(made("torch.onnx, dynamo"), tmp_path / "nhwc.onnx", before), checkpoint)
    assert result.code(Evidence.NATIVE) is Exit.OK, result.found.verdict
    assert result.foreign.channels_last
    assert result.found.taken.range is Range.BYTES
    assert result.found.taken.recognized


def test_the_wrong_std_baked_in_is_refused_and_blamed(
    made: Callable[[str], Path], checkpoint: Path, tmp_path: Path
) -> None:
    wrong = [("Sub", MEAN), ("Div", [sum(STD) / 3])]
    result = judged(wrapped(made("torch.onnx, dynamo"), tmp_path / "std.onnx", wrong), checkpoint)
    assert result.code(Evidence.NATIVE) is Exit.REJECTED
    assert result.found.taken.range is Range.UNIT
    assert result.blame is not None
    assert {suspect.layer.kind for suspect in result.blame.suspects[:2] if suspect.layer} == {"Sub", "Div"}


def test_a_file_that_takes_bytes_is_fed_bytes(made: Callable[[str], Path], checkpoint: Path, tmp_path: Path) -> None:
    before = [("Transpose", [0, 3, 1, 2]), ("Cast", onnx.TensorProto.FLOAT), ("Div", [255.0]), *NORMALIZE]
    path = wrapped(made("torch.onnx, dynamo"), tmp_path / "bytes.onnx", before)
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.UINT8
    onnx.save(model, path)
    result = judged(path, checkpoint)
    assert result.code(Evidence.NATIVE) is Exit.OK, result.found.verdict
    assert result.foreign.takes_bytes
    assert result.found.taken.range is Range.BYTES
    assert result.found.verdict.report.proven


def test_a_wrong_normalization_of_another_range_is_named(
    made: Callable[[str], Path], checkpoint: Path, tmp_path: Path
) -> None:
    half = [("Sub", [0.5] * 3), ("Div", [0.5] * 3)]
    result = judged(wrapped(made("torch.onnx, dynamo"), tmp_path / "half.onnx", half), checkpoint)
    assert result.code(Evidence.NATIVE) is Exit.REJECTED
    assert result.found.notes[0].startswith("normalized by mean and std 0.5, not by the checkpoint's")
    assert result.found.notes[0].endswith("(it takes values from 0 to 1)")


def test_lost_weights_are_named(made: Callable[[str], Path], checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "dynamic.onnx"
    shutil.copyfile(made("torch.onnx, dynamic batch"), path)
    with pytest.raises(BadInput, match="lie in another file") as refused:
        judged(path, checkpoint)
    assert refused.value.next_step is not None
    assert refused.value.next_step.startswith("copy dynamic.onnx.data")


def test_int8_of_another_tool_is_judged_by_quality_and_labeled_images(
    made: Callable[[str], Path], checkpoint: Path, tmp_path: Path
) -> None:
    path = tmp_path / "int8.onnx"
    with unheeded():
        quantize_dynamic(made("torch.onnx, TorchScript"), path)
    classes, contract = tmp_path / "val", Preprocessing(square(SIZE))
    model = find_weights("seeded", "m0", square(SIZE)).model
    for seed in (3, 7):  # named by what the model says, so that it is right
        photo = tmp_path / f"{seed}.png"
        PIL.Image.fromarray(np.random.default_rng(seed).integers(0, 256, (80, 80, 3), np.uint8)).save(photo)
        pixels = to_uint8(load_rgb(photo, contract), contract)
        with torch.no_grad():
            answer = int(model(torch.tensor(normalize(pixels, contract))[None]).argmax())
        (classes / str(answer)).mkdir(parents=True, exist_ok=True)
        photo.rename(classes / str(answer) / photo.name)
    asked = Evaluation(classes)
    result = judged(path, checkpoint, budgets=Budgets(quality=2.0), evaluation=asked)
    report = result.found.verdict.report
    assert [gate.gate for gate in report.gates] == ["identity", "constants", "quality", "accuracy"]
    assert result.code(Evidence.NATIVE) is Exit.OK, result.found.verdict
    assert report.gates[0].detail.startswith("proven without its quantizers")
    assert not report.proven  # what they round is judged by samples
    assert report.accuracy is not None
    assert report.accuracy.images == 2
    rejected = judged(path, checkpoint)
    assert rejected.code(Evidence.NATIVE) is Exit.REJECTED
    assert rejected.blame is not None
    assert "judge the float file" in (rejected.blame.note or "")


def test_probabilities_are_refused_for_logits_and_judged_when_asked_for(
    made: Callable[[str], Path], checkpoint: Path, tmp_path: Path
) -> None:
    path = wrapped(made("torch.onnx, dynamo"), tmp_path / "probabilities.onnx", softmax=True)
    result = judged(path, checkpoint)
    assert result.code(Evidence.NATIVE) is Exit.REJECTED
    assert "gives probabilities, not logits" in result.found.verdict.report.gates[0].detail
    assert judged(path, checkpoint, scores=Scores.PROBABILITIES).code(Evidence.NATIVE) is Exit.OK
    stock = judged(made("torch.onnx, dynamo"), checkpoint, scores=Scores.PROBABILITIES)
    assert stock.code(Evidence.NATIVE) is Exit.REJECTED


def test_a_quality_budget_is_for_compressed_weights(made: Callable[[str], Path], checkpoint: Path) -> None:
    with pytest.raises(BadInput, match="--quality-budget is for compressed weights"):
        judged(made("torch.onnx, dynamo"), checkpoint, budgets=Budgets(quality=0.1))


def test_another_checkpoint_is_refused(made: Callable[[str], Path]) -> None:
    result = judged(made("torch.onnx, dynamo"), "seeded:1")
    assert result.code(Evidence.NATIVE) is Exit.REJECTED
    assert any("none of its weights is of this checkpoint" in note for note in result.found.notes)
    assert result.blame is not None
    assert result.blame.suspects[0].module == "stem.conv1"


@pytest.mark.parametrize("average", [False, True])
def test_a_file_of_the_checkpoints_other_weights_is_refused_and_told_of_them(
    average: bool, made: Callable[[str], Path], tmp_path: Path
) -> None:
    """`--ema` was left out, or given where the file is of the weights themselves."""
    mine, other = _timm().state_dict(), find_weights("seeded:1", "m0", square(SIZE)).model.state_dict()
    both = {"state_dict_ema": mine, "state_dict": other} if average else {"state_dict_ema": other, "state_dict": mine}
    path = tmp_path / "both.pth"
    torch.save(both, path)
    result = judged(made("torch.onnx, dynamo"), path, reading=Reading(ema=not average))
    assert result.code(Evidence.NATIVE) is Exit.REJECTED
    expected = (
        "of the running average in the checkpoint: with" if average else "of the weights, not their average: without"
    )
    assert result.found.notes == (f"it was made {expected} --ema it passes",)
    assert judged(made("torch.onnx, dynamo"), path, reading=Reading(ema=average)).code(Evidence.NATIVE) is Exit.OK
    if average:  # of neither
        result = judged(made("torch.onnx, training"), path, reading=Reading(ema=True))
        assert result.code(Evidence.NATIVE) is Exit.REJECTED
        assert not any("--ema" in note for note in result.found.notes)


def test_training_mode_is_refused_and_its_first_normalization_blamed(
    made: Callable[[str], Path], checkpoint: Path
) -> None:
    result = judged(made("torch.onnx, training"), checkpoint)
    assert result.code(Evidence.NATIVE) is Exit.REJECTED
    assert result.blame is not None
    first = result.blame.suspects[0]
    assert first.layer is not None
    assert first.layer.kind == "BatchNormalization"
    assert first.module == "stem.conv1.norm"
    proof = next(gate for gate in result.found.verdict.report.gates if gate.gate == "identity")
    assert "as in training" in proof.detail
    assert "exported after model.eval()" in proof.detail


def test_a_file_that_resizes_its_image_is_told_so(checkpoint: Path, tmp_path: Path) -> None:
    class Resizing(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = _timm()

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            small = torch.nn.functional.interpolate(image, (SIZE, SIZE), mode="bilinear")
            logits: torch.Tensor = self.network(small)
            return logits

    path = tmp_path / "resizing.onnx"
    with unheeded():
        torch.onnx.export(Resizing().eval(), (torch.zeros(1, 3, 128, 128),), path, dynamo=False, opset_version=17)
    result = judged(path, checkpoint)
    assert result.code(Evidence.NATIVE) is Exit.REJECTED
    assert any("resizes within the file" in note and "128" in note for note in result.found.notes)


def test_a_fault_in_a_strangers_file_is_laid_on_its_layer(
    made: Callable[[str], Path], checkpoint: Path, tmp_path: Path
) -> None:
    model = onnx.load(made("torch.onnx, dynamo"))
    node = [node for node in model.graph.node if node.op_type == "Sigmoid"][1]
    node.op_type = "HardSigmoid"
    path = tmp_path / "hard.onnx"
    onnx.save(model, path)
    result = judged(path, checkpoint)
    assert result.code(Evidence.NATIVE) is Exit.REJECTED
    assert result.blame is not None
    assert result.blame.suspects[0].module == "stage3.downsample.merge.gate"


def test_a_core_ai_asset_with_another_weight_is_refused_and_the_layer_named(checkpoint: Path, tmp_path: Path) -> None:
    network = _timm()
    with torch.no_grad():
        network.get_parameter("stages.1.blocks.0.dw0.m.conv.weight").mul_(1.5)
    result = judged(core_ai(network, tmp_path / "wrong.aimodel"), checkpoint)
    assert result.code(Evidence.REFERENCE) is Exit.REJECTED
    assert result.blame is not None
    modules = [str(suspect.module) for suspect in result.blame.suspects]
    assert any(module.startswith("stage2.") for module in modules[:2]), modules


def test_what_cannot_be_judged_is_said(made: Callable[[str], Path], checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="there is no file"):
        judged(tmp_path / "none.onnx", checkpoint)
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(made("torch.onnx, dynamo").read_bytes()[:5000])
    with pytest.raises(BrokenArtifact, match="cannot be read"):
        judged(broken, checkpoint)
    features = tmp_path / "features.onnx"
    model = onnx.load(made("torch.onnx, dynamo"))
    gemm = model.graph.node[-1]
    model.graph.output[0].name = gemm.input[0]
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 192
    onnx.save(model, features)
    with pytest.raises(BadInput, match="not a classifier of 1000 classes"):
        judged(features, checkpoint)
    both = onnx.load(made("torch.onnx, dynamo"))
    both.graph.output.add(name=both.graph.node[-1].input[0]).type.CopyFrom(both.graph.output[0].type)
    onnx.save(both, features)
    with pytest.raises(BadInput, match="has several outputs") as several:
        judged(features, checkpoint)
    assert "the logits where" in str(several.value)
    both.graph.output[1].type.tensor_type.shape.dim[1].dim_value = 192
    onnx.save(both, features)
    with pytest.raises(BadInput, match="has several outputs"):
        judged(features, checkpoint)


class _Unread(OnnxReader):
    """Of a format whose programs nobody can read."""

    program = Reader.program


class _Theirs(OnnxRuntime):
    """Another format's, which runs on ONNX Runtime."""

    name = "theirs"
    evidence = Evidence.VENDOR


@pytest.fixture
def theirs(made: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of a format that a package adds, as far as `judge` can tell."""
    row = Row("Their file", (_Theirs(),), _Unread(), external_suffix=".theirs")
    monkeypatch.setitem(cast(dict[Format, Row], registry.BUILT_IN), Format("theirs"), row)
    path = tmp_path / "app.theirs"
    shutil.copyfile(made("torch.onnx, TorchScript"), path)
    return path


def test_a_format_that_is_not_ours_is_attested_by_the_runtime_that_ran_it(theirs: Path, checkpoint: Path) -> None:
    result = judged(theirs, checkpoint)
    report = result.found.verdict.report
    assert result.code(Evidence.VENDOR) is Exit.OK, result.found.verdict
    assert (report.evidence, result.code(Evidence.NATIVE)) == (Evidence.VENDOR, Exit.NOT_VERIFIED)
    assert report.attestation is not None
    assert (report.attestation.runtime, report.attestation.version) == ("onnxruntime", version("onnxruntime"))
    assert report.gates[0].gate == "identity"
    assert report.gates[0].warning == "not proven, sampled only: no reader of this format's program"


def test_the_table_says_which_gates_a_strangers_file_is_asked_and_in_which_order(
    theirs: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def counted(trial: Trial) -> GateResult:
        runs = (trial.oracle, trial.shipped)
        assert all(run.outputs[0].logits.shape == (len(trial.judged.golden), 1000) for run in runs)
        return GateResult("bytes", float(trial.artifact.size_bytes), 1.0, "counted")

    own = Gate("bytes", "its size", lambda _: True, counted, foreign=True, next_step="leave it")
    place = table.names().index("structure") + 1
    ours = replace(own, name="ours", foreign=False)
    monkeypatch.setattr(table, "GATES", (*table.GATES[:place], own, ours, *table.GATES[place:]))
    result = judged(theirs, checkpoint)
    asked = ["identity", "constants", "structure", "bytes", "precision"]
    assert [gate.gate for gate in result.found.verdict.report.gates] == asked
    assert isinstance(result.found.verdict, Rejected)
    shown = StringIO()
    show_judged(Console(file=shown, width=160), result)
    assert "next: leave it" in shown.getvalue()


def test_the_command(
    made: Callable[[str], Path],
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "theirs.onnx"
    shutil.copyfile(made("torch.onnx, dynamo"), path)
    command = ["vit-export", "judge", "m0", str(path), "-w", str(checkpoint)]
    monkeypatch.setattr(sys, "argv", [*command, "--json"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    printed = capsys.readouterr()
    assert stopped.value.code == Exit.OK
    found = json.loads(printed.out)
    assert (found["status"], found["range"], found["scores"]) == ("verified", "normalized", "logits")
    assert found["gates"]["structure"]["passed"]
    assert "verified" in printed.err
    monkeypatch.setattr(sys, "argv", [*command, "--range", "unit"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == Exit.REJECTED
    assert "rejected" in capsys.readouterr().err
