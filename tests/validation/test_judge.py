"""Judging with a scripted runtime: batches, shapes, defaults, absence."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from efficientvit.errors import ArtifactChanged, StageFailed
from efficientvit.size import square
from efficientvit.spec import model_spec
from runtimes.artifact import Artifact, Format
from runtimes.interface import Port, intended_ports
from runtimes.precision import Dtype, Precision
from runtimes.runtime import Array, Attestation, Evidence, Mode, Runtime
from tests.runtimes.fake import FakeRuntime, Script, constant, first_of_batch, missing_row, not_a_number, reversed_batch
from validation import trial
from validation.gates.result import GateResult
from validation.golden_run import run_golden
from validation.inputs.golden_set import Kind
from validation.judge import in_another_arithmetic, judge
from validation.reference.model import ReferenceModel
from validation.verdict import NotRun, Rejected, Report, VerifiedArtifact


def _judged(artifact: Artifact, reference: ReferenceModel, runtime: Runtime, **options: Any) -> object:
    return judge(artifact, reference.at(Precision()), runtime, **options)


def test_a_healthy_artifact_is_verified_at_every_batch(
    dynamic: Artifact, model_reference: ReferenceModel, healthy: Script
) -> None:
    runtime = FakeRuntime(healthy)
    verdict = _judged(dynamic, model_reference, runtime, defaults=True)
    assert isinstance(verdict, VerifiedArtifact)
    assert verdict.report.batches == (1, 3, 8)
    assert runtime.opened == [Mode.ORACLE, Mode.SHIPPED, Mode.DEFAULTS]


@pytest.mark.parametrize("wrap", [reversed_batch, first_of_batch, not_a_number])
def test_a_mixed_up_batch_is_rejected(
    wrap: Any, dynamic: Artifact, model_reference: ReferenceModel, healthy: Script
) -> None:
    verdict = _judged(dynamic, model_reference, FakeRuntime(wrap(healthy)))
    assert isinstance(verdict, Rejected)
    assert "precision gate" in verdict.reason


def test_the_sham_is_rejected(dynamic: Artifact, model_reference: ReferenceModel) -> None:
    best = model_reference.logits.mean(axis=0).astype(np.float32)
    assert isinstance(_judged(dynamic, model_reference, FakeRuntime(constant(best))), Rejected)


def test_defaults_are_reported_beside_the_verdict(
    dynamic: Artifact, model_reference: ReferenceModel, healthy: Script
) -> None:
    def coarse(images: Array) -> Array:
        return healthy(images).astype(np.float16).astype(np.float32)

    runtime = FakeRuntime({Mode.ORACLE: healthy, Mode.SHIPPED: healthy, Mode.DEFAULTS: coarse})
    verdict = _judged(dynamic, model_reference, runtime, defaults=True)
    assert isinstance(verdict, VerifiedArtifact)
    assert verdict.report.defaults is not None
    assert not verdict.report.defaults.gate.passed


def test_settings_that_ship_decide(dynamic: Artifact, model_reference: ReferenceModel, healthy: Script) -> None:
    def coarse(images: Array) -> Array:
        return healthy(images).astype(np.float16).astype(np.float32)

    runtime = FakeRuntime({Mode.ORACLE: healthy, Mode.SHIPPED: coarse, Mode.DEFAULTS: healthy})
    verdict = _judged(dynamic, model_reference, runtime)
    assert isinstance(verdict, Rejected)
    assert [gate.gate for gate in verdict.report.gates if not gate.passed] == ["precision"]


def test_a_runtime_that_is_not_here_is_no_verdict(dynamic: Artifact, model_reference: ReferenceModel) -> None:
    verdict = _judged(dynamic, model_reference, FakeRuntime({}, reason="it lives elsewhere"))
    assert isinstance(verdict, NotRun)
    assert verdict.reason == "it lives elsewhere"


def test_a_changed_file_is_refused(dynamic: Artifact, model_reference: ReferenceModel, healthy: Script) -> None:
    dynamic.path.write_bytes(b"something else")
    with pytest.raises(ArtifactChanged):
        _judged(dynamic, model_reference, FakeRuntime(healthy))


def test_another_interface_is_rejected_without_a_run(
    dynamic: Artifact, model_reference: ReferenceModel, healthy: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs, _ = intended_ports(dynamic.model, None)
    fewer = (Port("logits", "float32", ("batch", 999)),)
    monkeypatch.setattr(trial, "read_ports", lambda _: (inputs, fewer))
    verdict = _judged(dynamic, model_reference, FakeRuntime(healthy))
    assert isinstance(verdict, Rejected)
    assert verdict.reason.startswith("interface gate: outputs 'logits' float32 (batch, 999) in place of")
    assert [gate.gate for gate in verdict.report.gates] == ["interface"]


def test_a_row_too_few_is_a_failure(dynamic: Artifact, model_reference: ReferenceModel, healthy: Script) -> None:
    with pytest.raises(StageFailed, match="wrong shape"):
        _judged(dynamic, model_reference, FakeRuntime(missing_row(healthy)))


def test_a_class_too_few_is_a_failure(dynamic: Artifact, model_reference: ReferenceModel, healthy: Script) -> None:
    for runtime in (
        FakeRuntime(lambda images: healthy(images)[:, :-1]),
        FakeRuntime(lambda images: healthy(images)[0]),
    ):
        with pytest.raises(StageFailed, match="wrong shape"):
            _judged(dynamic, model_reference, runtime)


def test_batches_are_distinct_images_in_a_shuffled_order(dynamic: Artifact, model_reference: ReferenceModel) -> None:
    reference = model_reference.at(Precision())
    known = {image.tobytes(): row for row, image in enumerate(reference.golden.images)}
    seen: list[list[int]] = []

    def script(batch: Array) -> Array:
        seen.append([known[image.tobytes()] for image in batch])
        return np.tile(np.array(seen[-1], np.float32)[:, None], (1, reference.logits.shape[1]))

    with FakeRuntime(script).open(dynamic) as session:
        run = run_golden(session, reference, 3)
    assert run.fed.all()
    assert np.array_equal(run.outputs.logits[:, 0], np.arange(len(known)))
    assert all(len(set(batch)) == 3 for batch in seen)
    order = [image for batch in seen for image in batch]
    assert order != sorted(order)
    amplified = [row for row, kind in enumerate(reference.golden.kinds) if kind is Kind.AMPLIFIED]
    assert [bool(set(batch) & set(amplified)) for batch in seen] == [False] * (len(seen) - 1) + [True]


@pytest.mark.parametrize(
    ("computed", "worst", "another"),
    [(Dtype.FP32, 0.0, True), (None, 0.0, False), (Dtype.FP32, 1.0, False)],  # what fails anyhow is rejected
)
@pytest.mark.parametrize("asked", [Dtype.BF16, Dtype.INT8])
def test_arithmetic_that_was_not_computed_in_was_not_seen(
    asked: Dtype, computed: Dtype | None, worst: float, another: bool, tmp_path: Path
) -> None:
    computed = computed or asked
    path = tmp_path / "model.xml"
    path.write_bytes(b"a model")
    path.with_suffix(".bin").write_bytes(b"its weights")
    precision = Precision(execution=asked)
    artifact = Artifact.on_disk(
        path, Format.OPENVINO, model_spec("m0", square(64), 10), made_by="trace", precision=precision
    )
    gate = GateResult("constants", worst, 0.0, "")
    attestation = Attestation("openvino", "0", computed, 1, "none")
    report = Report(artifact.sha256, Evidence.NATIVE, attestation, (gate,), (1,), None)
    found = in_another_arithmetic(artifact, report)
    assert isinstance(found, NotRun) is another
    assert found is None or "computed in fp32" in found.reason
