"""Reports and what follows from them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from efficientvit.size import square
from efficientvit.spec import model_spec
from runtimes.artifact import Artifact, Format
from runtimes.precision import Dtype
from runtimes.runtime import Attestation, Evidence
from validation.gates.identity import unproven
from validation.gates.result import GateResult, KindError
from validation.golden_run import Outputs
from validation.inputs.golden_set import Kind
from validation.verdict import NotRun, Rejected, Report, VerifiedArtifact, unless_vacuous, verdict_of

NAN, INF = float("nan"), float("inf")


def _kind(worst: float, budget: float) -> KindError:
    return KindError(Kind.NOISE, worst, "noise-0", budget / 4, budget, 0, 1, 0)


def _report(artifact: Artifact, *gates: GateResult) -> Report:
    return Report(artifact.sha256, Evidence.NATIVE, Attestation("fake", "0", Dtype.FP32, 1, ""), gates, (1,), None)


@pytest.mark.parametrize(
    ("worst", "budget", "passed"),
    [(1, 1, True), (1.01, 1, False), (NAN, 1, False), (1, NAN, False), (INF, INF, False), (1, INF, False)],
)
def test_a_kind_passes_within_a_budget_that_is_a_number(worst: float, budget: float, passed: bool) -> None:
    kind = _kind(worst, budget)
    assert kind.passed is passed
    assert GateResult("precision", 0, 1, "", kinds=(_kind(0, 1), kind)).passed is passed


def test_the_reason_names_every_gate_that_failed(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"a model")
    artifact = Artifact.on_disk(path, Format.ONNX, model_spec("m0", square(64)), made_by="trace")
    good = GateResult("structure", 0, 1, "fine")
    bad = GateResult("constants", 1, 0, "1 wrong: a")
    worse = GateResult("precision", NAN, 1, "flat is off", kind=Kind.FLAT)
    verdict = verdict_of(artifact, _report(artifact, bad, good, worse))
    assert isinstance(verdict, Rejected)
    assert verdict.reason == "constants gate: 1 wrong: a; precision gate: flat is off"


def test_a_file_that_passed_without_a_program_is_said_to_be_unproven(tmp_path: Path) -> None:
    path = tmp_path / "model.ort"
    path.write_bytes(b"a model")
    artifact = Artifact.on_disk(path, Format.ONNX, model_spec("m0", square(64)), made_by="ort")
    passed, proven = GateResult("structure", 0, 1, "fine"), GateResult("identity", 0, 0, "proven")
    outputs = Outputs(1, {"logits": np.zeros((7, 10), np.float32)})
    said = "program not proven: no reader of this format's program; 7 images are all that was checked"
    report = replace(_report(artifact, passed), outputs=outputs)
    assert report.unproven == said
    assert replace(report, gates=(proven, passed)).unproven is None
    assert replace(report, gates=(GateResult("interface", 1, 0, "another input"),)).unproven is None
    gate: dict[str, Any] = {"passed": True}
    assert unproven({"identity": None, "structure": gate, "labels": None}, 7) == said
    assert unproven({"identity": gate, "structure": gate}, 7) is None
    assert unproven({"structure": gate}, 7) is None  # a manifest of before the gate
    assert unproven({"identity": None, "structure": {"passed": False}}, 7) is None
    assert unproven({"identity": None, "structure": None}, 7) is None


def test_no_gate_is_no_pass(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"a model")
    artifact = Artifact.on_disk(path, Format.ONNX, model_spec("m0", square(64)), made_by="trace")
    assert not _report(artifact).passed


@pytest.mark.parametrize(("warning", "kind"), [(None, VerifiedArtifact), ("not proven, sampled only", NotRun)])
def test_what_samples_would_not_show_counts_only_without_a_proof(
    warning: str | None, kind: type, tmp_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"a model")
    artifact = Artifact.on_disk(path, Format.ONNX, model_spec("m0", square(64)), made_by="trace")
    passed = verdict_of(artifact, _report(artifact, GateResult("identity", 0, 0, "", warning=warning)))
    assert isinstance(unless_vacuous(passed, (), ("one head could be lost",)), kind)
    assert isinstance(unless_vacuous(passed, ("float32 itself is off",), ()), NotRun)
