"""The models to compare with: made, judged by the same gates, and set beside ours."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from efficientvit.size import square
from export.bench import run
from export.bench.baselines import BASELINES, STOCK, Baseline, baselines, prepared
from export.bench.claims import CLAIMS, Claim, Compared, compared, not_compared, papers_size, unmeasured
from export.bench.entries import Entries
from export.bench.request import BenchRequest
from export.targets.onnx.mixed_precision import can_fall_back, fall_back
from runtimes.artifact import digest
from runtimes.host.machine import this_host
from runtimes.onnx.qdq import layers
from runtimes.onnx.runtime import OnnxRuntime
from tests.integer_cpu import needs_exact_int8
from tests.references import with_logits
from tests.silent import Silent
from validation.external.other_models import judge_baseline
from validation.judge import within_quality
from validation.verdict import Rejected, Verdict, VerifiedArtifact

NAME = "mobilenetv3_large_100"
SMALL = "mobilenetv3_small_050"
"""Of the same family and the same operations, to be made and judged in a quarter of the time."""


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BASELINES, SMALL, square(96))
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Baseline]:
    exact = () if not this_host().saturates_int8 else ("fp32",)  # where int8 would be rejected, and takes long to be
    found = baselines(SMALL, 1, ("onnx",), tmp_path_factory.mktemp("baselines"), lambda _: None, exact)
    return {each.precision: each for each in found}


@needs_exact_int8
def test_each_passes_by_the_gates_that_need_no_deploy_form(made: dict[str, Baseline]) -> None:
    assert set(made) == {STOCK, "fp32", "int8"}
    gates = {}
    for precision, each in made.items():
        assert isinstance(each.verdict, VerifiedArtifact), (precision, each.verdict)
        gates[precision] = {gate.gate for gate in each.verdict.report.gates}
    assert gates["fp32"] == {"operators", "structure", "precision"}
    assert gates["int8"] == {"operators", "ranges", "execution", "quality"}


@needs_exact_int8
def test_int8_for_openvino_is_made_by_the_same_stages_and_gates(tmp_path: Path) -> None:
    """It may cost more than its budget: hard-swishes are skewed, and this form has no zero points."""
    found = baselines(SMALL, 1, ("openvino",), tmp_path, lambda _: None)
    assert [each.precision for each in found] == ["fp32", "bf16", "int8"]
    report = found[-1].verdict.report
    assert report is not None
    assert {gate.gate for gate in report.gates} == {"operators", "ranges", "execution", "quality"}
    assert [gate.gate for gate in report.gates if not gate.passed] in ([], ["quality"])
    assert report.attestation is not None
    assert report.attestation.settings["kernels in floats"] == "none"


def test_a_spoiled_one_is_rejected(made: dict[str, Baseline], tmp_path: Path) -> None:
    """One weight tensor off by a thousandth."""
    verdict = made["fp32"].verdict
    assert isinstance(verdict, VerifiedArtifact)
    path = verdict.artifact.copied_to(tmp_path)
    model = onnx.load(path)
    weight = next(tensor for tensor in model.graph.initializer if len(tensor.dims) == 4 and tensor.dims[0] > 100)
    value = numpy_helper.to_array(weight) * np.float32(1.001)
    weight.CopyFrom(numpy_helper.from_array(value, weight.name))
    onnx.save(model, path)
    reference = prepared(SMALL).at(verdict.artifact.precision)
    spoiled = replace(verdict.artifact, path=path, sha256=digest(path))
    assert isinstance(judge_baseline(spoiled, reference, OnnxRuntime()), Rejected)


@needs_exact_int8
def test_int8_that_costs_a_little_too_much_leaves_layers_in_float32(made: dict[str, Baseline], tmp_path: Path) -> None:
    """The same effort as for EfficientViT, under a budget that is a twentieth less than what int8 costs here."""
    artifact, runtime = made["int8"].verdict.artifact, OnnxRuntime()
    (cost,) = [gate.worst for gate in made["int8"].verdict.report.gates if gate.gate == "quality"]  # type: ignore[union-attr]
    model = prepared(SMALL)
    reference = with_logits(model.at(artifact.precision), quality_budget=0.95 * cost)
    rejected = judge_baseline(artifact, reference, runtime)
    assert can_fall_back(rejected)
    steps: list[str] = []

    def fallen_back(known: tuple[str, ...] | None) -> Verdict:
        steps.clear()
        return fall_back(
            rejected,
            made["fp32"].verdict.artifact,
            model.golden.images,
            tmp_path / "float_layers" / artifact.path.name,
            holds=[partial(within_quality, reference=reference, runtime=runtime)],
            judged=partial(judge_baseline, reference=reference, runtime=runtime),
            step=steps.append,
            known=known,
        )

    verdict = fallen_back(None)
    assert isinstance(verdict, VerifiedArtifact)
    left = verdict.artifact.precision.float_layers
    assert 0 < len(left) <= len(layers(onnx.load(verdict.artifact.path))) // 2
    (warning,) = [gate.warning for gate in verdict.report.gates if gate.warning]
    assert all(name in warning for name in left)

    again = fallen_back(tuple(left))  # as for another batch: tried at once
    assert isinstance(again, VerifiedArtifact)
    assert again.artifact.sha256 == verdict.artifact.sha256
    assert steps == [f"trying it with {len(left)} of {len(layers(onnx.load(artifact.path)))} layers in float32"]
    in_vain = fallen_back(())
    assert isinstance(in_vain, Rejected)
    assert steps == []
    assert in_vain.artifact.notes[-1].endswith("as another batch showed")


def _row(model: str, precision: str, ms: float, target: str = "onnx", batch: int = 16, noisy: bool = False) -> Any:
    timing = SimpleNamespace(median_ms=ms, noisy=noisy)
    return SimpleNamespace(
        model=model,
        precision=precision,
        target=target,
        batch=batch,
        threads=1,
        timing=timing,
        image_size=papers_size(model),
    )


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


@pytest.mark.parametrize(
    ("paper", "ratio", "verdict"),
    [
        (7.4, 8.0, "holds here"),
        (7.4, 6.7, "holds here"),  # within a tenth
        (7.4, 6.6, "does not hold here: faster, by less"),
        (1.452, 0.9, "does not hold here: slower, not faster"),
        (0.885, 0.88, "holds here"),
        (0.885, 0.8, "holds here"),
        (0.885, 0.54, "does not hold here: slower by more"),
        (0.885, 1.2, "does not hold here: faster, not slower"),
        (None, 1.2, ""),
    ],
)
def test_a_claim_holds_where_the_advantage_is_as_large(paper: float | None, ratio: float, verdict: str) -> None:
    claim = Claim("m5", NAME, "onnx", STOCK, STOCK, paper)
    found = Compared(claim, _row("m5", STOCK, 100.0), _row(NAME, STOCK, 100.0 * ratio))
    assert found.verdict == verdict
    assert found.holds == (None if paper is None else verdict == "holds here")


def test_a_verdict_from_noisy_timings_says_so() -> None:
    claim = Claim("m5", NAME, "onnx", STOCK, STOCK, 0.885)
    found = Compared(claim, _row("m5", STOCK, 100.0, noisy=True), _row(NAME, STOCK, 54.0))
    assert found.noisy
    assert found.verdict == "does not hold here: slower by more; noisy: measure again"


def test_images_of_another_size_are_not_what_a_claim_is_about() -> None:
    """MobileViT's are 256 pixels in the paper, too."""
    m2, mobilevit = _row("m2", STOCK, 10.0), _row("mobilevit_xxs", STOCK, 100.0)
    same = (m2, mobilevit)
    assert [each.ratio for each in compared(SimpleNamespace(rows=same))] == [10.0] * 3  # type: ignore[arg-type]
    assert list(not_compared(same)) == []
    m2.image_size = square(64)
    assert list(compared(SimpleNamespace(rows=same))) == []  # type: ignore[arg-type]
    assert list(unmeasured(SimpleNamespace(rows=same))) == []  # type: ignore[arg-type]
    (why,) = not_compared(same)
    assert "m2 takes images of 64 pixels, the paper's figures are for 224" in why


def test_a_benchmark_says_why_no_claim_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    m2, mobilevit = _row("m2", STOCK, 10.0), _row("mobilevit_xxs", STOCK, 100.0)
    m2.image_size = square(256)
    monkeypatch.setattr(run, "entries", lambda *_: Entries())
    monkeypatch.setattr(run, "_measured", lambda *_: ((m2, mobilevit), {}))
    found = run.bench(BenchRequest(("m2",), paper=True), Silent())
    assert [note for note in found.notes if "none of its claims is compared" in note] == list(found.notes)
    assert len(found.notes) == 1


def test_a_claim_whose_one_side_did_not_pass_is_named() -> None:
    rows = (
        _row("m5", STOCK, 100.0),
        _row("m5", "eager", 200.0, "pytorch"),
        _row("efficientnet_b0", "eager", 400.0, "pytorch"),
    )
    missing = list(unmeasured(SimpleNamespace(rows=rows)))  # type: ignore[arg-type]
    assert [(claim.target, claim.paper) for claim in missing] == [("onnx", 2.1)]
