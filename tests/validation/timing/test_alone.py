"""A file in a process of its own: what is measured is the file's, and a failure is told."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from efficientvit.errors import StageFailed
from efficientvit.size import square
from efficientvit.spec import model_spec
from runtimes.artifact import Artifact, Format
from runtimes.openvino.package import import_openvino
from validation.timing import alone
from validation.timing.alone import run_alone

SIZE = 64
IMAGES = np.zeros((1, 3, SIZE, SIZE), np.float32)


def _onnx(path: Path, megabytes: int) -> Artifact:
    """image -> the mean over it, times so many megabytes of numbers, summed."""
    values = np.ones(megabytes * 250_000, np.float32)
    nodes = [
        helper.make_node("ReduceMean", ["image"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "w"], ["much"]),
        helper.make_node("ReduceSum", ["much"], ["logits"], keepdims=0),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, IMAGES.shape)
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [])
    graph = helper.make_graph(nodes, "g", [image], [logits], [numpy_helper.from_array(values, "w")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return Artifact.on_disk(path, Format.ONNX, model_spec("m0", square(SIZE)), made_by="test", batch=1)


def _ir(path: Path, source: Artifact) -> Artifact:
    openvino = import_openvino()
    openvino.save_model(openvino.convert_model(source.path), path, compress_to_fp16=False)
    return Artifact.on_disk(path, Format.OPENVINO, source.model, made_by="test", batch=1)


@pytest.mark.parametrize("form", ["onnx", "ir"])
def test_memory_is_the_files_and_not_the_processs(form: str, tmp_path: Path) -> None:
    """What this process has resident, PyTorch among it, counts for nothing; 40 MB of constants do."""
    found = []
    for megabytes in (1, 40):
        made = _onnx(tmp_path / f"{megabytes}.onnx", megabytes)
        ran = run_alone(_ir(tmp_path / f"{megabytes}.xml", made) if form == "ir" else made, IMAGES)
        assert ran is not None
        assert min(ran.load_ns, ran.first_ns, *ran.steady_ns) > 0
        assert len(ran.steady_ns) >= 10
        found.append(ran.memory_bytes)
    assert found[0] < 60e6
    assert found[1] - found[0] > 30e6


def test_a_process_that_fails_says_why(tmp_path: Path) -> None:
    artifact = _onnx(tmp_path / "broken.onnx", 1)
    artifact.path.write_bytes(b"no model")
    with pytest.raises(StageFailed, match=r"broken\.onnx could not be run in a process of its own") as raised:
        run_alone(artifact, IMAGES)
    assert "ONNX Runtime refuses" in str(raised.value)


def test_a_process_that_does_not_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alone, "LIMIT_S", 0.05)
    with pytest.raises(StageFailed, match="process of its own") as raised:
        run_alone(_onnx(tmp_path / "x.onnx", 1), IMAGES)
    assert "it did not end within 0.05 s" in str(raised.value)


def test_what_has_no_such_runtime_is_none(tmp_path: Path) -> None:
    artifact = _onnx(tmp_path / "x.onnx", 1)
    package = Artifact.on_disk(artifact.path, Format.COREML, artifact.model, made_by="test", batch=1)
    assert run_alone(package, IMAGES) is None
