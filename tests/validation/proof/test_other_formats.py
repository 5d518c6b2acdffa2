"""What no image shows is told in the other formats too: in IRs, in what TensorRT parsed, in Core ML packages."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest

from efficientvit.deploy.rewrites import tokens_before_channels
from efficientvit.errors import BrokenArtifact
from export.targets.coreml.convert import capture_for_coreml, to_coreml
from export.targets.onnx.simplify import simplify
from export.targets.onnx.trace import capture, trace
from export.targets.openvino.convert import to_openvino
from runtimes.artifact import Artifact, Format, Interface
from runtimes.coreml.mlpackage import load_program
from runtimes.openvino.package import import_openvino
from runtimes.precision import Precision
from tests.validation.proof.opened_package import opened
from tests.validation.proof.wrong_onnx import CHANGES, changed
from validation.proof.identity import prove
from validation.proof.outcome import Outcome
from validation.reference.model import ReferenceModel

FP32 = Precision()


@pytest.fixture(scope="module")
def dynamic(model_reference: ReferenceModel, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    deploy, folder = tokens_before_channels(model_reference.deploy), tmp_path_factory.mktemp("formats")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = trace(capture(deploy, None), deploy, folder / "traced.onnx", batch=None, opset=18)
    return simplify(traced, folder / "model.onnx")


def other(dynamic: Artifact, name: str, tmp_path: Path) -> Artifact:
    onnx.save(changed(onnx.load(dynamic.path), CHANGES[name]), tmp_path / "other.onnx")
    return replace(dynamic, path=tmp_path / "other.onnx")


@pytest.mark.parametrize(("name", "operator"), [
    ("negated for two images", "planted/Where"), ("the number of images as a value", "planted.f"),
    ("a constant for each image, added up", "ONNXTRT_ShapeElementWise_output"), ("a clipped ReLU", "planted"),
    ("once in a thousand runs", "planted/RandomUniform"), ("a branch", "IfCondition"),
    ("a factor of 1 + 2^-23", "logits"), ("padded with 2^-149", "planted.wide"),
    ("rounded to integers in two ways", "planted.little"), ("no number beyond float16", "planted.h"),
    ("a kernel that cancels", "planted.left"), ("images in pairs", "planted.p"),
])  # fmt: skip
def test_in_what_tensorrt_parsed(
    name: str, operator: str, dynamic: Artifact, model_reference: ReferenceModel, tmp_path: Path
) -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is made for Linux and Windows")
    network = replace(other(dynamic, name, tmp_path), format=Format.NETWORK)
    proof = prove(network, model_reference.at(FP32).constants)
    assert proof.outcome is not Outcome.PROVEN
    assert operator in proof.detail


@pytest.mark.parametrize(("name", "operator"), [
    ("negated from nine images on", "planted/Less"), ("the ninth image on negated", "planted/Slice"),
    ("a table by the number of images", "planted/Gather"), ("noise", "RandomUniform"),
    ("a trigger far away", "planted/Greater"), ("a leaky ReLU", "planted/LeakyRelu"),
    ("no number above 88", "planted/Exp"), ("rounded to integers in two ways", "planted/Mul"),
    ("no number beyond float16, by another's type", "planted/CastLike"),
    ("a mean over the batch", "planted/ReduceMean"),
])  # fmt: skip
def test_in_an_ir(name: str, operator: str, dynamic: Artifact, model_reference: ReferenceModel, tmp_path: Path) -> None:
    made = to_openvino(other(dynamic, name, tmp_path), tmp_path / "model.xml", FP32)
    proof = prove(made, model_reference.at(FP32).constants)
    assert proof.outcome is not Outcome.PROVEN
    assert operator in proof.detail


@pytest.fixture(scope="module")
def package(model_reference: ReferenceModel, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """Of one image, as a tensor."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return to_coreml(
            capture_for_coreml(model_reference.deploy, 1, labeled=False), model_reference.deploy.spec,
            tmp_path_factory.mktemp("coreml") / "model.mlpackage", batch=1, activations=FP32.activations,
            interface=Interface(), preprocessing=model_reference.given.preprocessing, ios=16, made_by="coreml",
        )  # fmt: skip


def _value(name: str, value: float) -> Any:
    """An argument's constant in the program."""
    from coremltools.proto import MIL_pb2

    argument = MIL_pb2.Argument.Binding()
    argument.value.type.tensorType.dataType = MIL_pb2.FLOAT32
    argument.value.immediateValue.tensor.floats.values.append(value)
    return argument


