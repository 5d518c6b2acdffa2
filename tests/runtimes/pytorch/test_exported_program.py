"""Saved PyTorch programs: eager is the module, compiled is told apart, and what is no program is refused."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from efficientvit.errors import BadInput, StageFailed
from efficientvit.model import EfficientViT
from efficientvit.spec import ModelSpec
from export.bench.torch_export import to_torch
from runtimes.artifact import Artifact, digest
from runtimes.precision import Dtype
from runtimes.pytorch.exported_program import TorchProgram, attest
from runtimes.runtime import Array, Evidence, Mode


@pytest.fixture(scope="module")
def program(module: EfficientViT, images: Array, folder: Path) -> Artifact:
    return to_torch(module, module.spec, len(images), folder / "m.pt2")


def test_eager_gives_the_modules_logits(program: Artifact, images: Array, expected: Array) -> None:
    runtime = TorchProgram()
    assert runtime.evidence is Evidence.NATIVE
    assert runtime.unavailable() is None
    before = torch.get_num_threads()
    with runtime.open(program, threads=before + 1) as session:
        assert np.allclose(session(images)["logits"], expected, atol=1e-5)
        assert session.attestation.runtime == "torch"
        assert session.attestation.precision is Dtype.FP32
        assert session.attestation.threads == before + 1
    assert torch.get_num_threads() == before


def test_another_batch_than_it_was_saved_for_is_refused(program: Artifact, images: Array) -> None:
    with TorchProgram().open(program) as session, pytest.raises(BadInput, match="don't fit"):
        session(images[:1])


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler on this machine")
@pytest.mark.filterwarnings("ignore")  # of inductor's own
def test_compiled_attests_itself_and_its_oracle_is_eager(
    module: EfficientViT, spec: ModelSpec, images: Array, tmp_path: Path
) -> None:
    """Of the stem and a last layer alone: compiling takes as long as there are operators."""
    features = module.stem(torch.from_numpy(images)).flatten(1).shape[1]
    small = nn.Sequential(module.stem, nn.Flatten(), nn.Linear(features, spec.classes)).eval()
    program = to_torch(small, spec, len(images), tmp_path / "small.pt2")
    with torch.inference_mode():
        expected = small(torch.from_numpy(images)).numpy()
    runtime = TorchProgram(compiled=True)
    with runtime.open(program) as session:
        assert np.allclose(session(images)["logits"], expected, atol=1e-5)
        assert session.attestation.runtime == "torch.compile"
        assert session.attestation.settings["backend"] == "inductor"
        assert session.attestation.settings["freezing"] == "True"
        assert session.attestation.settings["cpp_wrapper"] == "True"
    with runtime.open(program, Mode.ORACLE) as session:
        assert session.attestation.runtime == "torch"


def test_without_a_compiler_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    reason = TorchProgram(compiled=True).unavailable()
    assert reason is not None
    assert "no 'no-such-compiler'" in reason
    assert TorchProgram().unavailable() is None


def test_a_file_that_is_no_program_is_refused(program: Artifact, tmp_path: Path) -> None:
    broken = tmp_path / "broken.pt2"
    broken.write_bytes(program.path.read_bytes()[:1000])
    spoiled = replace(program, path=broken, sha256=digest(broken))
    with pytest.raises(StageFailed, match="broken"), TorchProgram().open(spoiled):
        pass


def test_float32_is_attested_with_the_settings_it_was_read_from() -> None:
    attestation = attest()
    assert attestation.runtime == "torch"
    assert attestation.version == torch.__version__.partition("+")[0]
    assert attestation.precision is Dtype.FP32
    assert attestation.settings["backends.cpu.get_cpu_capability"] == torch.backends.cpu.get_cpu_capability()
    assert attestation.settings["get_float32_matmul_precision"] == "highest"


def test_reduced_matrix_products_are_not_attested_as_float32() -> None:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        assert attest().precision is Dtype.BF16
    finally:
        torch.set_float32_matmul_precision(before)
    assert attest().precision is Dtype.FP32
