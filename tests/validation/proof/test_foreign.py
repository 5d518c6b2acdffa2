"""Files of other exporters are proven to be the checkpoint's; wrong ones are told, and their operator is named."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper

from efficientvit.deploy.rewrites import to_deploy
from efficientvit.model import EfficientViT
from efficientvit.size import square
from efficientvit.spec import model_spec
from efficientvit.weights.seeded import seeded
from runtimes.external import open_foreign
from runtimes.openvino.package import import_openvino
from tests.validation.proof.wrong_onnx import CHANGES, Change, changed
from validation.proof.foreign import ForeignProof, prove_foreign
from validation.proof.outcome import Outcome


@pytest.fixture(scope="module")
def model() -> EfficientViT:
    return seeded(model_spec("m0", square(64)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("foreign")


def _traced(model: EfficientViT, path: Path, **options: Any) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model, (torch.zeros(2, 3, 64, 64),), path, dynamo=False, input_names=["images"], output_names=["logits"],
            dynamic_axes={"images": {0: "batch"}, "logits": {0: "batch"}}, **options,
        )  # fmt: skip
    return path


@pytest.fixture(scope="module")
def traced(model: EfficientViT, folder: Path) -> Path:
    """By PyTorch's older exporter, which folds BatchNorms into convolutions."""
    return _traced(model, folder / "traced.onnx")


def _unfolded(model: EfficientViT, traced: Path, out: Path) -> Path:
    return _traced(model, out / "unfolded.onnx", do_constant_folding=False,
                   training=torch.onnx.TrainingMode.PRESERVE)  # fmt: skip


def _optimized(model: EfficientViT, traced: Path, out: Path) -> Path:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(out / "optimized.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(traced), options, providers=["CPUExecutionProvider"])
    return out / "optimized.onnx"


def _converted(model: EfficientViT, traced: Path, out: Path) -> Path:
    """With its weights in float16, as OpenVINO saves them by default."""
    openvino = import_openvino()
    openvino.save_model(openvino.convert_model(str(traced)), out / "converted.xml")
    return out / "converted.xml"


def _deployed(model: EfficientViT, traced: Path, out: Path) -> Path:
    """The deploy form, as this project exports it."""
    return _traced(to_deploy(model), out / "deployed.onnx")


def _probabilities(model: EfficientViT, traced: Path, out: Path) -> Path:
    file = onnx.load(traced)
    file.graph.node[-1].output[0] = "scores"
    file.graph.node.append(onnx.helper.make_node("Softmax", ["scores"], ["logits"], axis=1))
    onnx.save(file, out / "probabilities.onnx")
    return out / "probabilities.onnx"


MAKERS: dict[str, Callable[[EfficientViT, Path, Path], Path]] = {
    "traced": lambda _, traced, __: traced,
    "BatchNorms unfolded": _unfolded,
    "optimized by ONNX Runtime": _optimized,
    "converted by OpenVINO": _converted,
    "with probabilities": _probabilities,
    "of the deploy form": _deployed,
}


def proven(path: Path, model: EfficientViT, *, probabilities: bool = False) -> ForeignProof:
    return prove_foreign(open_foreign(path, "m0", 1000), model, probabilities=probabilities)


@pytest.mark.parametrize("kind", MAKERS)
def test_what_other_tools_make_is_proven(kind: str, model: EfficientViT, traced: Path, tmp_path: Path) -> None:
    path = MAKERS[kind](model, traced, tmp_path)
    found = proven(path, model, probabilities=kind == "with probabilities")
    assert found.proof.outcome is Outcome.PROVEN, found
    assert not found.refused


@pytest.mark.parametrize("form", ["traced", "of the deploy form"])
def test_the_bias_of_a_head_of_few_classes_was_rounded_as_well(form: str, tmp_path: Path) -> None:
    model = seeded(model_spec("m0", square(64), 2))
    path = _traced(model if form == "traced" else to_deploy(model), tmp_path / "two.onnx")

    def found() -> ForeignProof:
        return prove_foreign(open_foreign(path, "m0", 2), model, probabilities=False)

    assert found().proof.outcome is Outcome.PROVEN
    file = onnx.load(path)
    (bias,) = (each for each in file.graph.initializer if list(each.dims) == [2])
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) * np.float32(1.001), bias.name))
    onnx.save(file, path)
    assert found().refused


