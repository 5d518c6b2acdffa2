"""Ports are read from the files, in every format alike."""

from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from efficientvit.errors import StageFailed
from efficientvit.spec import ModelSpec
from runtimes.artifact import Artifact, Format
from runtimes.interface import Port, intended_ports
from runtimes.openvino.package import import_openvino
from runtimes.registry import read_ports
from validation.gates.interface import interface_gate


def test_what_is_intended(spec: ModelSpec) -> None:
    inputs, outputs = intended_ports(spec, None)
    assert str(inputs[0]) == "'image' float32 (batch, 3, 64, 64)"
    assert outputs == (Port("logits", "float32", ("batch", 10)),)


@pytest.mark.parametrize(
    ("fixture", "batch"), [("onnx_batch_1", 1), ("onnx_any_batch", None), ("ir_batch_1", 1), ("ir_any_batch", None)]
)
def test_files_say_it_in_every_format(
    fixture: str, batch: int | None, spec: ModelSpec, request: pytest.FixtureRequest
) -> None:
    """These bear another name for the input than ours, and it is theirs that is read."""
    (image,), (logits,) = read_ports(request.getfixturevalue(fixture))
    (ours,), (other,) = intended_ports(spec, batch)
    assert image == replace(ours, name="images")
    assert logits == other


def test_a_port_of_an_ir_has_all_its_names(ir_batch_1: Artifact, spec: ModelSpec, tmp_path: Path) -> None:
    openvino = import_openvino()
    model = openvino.Core().read_model(ir_batch_1.path)
    model.outputs[0].get_tensor().set_names({"logits", "scores"})
    openvino.save_model(model, tmp_path / "called.xml", compress_to_fp16=False)
    called = Artifact.on_disk(tmp_path / "called.xml", Format.OPENVINO, spec, made_by="test")
    _, (logits,) = read_ports(called)
    assert str(logits) == "'logits' or 'scores' float32 (1, 10)"
    inputs, intended = intended_ports(spec, 1)
    result = interface_gate((inputs, (logits,)), (inputs, intended))
    assert not result.passed
    assert "'logits' or 'scores'" in result.detail


def test_another_type_is_read(onnx_batch_1: Artifact, spec: ModelSpec, tmp_path: Path) -> None:
    model = onnx.load(onnx_batch_1.path)
    model.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    path = tmp_path / "half.onnx"
    onnx.save(model, path)
    _, (logits,) = read_ports(Artifact.on_disk(path, Format.ONNX, spec, made_by="test"))
    assert logits.dtype == "float16"


def test_a_format_without_a_file_has_none(onnx_batch_1: Artifact) -> None:
    with pytest.raises(StageFailed, match="cannot be read"):
        read_ports(replace(onnx_batch_1, format=Format.TORCH))
