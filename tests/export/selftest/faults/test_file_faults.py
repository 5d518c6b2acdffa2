"""Faults planted in the file that a stage made. Each must be rejected, with exit 1, at the stage that has it.

A fault is data (where it is planted, which gate is expected to see it) and a function that spoils the file.
Magnitudes and places are drawn at random from a seed that the test's name shows.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from efficientvit.errors import ArtifactChanged
from export.cli import main as cli
from export.exits import Exit
from export.selftest.faults.fault import FileFault
from export.selftest.faults.onnx.graph import last_bit, zeroed_bias
from export.selftest.faults.onnx.table import FAULTS
from export.selftest.faults.openvino.ir import FAULTS as IR_FAULTS
from export.selftest.faults.openvino.quantized import exchanged_ranges
from runtimes.onnx.runtime import OnnxRuntime
from runtimes.runtime import Evidence
from validation.timing.latency import TimingPlan, benchmark
from validation.verdict import Rejected, VerifiedArtifact

SIZE = 128  # as conftest.py exports it

Rng = np.random.Generator
Plant = Callable[[onnx.ModelProto, Rng], None]


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_planted_in_onnx(fault: FileFault, seed: int, run: Callable[..., Any]) -> None:
    rng = np.random.default_rng([seed, FAULTS.index(fault)])

    outcome = run(fault.target, fault.variant, fault.stage, lambda path: fault.plant(path, rng))
    assert isinstance(outcome.final, Rejected)
    assert outcome.stages[-1].name == fault.stage
    assert outcome.code(Evidence.REFERENCE) is Exit.REJECTED
    assert fault.gate in {gate.gate for gate in outcome.final.report.gates if not gate.passed}
    assert outcome.folder is not None
    assert outcome.folder.name.endswith(".rejected")
    assert not (outcome.folder / "ship").exists()


@pytest.mark.parametrize("fault", IR_FAULTS, ids=str)
def test_planted_in_openvino(fault: FileFault, run: Callable[..., Any]) -> None:
    rng = np.random.default_rng(3)
    outcome = run("openvino", fault.variant, "openvino", lambda path: fault.plant(path, rng))
    assert isinstance(outcome.final, Rejected)
    assert fault.gate in {gate.gate for gate in outcome.final.report.gates if not gate.passed}
    assert outcome.stages[-1].name == "openvino"
    assert outcome.code(Evidence.BUILT) is Exit.REJECTED


@pytest.mark.blames
def test_exchanged_ranges_are_blamed_on_the_modules_whose_tensors_they_are_of(run: Callable[..., Any]) -> None:
    """Only calibration knows them: the file that the IR was made of says what they were."""
    outcome = run("openvino", "int8", "openvino", lambda path: exchanged_ranges(path, np.random.default_rng(5)))
    suspects = outcome.blame.suspects
    assert len(suspects) == 2
    assert all(suspect.constant.endswith("_range") for suspect in suspects)
    assert all(suspect.module.startswith(("stem", "stage", "head")) for suspect in suspects)


def test_the_first_stage_with_the_fault_is_blamed(run: Callable[..., Any]) -> None:
    """A fault in the trace is not seen first in the IR that is made of it."""

    def plant(path: Path) -> None:
        model = onnx.load(path)
        zeroed_bias(model, np.random.default_rng(0))
        onnx.save(model, path)

    outcome = run("openvino", "fp32", "trace", plant)
    assert [stage.name for stage in outcome.stages] == ["trace"]


@pytest.mark.parametrize(
    ("target", "precision"), [("onnx", "fp32"), ("onnx", "fp16"), ("openvino", "fp16"), ("openvino", "int8")]
)
def test_the_healthy_chain_passes(target: str, precision: str, run: Callable[..., Any]) -> None:
    outcome = run(target, precision)
    assert outcome.code(Evidence.NATIVE) is Exit.OK


@pytest.mark.blames
def test_the_command_exits_with_1_and_names_the_layer(
    spoil: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def plant(path: Path) -> None:
        model = onnx.load(path)
        zeroed_bias(model, np.random.default_rng(0))
        onnx.save(model, path)

    spoil("onnx", "fp32", "simplify", plant)
    command = ["vit-export", "m0", "--image-size", str(SIZE), "-w", "seeded", "--no-time", "-o", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == Exit.REJECTED
    said = capsys.readouterr().err
    assert "constants" in said
    (folder,) = (tmp_path / "out").iterdir()
    assert folder.name == "m0-128-onnx-fp32-untrained.rejected"

    blamed = json.loads((folder / "manifest.json").read_text())["blame"]
    assert blamed["stage"] == "simplify"
    constant = blamed["suspects"][0]["constant"]
    assert constant.endswith("project.bias")
    assert blamed["suspects"][0]["cause"] == "is all zeros"
    assert f"1. {constant.removesuffix('.bias')}: constant '{constant}'" in said

    monkeypatch.setattr(sys, "argv", ["vit-export", "explain", str(folder), "--json"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == Exit.REJECTED
    explained = json.loads(capsys.readouterr().out)
    assert explained["blame"] == blamed
    assert not explained["gates"]["constants"]["passed"]
    assert len(explained["layers"]) > 400


def test_a_file_edited_after_its_verification_is_not_timed(run: Callable[..., Any]) -> None:
    outcome = run("onnx", "fp32")
    assert isinstance(outcome.final, VerifiedArtifact)
    shipped = outcome.folder / "ship" / outcome.final.artifact.path.name
    verified = VerifiedArtifact(replace(outcome.final.artifact, path=shipped), outcome.final.report)
    images = np.zeros((1, 3, SIZE, SIZE), np.float32)
    plan = TimingPlan(warm_up_s=0, measure_s=0, least_samples=1)
    assert len(benchmark(verified, OnnxRuntime(), plan, images).samples_ns) == 1
    model = onnx.load(shipped)
    last_bit(model, np.random.default_rng(0))
    onnx.save(model, shipped)
    with pytest.raises(ArtifactChanged):
        benchmark(verified, OnnxRuntime(), plan, images)
