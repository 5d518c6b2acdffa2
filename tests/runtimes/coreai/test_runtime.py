"""Apple's runtime in a process of its own: what it attests, gives, refuses, and how it ends."""

import json
import math
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from efficientvit.errors import BadInput, StageFailed
from efficientvit.size import square
from efficientvit.spec import model_spec
from runtimes.artifact import Artifact, Format, Interface
from runtimes.coreai.aimodel import METADATA
from runtimes.coreai.process import Child, Ended
from runtimes.coreai.reader import CUSTOM, LABELS, CoreAiReader
from runtimes.coreai.runtime import CoreAi
from runtimes.interface import labels_digest
from runtimes.precision import Dtype
from runtimes.runtime import Evidence, Mode
from tests.coreai_assets import needs_coreai, saved, tiny

pytestmark = needs_coreai

SPEC = model_spec("m0", square(64), 2)
PLAIN = Interface()
IMAGES = (np.arange(48, dtype=np.float32).reshape(1, 3, 4, 4) / 48).astype(np.float32)


def _artifact(path: Path, interface: Interface = PLAIN) -> Artifact:
    return Artifact.on_disk(path, Format.COREAI, SPEC, made_by="coreai", interface=interface)


@pytest.fixture(scope="module")
def asset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny(tmp_path_factory.mktemp("assets") / "tiny.aimodel")


@pytest.fixture
def classifier(tmp_path: Path) -> Path:
    path = saved(
        'coreai.graph @main(%x: tensor<1x2xf32> {coreai.name = "image"}) -> (tensor<1x2xf32> {coreai.name = "logits"}, '
        'tensor<1x2xf32> {coreai.name = "probabilities"}) {\n'
        "%axis = coreai.constant dense<1> : tensor<si32>\n%y = coreai.relu %x : (tensor<1x2xf32>) -> tensor<1x2xf32>\n"
        '%z = "coreai.softmax"(%y, %axis) : (tensor<1x2xf32>, tensor<si32>) -> tensor<1x2xf32>\n'
        "coreai.output %y, %z : tensor<1x2xf32>, tensor<1x2xf32> }",
        tmp_path / "classifier.aimodel",
    )
    metadata = json.loads((path / METADATA).read_text())
    (path / METADATA).write_text(json.dumps({**metadata, CUSTOM: {LABELS: ["cat", "dog"]}}))
    return path


def test_it_is_the_vendors_and_stands_between_an_evaluator_and_the_device() -> None:
    assert CoreAi().evidence is Evidence.VENDOR
    assert Evidence.NATIVE.at_least(Evidence.VENDOR)
    assert not Evidence.VENDOR.at_least(Evidence.NATIVE)
    assert Evidence.VENDOR.at_least(Evidence.REFERENCE)
    assert not Evidence.REFERENCE.at_least(Evidence.VENDOR)


@pytest.mark.parametrize("mode", list(Mode))
def test_every_mode_gives_what_the_convolution_is(asset: Path, mode: Mode) -> None:
    expected = [np.dot(np.arange(48), IMAGES.reshape(-1)) + 0.5, np.dot(np.arange(48, 96), IMAGES.reshape(-1)) - 1]
    with CoreAi().open(_artifact(asset), mode) as session:
        for _ in range(2):
            assert np.allclose(session(IMAGES)["logits"], [expected], rtol=1e-6)
        if mode is Mode.ORACLE:
            assert session.peaks["logits"] == pytest.approx(max(expected), rel=1e-6)


def test_it_says_how_it_runs(asset: Path) -> None:
    with CoreAi().open(_artifact(asset)) as session:
        attested = session.attestation
    assert (attested.runtime, attested.precision, attested.threads) == ("coreai", Dtype.FP32, 0)
    assert attested.settings["compute_units"] == "cpu"
    with CoreAi().open(_artifact(asset), Mode.ORACLE) as session:
        assert session.attestation.runtime == "evaluator"


def test_images_of_another_shape_are_refused(asset: Path) -> None:
    with CoreAi().open(_artifact(asset)) as session, pytest.raises(BadInput, match=r"float32 \(1, 3, 4, 4\)"):
        session(IMAGES[:, :, :3])


def test_the_labels_are_the_files_own(classifier: Path) -> None:
    artifact = _artifact(classifier, Interface(labels=("cat", "dog"), dictionary=False))
    _, (logits, probabilities) = CoreAiReader().ports(artifact)
    assert (logits.labels_sha256, probabilities.labels_sha256) == ("", labels_digest(["cat", "dog"]))
    with CoreAi().open(artifact) as session:
        label, shares = session.classify(np.array([[1, 3]], np.float32))
    assert label == "dog"
    assert shares == {"cat": pytest.approx(1 / (1 + math.exp(2))), "dog": pytest.approx(1 / (1 + math.exp(-2)))}
    _label(classifier, ["cat"])
    with CoreAi().open(artifact) as session, pytest.raises(StageFailed, match="1 labels for 2 probabilities"):
        session.classify(np.array([[1, 3]], np.float32))


def _label(asset: Path, labels: list[str]) -> None:
    metadata = json.loads((asset / METADATA).read_text())
    (asset / METADATA).write_text(json.dumps({**metadata, CUSTOM: {LABELS: labels}}))


def test_products_of_matrices_are_added_up_in_float16_and_sums_are_not(tmp_path: Path) -> None:
    """Why validation/devices/units.py gives this runtime twice the budget that rounding alone would need."""
    row, column, one = "tensor<1x4096xf16>", "tensor<4096x1xf16>", "tensor<1x1xf16>"
    path = saved(
        f'coreai.graph @main(%x: {row} {{coreai.name = "image"}}) -> ({one} {{coreai.name = "product"}}, '
        f'{one} {{coreai.name = "sum"}}) {{\n'
        f"%ones = coreai.constant dense<1.0> : {column}\n%axis = coreai.constant dense<1> : tensor<1xsi32>\n"
        f'%y = "coreai.batch_matmul"(%x, %ones) : ({row}, {column}) -> {one}\n'
        f'%z = "coreai.reduce_sum"(%x, %axis) : ({row}, tensor<1xsi32>) -> {one}\n'
        f"coreai.output %y, %z : {one}, {one} }}",
        tmp_path / "ones.aimodel",
    )
    with Child("run", path) as child:
        child.message()
        found = child.ask("image", np.ones((1, 4096), np.float16))
    assert (found["product"].item(), found["sum"].item()) == (2048, 4096)


def test_a_process_that_dies_is_a_failure_with_its_code(asset: Path) -> None:
    with Child("run", asset) as child:
        child.message()
        os.kill(child._process.pid, signal.SIGKILL)
        with pytest.raises(Ended, match="ended with code -9"):
            child.ask("image", IMAGES)


def test_what_the_runtime_refuses_is_told(asset: Path) -> None:
    with Child("run", asset) as child:
        child.message()
        with pytest.raises(Ended):
            child.ask("picture", IMAGES)


def test_no_process_outlives_its_session(asset: Path) -> None:
    with Child("run", asset) as child:
        child.message()
        process = child._process
    assert process.returncode == 0
