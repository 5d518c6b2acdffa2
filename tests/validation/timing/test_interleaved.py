"""Several artifacts timed in turns."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from efficientvit.errors import ArtifactChanged, VitExportError
from efficientvit.size import square
from efficientvit.spec import model_spec
from runtimes.artifact import Artifact, Format
from runtimes.precision import Dtype
from runtimes.runtime import Attestation, Evidence
from tests.runtimes.fake import FakeRuntime, constant, slow
from validation.gates.result import GateResult
from validation.timing.interleaved import Peer, in_turns
from validation.verdict import Report, VerifiedArtifact

ATTESTATION = Attestation("fake", "0", Dtype.FP32, 1, "none")
IMAGES = np.zeros((2, 3, 64, 64), np.float32)


def _contestant(folder: Path, name: str, **runtime: object) -> Peer:
    path = folder / f"{name}.onnx"
    path.write_bytes(name.encode())
    artifact = Artifact.on_disk(path, Format.ONNX, model_spec("m0", square(64), 10), made_by="trace", batch=None)
    passed = (GateResult("constants", 0, 0, ""),)
    report = Report(artifact.sha256, Evidence.NATIVE, ATTESTATION, passed, (1,), None)
    answer = constant(np.zeros(10, np.float32))
    fake = FakeRuntime(answer, **runtime)  # type: ignore[arg-type]
    return Peer(VerifiedArtifact(artifact, report), fake, IMAGES)


def test_each_has_samples_of_every_round(tmp_path: Path) -> None:
    entries = [_contestant(tmp_path, name) for name in ("one", "other")]
    said: list[str] = []
    timings = in_turns(entries, rounds=3, step=said.append)
    assert len(timings) == 2
    assert all(len(timing.samples_ns) >= 15 and timing.plan.batch == 2 for timing in timings)
    assert len(said) == 6
    assert said[0].endswith("1 of 2")


def test_of_long_runs_one_is_warm_up_enough(tmp_path: Path) -> None:
    quick = _contestant(tmp_path, "quick")
    slow_one = replace(quick, runtime=FakeRuntime(slow(constant(np.zeros(10, np.float32)), 0.07)))
    timings = in_turns([quick, slow_one], rounds=2)
    assert [timing.warm_up_runs for timing in timings] == [6, 2]
    assert len(timings[1].samples_ns) == 10


def test_a_file_that_changed_is_not_timed(tmp_path: Path) -> None:
    entry = _contestant(tmp_path, "one")
    entry.verified.artifact.path.write_bytes(b"another")
    with pytest.raises(ArtifactChanged):
        in_turns([entry], rounds=1)


def test_another_arithmetic_than_was_verified_is_not_timed(tmp_path: Path) -> None:
    with pytest.raises(VitExportError, match="not what was verified"):
        in_turns([_contestant(tmp_path, "one", precision=Dtype.BF16)], rounds=1)