# Of these two `judge` says before that their scores have another shape than they declare, or that they cannot be run.
@pytest.mark.parametrize("name", sorted(CHANGES.keys() - {"every nth value, n times", "images in pairs"}))
def test_what_no_image_shows_is_refused(name: str, model: EfficientViT, traced: Path, tmp_path: Path) -> None:
    change: Change = CHANGES[name]
    onnx.save(changed(onnx.load(traced), change), tmp_path / "wrong.onnx")
    found = proven(tmp_path / "wrong.onnx", model)
    assert found.refused, found
    assert change.named in found.proof.detail or "'planted" in found.proof.detail


# Channels are axis 1; the half of them that comes first is put behind the other, twice: they are as they were.
MOVED = Change(
    [onnx.helper.make_node("Split", ["x"], ["a", "b"], axis=1, num_outputs=2),
     onnx.helper.make_node("Concat", ["b", "a"], ["turned"], axis=1),
     onnx.helper.make_node("Split", ["turned"], ["c", "d"], axis=1, num_outputs=2),
     onnx.helper.make_node("Concat", ["d", "c"], ["back"], axis=1), onnx.helper.make_node("Relu", ["back"], ["y"])],
    {}, "", at="Relu",
)  # fmt: skip


def test_what_rounds_nothing_is_no_detour(model: EfficientViT, traced: Path, tmp_path: Path) -> None:
    """Taken apart and put together again, and through a second ReLU."""
    onnx.save(changed(onnx.load(traced), MOVED), tmp_path / "moved.onnx")
    found = proven(tmp_path / "moved.onnx", model)
    assert found.proof.outcome is Outcome.PROVEN, found


def test_a_weight_that_is_off_by_more_than_rounding(model: EfficientViT, traced: Path, tmp_path: Path) -> None:
    """It can't be traced, and that is what is said: no proof, and no reproach."""
    file = onnx.load(traced)
    tensor = next(each for each in file.graph.initializer if len(each.dims) == 4 and each.dims[2] == 3)
    value = numpy_helper.to_array(tensor).copy()
    value[0, 0, 1, 1] *= np.float32(1.001)
    tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    onnx.save(file, tmp_path / "off.onnx")
    found = proven(tmp_path / "off.onnx", model)
    assert (found.proof.outcome, found.refused) == (Outcome.SAMPLED, False)
    assert tensor.name in found.proof.detail


@pytest.mark.parametrize("read", [False, True], ids=["read by nothing", "read on the way to nothing"])
def test_a_constant_that_explains_nothing_excuses_nothing(
    read: bool, model: EfficientViT, traced: Path, tmp_path: Path
) -> None:
    """A file that is wrong stays wrong with a constant of nobody's beside it."""
    change: Change = CHANGES["a trigger far away"]
    file = changed(onnx.load(traced), change)
    junk = numpy_helper.from_array(np.linspace(1, 2, 1000, dtype=np.float32), "junk")
    file.graph.initializer.append(junk)
    if read:
        file.graph.node.append(onnx.helper.make_node("Add", [file.graph.output[0].name, "junk"], ["unread"]))
    onnx.save(file, tmp_path / "wrong.onnx")
    found = proven(tmp_path / "wrong.onnx", model)
    assert found.refused, found
    assert change.named in found.proof.detail


