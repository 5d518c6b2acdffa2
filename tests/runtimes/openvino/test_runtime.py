import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from efficientvit.errors import BadInput, MissingExtra, StageFailed
from efficientvit.installation import install_command
from runtimes.artifact import Artifact, Format
from runtimes.host import packages
from runtimes.host.machine import this_host, version
from runtimes.openvino.package import import_openvino
from runtimes.openvino.runtime import OpenVino
from runtimes.precision import Dtype, Precision
from runtimes.runtime import Array, Evidence, Mode, Runtime

pytest.importorskip("openvino")

RUNTIME: Runtime = OpenVino()
TWO = min(2, this_host().usable_cpus)


def error_of(logits: Array, expected: Array) -> float:
    return float((np.linalg.norm(logits - expected, axis=1) / np.linalg.norm(expected, axis=1)).max())


@pytest.fixture(scope="module")
def openvino() -> Any:
    return import_openvino()


@pytest.fixture(scope="module")
def capabilities(openvino: Any) -> list[str]:
    return list(openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))


def test_it_is_the_real_runtime_and_available() -> None:
    assert (RUNTIME.name, RUNTIME.evidence) == ("openvino", Evidence.NATIVE)
    assert RUNTIME.unavailable() is None


@pytest.mark.parametrize("mode", [Mode.ORACLE, Mode.SHIPPED])
@pytest.mark.parametrize("batch", [1, 3])
def test_the_logits_are_pytorchs(
    ir_any_batch: Artifact, images: Array, expected: Array, mode: Mode, batch: int
) -> None:
    with RUNTIME.open(ir_any_batch, mode) as session:
        logits = session(images[:batch])["logits"]
    assert logits.shape == (batch, 10)
    assert logits.dtype == np.float32
    assert error_of(logits, expected[:batch]) <= 1e-5


def test_one_session_takes_several_batch_sizes(ir_any_batch: Artifact, images: Array, expected: Array) -> None:
    order = [3, 0, 4, 1, 2]
    with RUNTIME.open(ir_any_batch) as session:
        first = session(images[:3])["logits"]
        assert error_of(session(images[order])["logits"], expected[order]) <= 1e-5
        assert error_of(session(images[:1])["logits"], expected[:1]) <= 1e-5
    # The logits are the caller's: a later run, and the session's end, leave them alone.
    assert error_of(first, expected[:3]) <= 1e-5


def test_a_file_of_batch_1_takes_batches_of_1_alone(ir_batch_1: Artifact, images: Array, expected: Array) -> None:
    with RUNTIME.open(ir_batch_1) as session:
        assert error_of(session(images[:1])["logits"], expected[:1]) <= 1e-5
        with pytest.raises(BadInput) as caught:
            session(images[:3])
    assert caught.value.expected == "float32 (1, 3, 64, 64)"


@pytest.mark.parametrize("mode", [Mode.ORACLE, Mode.SHIPPED])
@pytest.mark.parametrize("threads", [1, TWO])
def test_float32_and_the_threads_are_attested(ir_batch_1: Artifact, mode: Mode, threads: int) -> None:
    with RUNTIME.open(ir_batch_1, mode, threads) as session:
        attestation = session.attestation
    assert attestation.version == version("openvino")
    assert attestation.precision is Dtype.FP32
    assert attestation.threads == threads
    assert attestation.settings["INFERENCE_PRECISION_HINT"] == "f32"
    assert attestation.settings["EXECUTION_MODE_HINT"] == "ACCURACY"
    assert attestation.settings["EXECUTION_DEVICES"] == "CPU"
    kernels = attestation.settings["primitiveType"].split(", ")
    assert kernels
    assert all(kernel.endswith("_f32") for kernel in kernels)


def test_the_shipped_settings_are_those_attested(ir_batch_1: Artifact) -> None:
    with RUNTIME.open(ir_batch_1) as session:
        settings = session.attestation.settings
    shipped = RUNTIME.shipped_settings(ir_batch_1)
    assert shipped["INFERENCE_PRECISION_HINT"] == "f32"
    assert {name: settings[name] for name in shipped} == dict(shipped)


def test_the_defaults_are_attested_as_they_are_on_this_cpu(
    ir_batch_1: Artifact, images: Array, expected: Array, capabilities: list[str]
) -> None:
    with RUNTIME.open(ir_batch_1, Mode.DEFAULTS, threads=1) as session:
        attestation, error = session.attestation, error_of(session(images[:1])["logits"], expected[:1])
    assert attestation.settings["EXECUTION_MODE_HINT"] == "PERFORMANCE"
    assert attestation.threads >= 1
    if "BF16" in capabilities:
        assert attestation.precision is Dtype.BF16
        assert attestation.settings["INFERENCE_PRECISION_HINT"] == "bf16"
        assert error > 1e-4
    else:
        assert attestation.settings["INFERENCE_PRECISION_HINT"] in ("f32", "f16")
        assert (attestation.precision is Dtype.FP32) == (error <= 1e-5)


