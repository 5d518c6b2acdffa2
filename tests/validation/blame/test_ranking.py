"""The layer to blame, in files that the real converters made of M0, in every format; and none in healthy ones."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from efficientvit.deploy import rewrites as deploy
from efficientvit.deploy.modules import StaticAttention
from efficientvit.images.preprocessing import Preprocessing
from efficientvit.model import EfficientViT
from efficientvit.size import square
from efficientvit.weights.source import find_weights
from export.request.request import Request
from export.targets.coreml.package import write_model
from export.targets.workshop import Workshop
from runtimes.artifact import Artifact, Format, digest
from runtimes.coreml.mlpackage import load_model
from runtimes.registry import BUILT_IN, open_layers
from runtimes.runtime import Mode
from tests.stages import STAGES
from validation.blame.artifact import blame_artifact
from validation.blame.int8 import blame_ranges
from validation.blame.ranking import Blame
from validation.blame.rewrite import blame_rewrite
from validation.gates.result import GateResult
from validation.inputs.synthetic import synthetic
from validation.reference import model as reference
from validation.reference.model import ReferenceModel

SIZE = 96  # the first grid of 6 is one window; small enough to be quick
FORMS = (
    ("onnx", "fp32"), ("onnx", "fp16"), ("openvino", "fp32"), ("coreml", "fp16"), ("tensorrt", "fp16"),
    ("tensorrt", "int8"),
)  # fmt: skip
ATTENTION = "stage2.block1.mixer.branch"


@pytest.fixture(scope="module")
def model() -> Iterator[ReferenceModel]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    weights = find_weights("seeded", "m0", square(SIZE))
    yield ReferenceModel(weights.model, synthetic(Preprocessing(image_size=square(SIZE))))
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def healthy(model: ReferenceModel, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Artifact]:
    """The artifact that is judged last, of a target and a precision; each stage made once."""
    shop = Workshop(find_weights("seeded", "m0", square(SIZE)), model, tmp_path_factory.mktemp("made"))
    made: dict[tuple[str, ...], Artifact] = {}

    def make(target: str, precision: str) -> Artifact:
        out = tmp_path_factory.mktemp("out")
        request = Request(("m0",), (target,), precision, weights="seeded", image_size=square(SIZE), out=out, kit=False)
        if precision == "int8":
            request = replace(request, calibrate="golden")
        (job,) = request.jobs()
        artifact: Artifact | None = None
        for stage, form in job.plan:
            name = stage.name
            if name == "build":
                continue
            key = (name,) if name in ("trace", "simplify") else (name, target, precision)
            if key not in made:
                made[key] = STAGES[name](shop, job, form, artifact)
            artifact = made[key]
        assert artifact is not None
        return artifact

    return make


def failing(*which: str) -> tuple[GateResult, ...]:
    return tuple(GateResult(gate, 1.0, 0.0, "") for gate in which)


def spoiled(artifact: Artifact, folder: Path, change: Callable[[Path], object]) -> Artifact:
    path = artifact.copied_to(folder)
    change(path)
    return replace(artifact, path=path, sha256=digest(path))


@pytest.mark.parametrize(("target", "precision"), FORMS)
def test_nothing_is_blamed_in_what_is_healthy(
    target: str, precision: str, healthy: Callable[[str, str], Artifact], model: ReferenceModel
) -> None:
    found = blame_artifact(healthy(target, precision), model, ())
    assert found.suspects == ()
    assert len(found.layers) > 150
    assert sum(not layer.passed for layer in found.layers) <= 0.02 * len(found.layers)
    modules = {name for name, _ in model.deploy.named_modules()} | {"input"}
    assert {layer.module for layer in found.layers} <= modules


def _onnx(change: Callable[[onnx.ModelProto], str | None], path: Path) -> None:
    proto = onnx.load(path)
    change(proto)
    onnx.save(proto, path)


def _node(proto: onnx.ModelProto, scope: str, kind: str) -> Any:
    return next(node for node in proto.graph.node if node.name.startswith(scope) and node.op_type == kind)


def wrong_axis(proto: onnx.ModelProto) -> None:
    _node(proto, ATTENTION, "Softmax").attribute[0].i = 1


def without_relu(proto: onnx.ModelProto) -> None:
    relu = _node(proto, "stage2.block1.ffn1.branch", "Relu")
    for node in proto.graph.node:
        node.input[:] = [relu.input[0] if name == relu.output[0] else name for name in node.input]
    proto.graph.node.remove(relu)


def other_halves(proto: onnx.ModelProto) -> None:
    concat = _node(proto, ATTENTION, "Concat")
    concat.input[0], concat.input[1] = concat.input[1], concat.input[0]


def bias_by_wire(proto: onnx.ModelProto) -> None:
    names = [f"{ATTENTION}.bias.0", f"{ATTENTION}.bias.1"]
    for node in proto.graph.node:
        node.input[:] = [names[1 - names.index(name)] if name in names else name for name in node.input]


def kernel_flipped(proto: onnx.ModelProto) -> None:
    (tensor,) = (t for t in proto.graph.initializer if t.name == "stage2.block1.depthwise2.weight")
    value = np.ascontiguousarray(numpy_helper.to_array(tensor)[..., ::-1])
    tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize(
    ("change", "module", "says"),
    [
        (wrong_axis, ATTENTION, "softmax over the wrong axis"),
        (without_relu, "stage2.block1.ffn1.branch.project", None),
        (other_halves, ATTENTION, "channels permuted"),
        (bias_by_wire, ATTENTION, "off by the same on every image"),
        (kernel_flipped, "stage2.block1.depthwise2", "reversed along axis 3"),
    ],
)
def test_a_fault_in_an_onnx_file_is_laid_on_its_layer(
    change: Callable[[onnx.ModelProto], str | None],
    module: str,
    says: str | None,
    precision: str,
    healthy: Callable[[str, str], Artifact],
    model: ReferenceModel,
    tmp_path: Path,
) -> None:
    artifact = spoiled(healthy("onnx", precision), tmp_path, partial(_onnx, change))
    found = blame_artifact(artifact, model, failing("structure"))
    first = found.suspects[0]
    assert first.module == module, found
    assert (first.cause is None) if says is None else says in (first.cause or "")


def test_an_overflow_is_named_in_the_arithmetic_that_ships(
    healthy: Callable[[str, str], Artifact], model: ReferenceModel, tmp_path: Path
) -> None:
    """Scaled up before one layer and down behind it: exact in float32, infinite in float16."""

    def scaled(proto: onnx.ModelProto) -> None:
        conv = _node(proto, "stage1.block1.ffn1.branch.project", "Conv")
        for name, value in (("up", 2.0**15), ("down", 2.0**-15)):
            proto.graph.initializer.append(numpy_helper.from_array(np.array(value, np.float16), name))
        up = onnx.helper.make_node("Mul", [conv.input[0], "up"], ["raised"], "stage1.block1.ffn1.branch/Up")
        down = onnx.helper.make_node("Mul", ["raised", "down"], ["lowered"], "stage1.block1.ffn1.branch/Down")
        place = list(proto.graph.node).index(conv)
        conv.input[0] = "lowered"
        proto.graph.node.insert(place, down)
        proto.graph.node.insert(place, up)

    artifact = spoiled(healthy("onnx", "fp16"), tmp_path, partial(_onnx, scaled))
    found = blame_artifact(artifact, model, failing("precision"))
    layers = [suspect for suspect in found.suspects if suspect.layer and suspect.layer.name.endswith("/Up")]
    assert len(layers) == 1, found
    assert "overflow" in (layers[0].cause or "")


def test_a_fault_in_an_ir(healthy: Callable[[str, str], Artifact], model: ReferenceModel, tmp_path: Path) -> None:
    def pads(path: Path) -> None:
        text = path.read_text()
        at = text.index('name="stage1.block1.depthwise1/Conv')
        old, new = 'pads_begin="1, 1" pads_end="1, 1"', 'pads_begin="2, 2" pads_end="0, 0"'
        path.write_text(text[:at] + text[at:].replace(old, new, 1))

    found = blame_artifact(spoiled(healthy("openvino", "fp32"), tmp_path, pads), model, failing("structure"))
    assert found.suspects[0].module == "stage1.block1.depthwise1"
    assert "shifted by" in (found.suspects[0].cause or "")


def test_a_fault_in_a_package(healthy: Callable[[str, str], Artifact], model: ReferenceModel, tmp_path: Path) -> None:
    """The gate's sigmoid is taken out: what reads it gets what it read."""

    def spoil(path: Path) -> None:
        package = load_model(path)
        function = package.mlProgram.functions["main"]
        block = function.block_specializations[function.opset]
        sigmoid = next(operation for operation in block.operations if operation.type == "sigmoid")
        for operation in block.operations:
            for argument in operation.inputs.values():
                for binding in argument.arguments:
                    if binding.name == sigmoid.outputs[0].name:
                        binding.name = sigmoid.inputs["x"].arguments[0].name
        block.operations.remove(sigmoid)
        write_model(path, package)

    artifact = spoiled(healthy("coreml", "fp16"), tmp_path, spoil)
    found = blame_artifact(artifact, model, failing("structure"))
    assert found.suspects[0].module == "stage2.downsample.merge.gate", found
    assert found.suspects[0].layer is not None
    assert found.suspects[0].layer.kind == "mul"