def _inserted(block: Any, kind: str, after: Any, **constants: float) -> None:
    """An operation of what `after` gives, in the place of it."""
    from coremltools.proto import MIL_pb2

    new, name = MIL_pb2.Operation(type=kind), after.outputs[0].name
    for reader in block.operations:
        for argument in reader.inputs.values():
            for binding in argument.arguments:
                if binding.name == name:
                    binding.name = "planted"
    new.inputs["x"].arguments.add(name=name)
    for key, value in constants.items():
        new.inputs[key].arguments.append(_value(key, value))
    new.outputs.add(name="planted", type=after.outputs[0].type)
    block.operations.insert(list(block.operations).index(after) + 1, new)


def clipped(block: Any, relu: Any) -> None:
    _inserted(block, "clip", relu, alpha=0.0, beta=1e6)


def nearly_one(block: Any, relu: Any) -> None:
    _inserted(block, "mul", relu, y=1 + 2**-20)


def leaky(block: Any, relu: Any) -> None:
    relu.type = "leaky_relu"
    relu.inputs["alpha"].arguments.append(_value("alpha", 1e-9))


def thresholded(block: Any, relu: Any) -> None:
    relu.type = "thresholded_relu"
    relu.inputs["alpha"].arguments.append(_value("alpha", 1e-9))


def vanishing(block: Any, relu: Any) -> None:
    _inserted(block, "add", relu, y=2.0**-126)


def six(block: Any, relu: Any) -> None:
    relu.type = "relu6"


def of_the_batch(block: Any, relu: Any) -> None:
    _inserted(block, "random_bernoulli", relu, prob=1e-9)


def unheard_of(block: Any, relu: Any) -> None:
    relu.attributes["alpha"].CopyFrom(_value("alpha", 1.0).value)


@pytest.mark.parametrize(("change", "said"), [
    (clipped, "clip 'planted'"), (nearly_one, "mul 'planted'"), (leaky, "leaky_relu"), (vanishing, "add 'planted'"),
    (thresholded, "thresholded_relu"), (six, "relu6"), (of_the_batch, "random_bernoulli"),
    (unheard_of, "relu has the attribute alpha"), (None, ""),
], ids=lambda value: getattr(value, "__name__", ""))  # fmt: skip
def test_in_a_package(
    change: Callable[[Any, Any], None] | None,
    said: str,
    package: Artifact,
    model_reference: ReferenceModel,
    tmp_path: Path,
) -> None:
    path = tmp_path / "other.mlpackage"
    with opened(package.path, path) as block:
        relu = next(operation for operation in block.operations if operation.type == "relu")
        if change is not None:
            change(block, relu)
    proof = prove(replace(package, path=path), model_reference.at(FP32).constants)
    assert (proof.outcome is Outcome.PROVEN) == (change is None), proof
    assert said in proof.detail


def test_a_name_in_a_package_that_is_defined_twice(package: Artifact, tmp_path: Path) -> None:
    """One of a constant is that which the reader gives to the constant of an operation: each would be the other."""
    path = tmp_path / "other.mlpackage"
    with opened(package.path, path) as block:
        constant = next(operation for operation in block.operations if operation.type == "const")
        relu = next(operation for operation in block.operations if operation.type == "relu")
        _inserted(block, "mul", relu, y=1.0)
        constant.outputs[0].name = "planted.y.0"
    with pytest.raises(BrokenArtifact, match="interpreted"):
        load_program(path)


@pytest.mark.parametrize("narrow", ["f16", "bf16"])
def test_a_constant_in_an_ir_that_is_rounded_where_it_is_read(
    narrow: str, dynamic: Artifact, model_reference: ReferenceModel, tmp_path: Path
) -> None:
    """Stored it is the model's, bit for bit; exact arithmetic does not see what a conversion rounds."""
    openvino = import_openvino()
    made = to_openvino(dynamic, tmp_path / "model.xml", FP32)
    file = openvino.Core().read_model(made.path)
    constant = next(each for each in file.get_ops() if each.get_friendly_name().endswith("proj.weight")
                    or each.get_friendly_name().endswith("conv1.weight"))  # fmt: skip
    readers = list(constant.output(0).get_target_inputs())
    rounded = openvino.opset13.convert(openvino.opset13.convert(constant, narrow), "f32")
    for reader in readers:
        reader.replace_source_output(rounded.output(0))
    openvino.save_model(file, tmp_path / "other.xml", compress_to_fp16=False)
    assert prove(made, model_reference.at(FP32).constants).outcome is Outcome.PROVEN
    proof = prove(replace(made, path=tmp_path / "other.xml"), model_reference.at(FP32).constants)
    assert proof.outcome is Outcome.DIFFERENT
    assert f"rounds a constant to {'bf16' if narrow == 'bf16' else 'fp16'}" in proof.detail