def test_a_precision_that_ships_is_asked_for_and_what_is_got_is_attested(
    ir_batch_1: Artifact, capabilities: list[str]
) -> None:
    artifact = replace(ir_batch_1, precision=Precision(execution=Dtype.BF16))
    shipped = RUNTIME.shipped_settings(artifact)
    assert shipped["INFERENCE_PRECISION_HINT"] == "bf16"
    assert "EXECUTION_MODE_HINT" not in shipped
    with RUNTIME.open(artifact) as session:
        assert session.attestation.precision is (Dtype.BF16 if "BF16" in capabilities else Dtype.FP32)
    with RUNTIME.open(artifact, Mode.ORACLE) as session:
        assert session.attestation.precision is Dtype.FP32


def test_accuracy_mode_alone_keeps_float32(ir_batch_1: Artifact, openvino: Any) -> None:
    compiled = openvino.Core().compile_model(str(ir_batch_1.path), "CPU", {"EXECUTION_MODE_HINT": "ACCURACY"})
    executed = {layer.get_rt_info()["runtimePrecision"].astype(str) for layer in compiled.get_runtime_model().get_ops()}
    assert executed <= {"f32", "i32", "i64"}


def test_an_ir_cannot_carry_its_own_precision(ir_batch_1: Artifact, openvino: Any, tmp_path: Path) -> None:
    """Should this ever fail, write the precision into the IR: then the runtime's defaults are safe too."""
    core = openvino.Core()
    plain = core.compile_model(str(ir_batch_1.path), "CPU")
    carried = core.read_model(str(ir_batch_1.path))
    for name, value in (
        ("INFERENCE_PRECISION_HINT", "dynamic"),
        ("EXECUTION_MODE_HINT", "ACCURACY"),
        ("KV_CACHE_PRECISION", "f16"),
    ):
        carried.set_rt_info(value, ["runtime_options", name])
    openvino.save_model(carried, tmp_path / "carried.xml", compress_to_fp16=False)
    compiled = core.compile_model(str(tmp_path / "carried.xml"), "CPU")
    for name in ("INFERENCE_PRECISION_HINT", "EXECUTION_MODE_HINT"):
        assert compiled.get_property(name) == plain.get_property(name)
    # It is not that runtime options are never read:
    assert compiled.get_property("KV_CACHE_PRECISION").to_string() == "f16"


def cut_xml(xml: Path) -> None:
    xml.write_text(xml.read_text()[:20_000])


def empty_xml(xml: Path) -> None:
    xml.write_bytes(b"")


def cut_bin(xml: Path) -> None:
    weights = xml.with_suffix(".bin")
    weights.write_bytes(weights.read_bytes()[:1000])


def foreign_operation(xml: Path) -> None:
    xml.write_text(xml.read_text().replace('type="Convolution"', 'type="Konvolution"'))


@pytest.mark.parametrize("spoil", [cut_xml, empty_xml, cut_bin, foreign_operation])
def test_a_corrupt_file_is_refused_in_the_runtimes_words(
    ir_batch_1: Artifact, tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    path = tmp_path / "bad.xml"
    for file in ir_batch_1.files():
        path.with_suffix(file.suffix).write_bytes(file.read_bytes())
    spoil(path)
    artifact = Artifact.on_disk(path, Format.OPENVINO, ir_batch_1.model, made_by="test")
    with pytest.raises(StageFailed, match=r"OpenVINO refuses bad\.xml") as caught, RUNTIME.open(artifact):
        pass
    assert caught.value.got
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_a_session_is_closed_after_its_block(ir_batch_1: Artifact, images: Array) -> None:
    with RUNTIME.open(ir_batch_1) as session:
        pass
    with pytest.raises(Exception, match="session is closed"):
        session(images[:1])


def test_a_missing_package_is_answered_with_its_extra(ir_batch_1: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "find_spec", lambda name: None)
    assert (RUNTIME.unavailable() or "").endswith(f"not installed: {install_command('openvino')}")
    with pytest.raises(MissingExtra, match=r"\[openvino\]"), RUNTIME.open(ir_batch_1):
        pass


TELEMETRY = """
from runtimes.openvino.package import import_openvino
import sys
openvino = import_openvino()
from openvino.tools.ovc import telemetry_utils
print(telemetry_utils.tm.__name__, "openvino_telemetry" in sys.modules)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="the reporter keeps its files elsewhere")
def test_no_telemetry_is_loaded_or_written(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "TF_BUILD", "JENKINS_URL")}
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", TELEMETRY],
        cwd=Path(__file__).parents[3],
        env={**environment, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split() == ["openvino.tools.ovc.telemetry_stub", "False"]
    assert list(tmp_path.iterdir()) == []


def test_what_was_known_of_the_reporter_stays_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino_telemetry", sys)
    import_openvino()
    assert sys.modules["openvino_telemetry"] is sys