def test_float16_may_round_once(model: EfficientViT, traced: Path, tmp_path: Path) -> None:
    """To the nearest number; the one after the next is not the checkpoint's."""
    half = onnx.load(traced)
    tensor = next(each for each in half.graph.initializer if len(each.dims) == 2)
    for off, outcome in ((0, Outcome.PROVEN), (2, Outcome.SAMPLED)):
        file = onnx.ModelProto()
        file.CopyFrom(half)
        (held,) = (each for each in file.graph.initializer if each.name == tensor.name)
        value = numpy_helper.to_array(tensor).astype(np.float16)
        for _ in range(off):
            value[0, 0] = np.nextafter(value[0, 0], np.float16(9))
        held.CopyFrom(numpy_helper.from_array(value, f"{tensor.name}_half"))
        cast = onnx.helper.make_node("Cast", [held.name], [tensor.name], to=onnx.TensorProto.FLOAT)
        file.graph.node.insert(0, cast)
        onnx.save(file, tmp_path / "half.onnx")
        assert proven(tmp_path / "half.onnx", model).proof.outcome is outcome


def test_another_checkpoint_is_not_proven(traced: Path) -> None:
    assert proven(traced, seeded(model_spec("m0", square(64)), 1)).proof.outcome is not Outcome.PROVEN


def _number(value: float) -> Any:
    openvino = import_openvino()
    return openvino.opset13.constant(np.array(value, np.float32))


def _behind_its_name(op: Any, scores: Any) -> Any:
    """The tensor keeps the port's name, and the port reads another."""
    return op.add(scores, op.floor(op.multiply(op.abs(scores), _number(1e-9))))


def _by_rounding(op: Any, scores: Any) -> Any:
    """In float64 the choice is the scores as they are; OpenVINO folds it to the other."""
    right = op.equal(op.subtract(op.add(_number(1e8), _number(1)), _number(1e8)), _number(1))
    return op.select(right, scores, op.clamp(scores, -1e3, 1e3))


def _nearly_one(op: Any, scores: Any) -> Any:
    """A factor that is 1 in float64, and 0.2 % less in float32."""
    one = 1 + 2**-9
    factor = op.divide(op.subtract(op.add(_number(2**16), _number(one)), _number(2**16)), _number(one))
    return op.multiply(scores, factor)


def _out_of_range(op: Any, scores: Any) -> Any:
    """What 300 is as a byte, everyone decides for himself."""
    right = op.equal(op.convert(op.convert(_number(300), "u8"), "f32"), _number(44))
    return op.select(right, scores, op.clamp(scores, -1e3, 1e3))


def _counting(op: Any, scores: Any) -> Any:
    """From the five thousandth run on they are others."""
    openvino = import_openvino()
    start = op.constant(np.zeros((1, 1), np.float32))
    runs = op.read_value(start, "runs", openvino.Type.f32, openvino.PartialShape([1, 1]))
    return op.add(scores, op.relu(op.subtract(op.add(runs, _number(1)), _number(5000)))), op.assign(
        op.add(runs, _number(1)), "runs"
    )


@pytest.mark.parametrize(("plant", "said"), [
    (None, ""), (_behind_its_name, "Abs"), (_by_rounding, "Subtract"),
    (_nearly_one, "Subtract"), (_out_of_range, "Convert"), (_counting, "ReadValue"),
], ids=lambda value: getattr(value, "__name__", ""))  # fmt: skip
def test_what_only_an_ir_can_hide(
    plant: Callable[[Any, Any], Any] | None, said: str, model: EfficientViT, traced: Path, tmp_path: Path
) -> None:
    openvino = import_openvino()
    file = openvino.convert_model(str(traced))
    if plant is not None:
        (result,) = file.get_results()
        scores = result.input_value(0)
        scores.get_node().set_friendly_name("logits")
        planted = plant(openvino.opset13, scores)
        new, sinks = planted if isinstance(planted, tuple) else (planted, None)
        result.input(0).replace_source_output(new.output(0))
        file = openvino.Model([result], [sinks] if sinks else [], file.get_parameters(), "planted")
    openvino.save_model(file, tmp_path / "file.xml", compress_to_fp16=False)
    found = proven(tmp_path / "file.xml", model)
    assert found.refused == (plant is not None), found
    assert (found.proof.outcome is Outcome.PROVEN) == (plant is None)
    assert said in found.proof.detail