def test_a_range_that_saturates_is_named(
    healthy: Callable[[str, str], Artifact], model: ReferenceModel, tmp_path: Path
) -> None:
    def narrow(proto: onnx.ModelProto) -> None:
        relu = _node(proto, "stage2.block1.ffn1.branch", "Relu")
        quantizer = next(n for n in proto.graph.node if n.op_type == "QuantizeLinear" and n.input[0] == relu.output[0])
        (scale,) = (t for t in proto.graph.initializer if t.name == quantizer.input[1])
        value = numpy_helper.to_array(scale) / np.float32(20)
        scale.CopyFrom(numpy_helper.from_array(value, scale.name))

    artifact = healthy("tensorrt", "int8")
    typed = spoiled(replace(artifact, format=Format.ONNX), tmp_path, partial(_onnx, narrow))
    found = blame_artifact(typed, model, failing("ranges"))
    assert len(found.suspects) == 1
    assert found.suspects[0].module == "stage2.block1.ffn1.branch.relu"
    assert "saturates" in (found.suspects[0].cause or "")
    assert blame_ranges(replace(artifact, format=Format.ONNX), model).suspects == ()


def _rewritten(change: Callable[[EfficientViT], None]) -> Callable[[EfficientViT], EfficientViT]:
    @torch.no_grad()
    def faulty(form: EfficientViT) -> EfficientViT:
        change(form)
        return form

    return faulty


