import platform
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from efficientvit.errors import BadInput, StageFailed, Unavailable
from efficientvit.spec import ModelSpec
from runtimes.artifact import Artifact, Format
from runtimes.host import packages
from runtimes.host.machine import this_host
from runtimes.onnx.runtime import OnnxRuntime
from runtimes.precision import Dtype
from runtimes.runtime import Array, Evidence, Mode, Runtime

RUNTIME: Runtime = OnnxRuntime()
SPINNING = "session.intra_op.allow_spinning"


def error_of(logits: Array, expected: Array) -> float:
    return float((np.linalg.norm(logits - expected, axis=1) / np.linalg.norm(expected, axis=1)).max())


def saved(path: Path, spec: ModelSpec, *nodes: onnx.NodeProto, dtype: int = TensorProto.FLOAT,
          **constants: np.ndarray) -> Artifact:  # fmt: skip
    """A graph from `images` (batch, 3, 8, 8) to `logits`, whose shape no checker has seen."""
    graph = helper.make_graph(
        list(nodes),
        "test",
        [helper.make_tensor_value_info("images", dtype, ["batch", 3, 8, 8])],
        [helper.make_tensor_value_info("logits", dtype, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return Artifact.on_disk(path, Format.ONNX, spec, made_by="test", batch=None)


def test_it_is_the_real_runtime_and_available() -> None:
    assert (RUNTIME.name, RUNTIME.evidence) == ("onnxruntime", Evidence.NATIVE)
    assert RUNTIME.unavailable() is None


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("batch", [1, 3])
def test_the_logits_are_pytorchs(
    onnx_any_batch: Artifact, images: Array, expected: Array, mode: Mode, batch: int
) -> None:
    with RUNTIME.open(onnx_any_batch, mode) as session:
        logits = session(images[:batch])["logits"]
    assert logits.shape == (batch, 10)
    assert logits.dtype == np.float32
    assert error_of(logits, expected[:batch]) <= 1e-5


def test_every_image_of_a_batch_keeps_its_own_logits(onnx_any_batch: Artifact, images: Array, expected: Array) -> None:
    order = [3, 0, 4, 1, 2]
    with RUNTIME.open(onnx_any_batch) as session:
        assert error_of(session(images[order])["logits"], expected[order]) <= 1e-5


def test_a_file_of_batch_1_takes_batches_of_1_alone(onnx_batch_1: Artifact, images: Array, expected: Array) -> None:
    with RUNTIME.open(onnx_batch_1) as session:
        assert error_of(session(images[:1])["logits"], expected[:1]) <= 1e-5
        with pytest.raises(BadInput) as caught:
            session(images[:3])
    assert caught.value.expected == "float32 (1, 3, 64, 64)"


@pytest.mark.parametrize(
    ("mode", "level", "spinning"),
    [
        (Mode.ORACLE, "ORT_DISABLE_ALL", "0"),
        (Mode.SHIPPED, "ORT_ENABLE_ALL", "0"),
        (Mode.DEFAULTS, "ORT_ENABLE_ALL", "default"),
    ],
)
def test_the_settings_are_read_back(onnx_batch_1: Artifact, mode: Mode, level: str, spinning: str) -> None:
    with RUNTIME.open(onnx_batch_1, mode, threads=2) as session:
        attestation = session.attestation
    assert attestation.version == onnxruntime.__version__
    assert attestation.precision is Dtype.FP32
    assert attestation.threads == (0 if mode is Mode.DEFAULTS else 2)
    assert attestation.isa == this_host().isa
    assert attestation.settings["graph_optimization_level"] == level
    assert attestation.settings["execution_mode"] == "ORT_SEQUENTIAL"
    assert attestation.settings["providers"] == "CPUExecutionProvider"
    assert attestation.settings[SPINNING] == spinning


def test_the_shipped_settings_are_those_attested(onnx_batch_1: Artifact) -> None:
    with RUNTIME.open(onnx_batch_1) as session:
        settings = session.attestation.settings
    shipped = RUNTIME.shipped_settings(onnx_batch_1)
    assert {name: settings[name] for name in shipped} == {name: str(value) for name, value in shipped.items()}


def test_threads_are_one_unless_said(onnx_batch_1: Artifact) -> None:
    with RUNTIME.open(onnx_batch_1) as session:
        assert session.attestation.threads == 1


def test_a_float16_file_runs_in_the_hosts_arithmetic(tmp_path: Path, spec: ModelSpec) -> None:
    artifact = saved(
        tmp_path / "half.onnx",
        spec,
        helper.make_node("Mul", ["images", "two"], ["doubled"]),
        helper.make_node("ReduceMean", ["doubled"], ["logits"], axes=[2, 3], keepdims=0),
        dtype=TensorProto.FLOAT16,
        two=np.array(2, np.float16),
    )
    with RUNTIME.open(artifact, Mode.ORACLE) as session:
        logits = session(np.full((2, 3, 8, 8), 1.5, np.float32))["logits"]
    assert logits.tolist() == [[3, 3, 3]] * 2
    assert logits.dtype == np.float32
    on_arm = platform.machine() in ("arm64", "aarch64")
    assert session.attestation.precision is (Dtype.FP16 if on_arm else Dtype.FP32)
    assert session.attestation.settings["initializers"] == "1 FLOAT16"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: b"",
        lambda data: b"not a model" * 100,
        lambda data: data[: len(data) // 2],
        lambda data: data.replace(b"Conv", b"Gonv"),
    ],
    ids=["empty", "foreign", "truncated", "unknown operator"],
)
def test_a_corrupt_file_is_refused_in_the_runtimes_words(
    onnx_batch_1: Artifact, tmp_path: Path, spoil: object, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bad.onnx"
    assert callable(spoil)
    path.write_bytes(spoil(onnx_batch_1.path.read_bytes()))
    artifact = Artifact.on_disk(path, Format.ONNX, onnx_batch_1.model, made_by="test")
    with (
        pytest.raises(StageFailed, match=r"ONNX Runtime refuses bad\.onnx") as caught,
        RUNTIME.open(artifact),
    ):
        pass
    assert caught.value.got is not None
    assert caught.value.got.startswith("[ONNXRuntimeError]")
    assert caught.value.__cause__ is not None
    assert capfd.readouterr() == ("", "")


def test_a_batch_baked_into_the_graph_fails_as_a_stage(
    tmp_path: Path, spec: ModelSpec, capfd: pytest.CaptureFixture[str]
) -> None:
    artifact = saved(
        tmp_path / "baked.onnx",
        spec,
        helper.make_node("Reshape", ["images", "shape"], ["logits"]),
        shape=np.array([1, 192]),
    )
    with RUNTIME.open(artifact) as session:
        assert session(np.zeros((1, 3, 8, 8), np.float32))["logits"].shape == (1, 192)
        with pytest.raises(StageFailed, match=r"baked\.onnx on images \(3, 3, 8, 8\)"):
            session(np.zeros((3, 3, 8, 8), np.float32))
    assert capfd.readouterr() == ("", "")


def test_a_graph_that_takes_no_floats_is_no_model_of_images(tmp_path: Path, spec: ModelSpec) -> None:
    artifact = saved(
        tmp_path / "int.onnx",
        spec,
        helper.make_node("Identity", ["images"], ["logits"]),
        dtype=TensorProto.INT32,
    )
    with pytest.raises(StageFailed, match="not a model of images"), RUNTIME.open(artifact):
        pass


def test_a_session_is_closed_after_its_block(onnx_batch_1: Artifact, images: Array) -> None:
    with RUNTIME.open(onnx_batch_1) as session:
        pass
    with pytest.raises(Exception, match="session is closed"):
        session(images[:1])


def test_a_missing_package_is_answered_with_the_remedy(onnx_batch_1: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "find_spec", lambda name: None)
    assert (RUNTIME.unavailable() or "").endswith("not installed: pip install vit-export")
    with pytest.raises(Unavailable, match="'onnxruntime'"), RUNTIME.open(onnx_batch_1):
        pass
