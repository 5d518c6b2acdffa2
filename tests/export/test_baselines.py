"""The models to compare with: made, judged by the same gates, and set beside ours."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from efficientvit.preprocess import Preprocessing
from export.baselines import BASELINES, STOCK, Baseline, _seeded, baselines
from export.claims import CLAIMS, compared
from runtimes.artifact import digest
from runtimes.ort import OnnxRuntime
from validation.baseline import baseline_reference, judge_baseline
from validation.gates import Gate
from validation.golden_synthetic import synthetic
from validation.verdict import Rejected, VerifiedArtifact

NAME = "mobilenetv3_large_100"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Baseline]:
    found = baselines(NAME, 1, ("onnx",), tmp_path_factory.mktemp("baselines"), lambda _: None)
    return {each.precision: each for each in found}


def test_each_passes_by_the_gates_that_need_no_deploy_form(made: dict[str, Baseline]) -> None:
    assert set(made) == {STOCK, "fp32", "int8"}
    gates = {}
    for precision, each in made.items():
        assert isinstance(each.verdict, VerifiedArtifact), (precision, each.verdict)
        gates[precision] = {gate.gate for gate in each.verdict.report.gates}
    assert gates["fp32"] == {Gate.OPERATORS, Gate.STRUCTURE, Gate.PRECISION}
    assert gates["int8"] == {Gate.OPERATORS, Gate.RANGES, Gate.EXECUTION, Gate.QUALITY}


def test_int8_for_openvino_is_made_by_the_same_stages_and_gates(tmp_path: Path) -> None:
    """It may cost more than its budget: hard-swishes are skewed, and this form has no zero points."""
    found = baselines(NAME, 1, ("openvino",), tmp_path, lambda _: None)
    assert [each.precision for each in found] == ["fp32", "bf16", "int8"]
    report = found[-1].verdict.report
    assert report is not None
    assert {gate.gate for gate in report.gates} == {Gate.OPERATORS, Gate.RANGES, Gate.EXECUTION, Gate.QUALITY}
    assert [gate.gate for gate in report.gates if not gate.passed] in ([], [Gate.QUALITY])
    assert report.attestation is not None
    assert report.attestation.settings["kernels in floats"] == "none"


def test_a_spoilt_one_is_rejected(made: dict[str, Baseline], tmp_path: Path) -> None:
    """One weight tensor off by a thousandth."""
    verdict = made["fp32"].verdict
    assert isinstance(verdict, VerifiedArtifact)
    path = verdict.artifact.copied_to(tmp_path)
    model = onnx.load(path)
    weight = next(tensor for tensor in model.graph.initializer if len(tensor.dims) == 4 and tensor.dims[0] > 100)
    value = numpy_helper.to_array(weight) * np.float32(1.001)
    weight.CopyFrom(numpy_helper.from_array(value, weight.name))
    onnx.save(model, path)
    golden = synthetic(Preprocessing(image_size=BASELINES[NAME])).ordinary()
    reference = baseline_reference(_seeded(NAME, golden), golden, verdict.artifact.precision)
    spoilt = replace(verdict.artifact, path=path, sha256=digest(path))
    assert isinstance(judge_baseline(spoilt, reference, OnnxRuntime()), Rejected)


def _row(model: str, precision: str, ms: float, target: str = "onnx", batch: int = 16) -> Any:
    timing = SimpleNamespace(median_ms=ms)
    return SimpleNamespace(model=model, precision=precision, target=target, batch=batch, threads=1, timing=timing)


def test_claims_are_of_the_fastest_of_each_form() -> None:
    rows = (
        _row("m5", STOCK, 100.0),
        _row("m5", "fp32", 90.0),
        _row("m5", "int8", 40.0),
        _row("m5", "bf16", 30.0, "openvino"),
        _row(NAME, STOCK, 80.0),
        _row(NAME, "fp32", 70.0),
        _row("m2", "fp32", 20.0, batch=1),
    )
    found = list(compared(SimpleNamespace(rows=rows)))  # type: ignore[arg-type]
    assert [(each.claim.first_form, each.ratio) for each in found] == [
        (STOCK, 0.8),
        ("fp32", pytest.approx(70 / 90)),
        ("best verified", 1.75),
    ]
    assert found[0].claim.paper == 0.885
    assert {claim.second for claim in CLAIMS} <= set(BASELINES)
