import time
from pathlib import Path

import numpy as np
import pytest

from efficientvit.errors import BadInput, StageFailed
from efficientvit.spec import ModelSpec
from runtimes.artifact import Artifact, Format
from runtimes.precision import Dtype, Precision
from runtimes.runtime import Array, Evidence, Mode, Runtime
from tests.runtimes.fake import (
    FakeRuntime,
    Script,
    constant,
    failing,
    first_of_batch,
    missing_row,
    not_a_number,
    reversed_batch,
    shifted,
    slow,
)


def healthy(images: Array) -> Array:
    return np.asarray(images.mean((2, 3)))


@pytest.fixture
def artifact(spec: ModelSpec, tmp_path: Path) -> Artifact:
    return Artifact(tmp_path / "none.onnx", Format.ONNX, Precision(), spec, None, "0" * 64, 0, "test")


def answer(script: Script, artifact: Artifact, images: Array) -> Array:
    with FakeRuntime(script).open(artifact) as session:
        return session(images)["logits"]


def test_it_answers_as_scripted_without_a_file(artifact: Artifact, images: Array) -> None:
    assert np.array_equal(answer(healthy, artifact, images), healthy(images))


def test_it_is_a_runtime_of_whatever_evidence_is_asked(artifact: Artifact) -> None:
    runtime: Runtime = FakeRuntime(healthy, name="evaluator", evidence=Evidence.REFERENCE, reason="not today")
    assert (runtime.name, runtime.evidence, runtime.unavailable()) == ("evaluator", "reference", "not today")
    assert FakeRuntime(healthy).unavailable() is None
    assert runtime.shipped_settings(artifact) == {}


def test_modes_can_differ_and_are_kept(artifact: Artifact, images: Array) -> None:
    scripts = {mode: constant(np.full(3, i)) for i, mode in enumerate(Mode)}
    runtime = FakeRuntime(scripts, precision=Dtype.BF16)
    for i, mode in enumerate(Mode):
        with runtime.open(artifact, mode, threads=4) as session:
            assert session(images)["logits"][0, 0] == i
            assert session.attestation.threads == (0 if mode is Mode.DEFAULTS else 4)
            assert session.attestation.precision is Dtype.BF16
    assert runtime.opened == list(Mode)


def test_a_runtime_can_refuse_the_file(artifact: Artifact) -> None:
    refuses = FakeRuntime(healthy, refuses=StageFailed("broken"))
    with pytest.raises(StageFailed, match="broken"), refuses.open(artifact):
        pass
    assert refuses.opened == []


def test_images_are_checked_as_by_a_real_runtime(artifact: Artifact, images: Array) -> None:
    with pytest.raises(BadInput):
        answer(healthy, artifact, images[0])


def test_the_faults(artifact: Artifact, images: Array) -> None:
    right = healthy(images)

    spoiled = answer(not_a_number(healthy, 1), artifact, images)
    assert np.isnan(spoiled[0, 1])
    assert np.isnan(spoiled).sum() == 1

    assert np.array_equal(answer(reversed_batch(healthy), artifact, images), right[::-1])
    assert np.array_equal(answer(reversed_batch(healthy), artifact, images[:1]), right[:1])
    assert np.array_equal(answer(first_of_batch(healthy), artifact, images), np.repeat(right[:1], 5, axis=0))
    assert answer(missing_row(healthy), artifact, images).shape == (4, 3)
    assert np.array_equal(
        answer(constant(np.arange(7, dtype=np.float32)), artifact, images), np.tile(np.arange(7), (5, 1))
    )

    biased = answer(shifted(healthy, 0.5, 2), artifact, images)
    assert biased - right == pytest.approx(np.tile([0, 0, 0.5], (5, 1)))


def test_faults_are_planted_on_top_of_each_other(artifact: Artifact, images: Array) -> None:
    both = answer(missing_row(not_a_number(healthy)), artifact, images)
    assert both.shape == (4, 3)
    assert np.isnan(both[0, 0])


def test_the_healthy_models_own_logits_are_left_alone(artifact: Artifact, images: Array) -> None:
    kept = healthy(images)
    answer(not_a_number(lambda _: kept), artifact, images)
    answer(shifted(lambda _: kept, 1.0), artifact, images)
    assert np.array_equal(kept, healthy(images))


def test_a_slow_answer_takes_its_time(artifact: Artifact, images: Array) -> None:
    start = time.perf_counter()
    assert np.array_equal(answer(slow(healthy, 0.05), artifact, images), healthy(images))
    assert time.perf_counter() - start >= 0.05


def test_a_failing_answer_raises_what_was_scripted(artifact: Artifact, images: Array) -> None:
    with pytest.raises(StageFailed, match="as scripted"):
        answer(failing(), artifact, images)
    with pytest.raises(BadInput, match="odd"):
        answer(failing(BadInput("odd")), artifact, images)