def unscaled(form: EfficientViT) -> None:
    attention = form.get_submodule(ATTENTION)
    assert isinstance(attention, StaticAttention)
    conv: Any = attention.q_depthwise[2]
    conv.weight *= 4
    conv.bias *= 4


def stale(form: EfficientViT) -> None:
    attention = form.get_submodule(ATTENTION)
    assert isinstance(attention, StaticAttention)
    attention.bias[1].zero_()


@pytest.mark.parametrize(
    ("change", "module", "says"),
    [
        (unscaled, f"{ATTENTION}.q_depthwise.2", "scaled by 4"),
        (stale, ATTENTION, None),
    ],
)
def test_a_fault_in_the_rewrites(
    change: Callable[[EfficientViT], None], module: str, says: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once in what is exported though every rewrite is right, once in a rewrite, which is then named."""
    faulty = _rewritten(change)
    weights = find_weights("seeded", "m0", square(SIZE))
    for rewrites, note in (
        (deploy.REWRITES, "the deploy form is not what the rewrites"),
        ((*deploy.REWRITES, faulty), "rewrite 'faulty' changes the logits"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(reference, "rewritten", lambda m: deploy.rewritten(m, (*deploy.REWRITES, faulty)))
            patch.setattr(deploy, "REWRITES", rewrites)
            found = blame_rewrite(ReferenceModel(weights.model, synthetic(Preprocessing(image_size=square(SIZE)))))
        assert note in (found.note or "")
        assert found.suspects[0].module == module
        assert says is None or says in (found.suspects[0].cause or "")


def test_exact_rewrites_are_not_blamed(model: ReferenceModel) -> None:
    for image_input in (False, True):
        assert blame_rewrite(model, image_input=image_input).suspects == ()


def test_of_an_interface_that_is_wrong_no_layer_is_blamed(
    healthy: Callable[[str, str], Artifact], model: ReferenceModel
) -> None:
    found = blame_artifact(healthy("onnx", "fp32"), model, failing("interface"))
    assert found.suspects == ()
    assert "no layer is at fault" in (found.note or "")


def test_a_batch_too_large_to_keep_is_said(healthy: Callable[[str, str], Artifact], model: ReferenceModel) -> None:
    found = blame_artifact(replace(healthy("onnx", "fp32"), batch=256), model, failing("structure"))
    assert "too large" in (found.note or "")


def test_an_execution_that_is_right_is_not_blamed(
    healthy: Callable[[str, str], Artifact], model: ReferenceModel
) -> None:
    found = blame_artifact(healthy("tensorrt", "int8"), model, failing("execution"))
    assert found.suspects == ()
    assert len(found.layers) > 150


def test_what_cannot_be_looked_into_is_said(model: ReferenceModel, tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"no ONNX file at all")
    artifact = Artifact.on_disk(path, Format.ONNX, model.trained.spec, made_by="trace")
    found = blame_artifact(artifact, model, failing("structure"))
    assert found == Blame((), note=found.note)
    assert "could not be looked at" in (found.note or "")


def test_the_formats_without_layers_are_refused(model: ReferenceModel, tmp_path: Path) -> None:
    artifact = Artifact.on_disk(Path(__file__), Format.TORCH, model.trained.spec, made_by="nobody")
    with pytest.raises(Exception, match="cannot be read"), open_layers(artifact, Mode.ORACLE):
        pass
    assert [name for name, row in BUILT_IN.items() if row.reader is None] == [Format.TORCH]
