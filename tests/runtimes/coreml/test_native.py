import sys
import warnings
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from efficientvit.errors import BadInput, BrokenArtifact, MissingExtra, StageFailed, Unavailable
from efficientvit.installation import install_command
from efficientvit.spec import ModelSpec
from runtimes.artifact import Artifact, Format, Interface
from runtimes.coreml import native
from runtimes.coreml.native import CoreMl
from runtimes.host import packages
from runtimes.precision import Dtype, Precision
from runtimes.runtime import Array, Evidence, Mode, Runtime

RUNTIME: Runtime = CoreMl()
on_linux = pytest.mark.skipif(sys.platform == "darwin", reason="Core ML is available on macOS")


@pytest.fixture
def package(spec: ModelSpec, tmp_path: Any) -> Artifact:
    path = tmp_path / "m0.mlpackage"
    path.mkdir()
    (path / "Manifest.json").write_text("{}")
    precision = Precision(Dtype.FP16, Dtype.FP16, Dtype.FP16)
    return Artifact.on_disk(path, Format.COREML, spec, made_by="test", precision=precision)


@on_linux
def test_it_is_unavailable_off_macos_and_says_what_to_do(package: Artifact) -> None:
    reason = RUNTIME.unavailable()
    assert reason is not None
    assert reason.startswith("Core ML runs on macOS and iOS only: ")
    assert "vit-export verify" in reason
    with pytest.raises(Unavailable, match="macOS and iOS only"), RUNTIME.open(package):
        pass


def test_it_is_the_real_runtime() -> None:
    assert (RUNTIME.name, RUNTIME.evidence) == ("coreml", Evidence.NATIVE)


def test_a_mac_without_coremltools_is_told_the_extra(package: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(packages, "find_spec", lambda name: None)
    assert (RUNTIME.unavailable() or "").endswith(f"not installed: {install_command('coreml')}")
    with pytest.raises(MissingExtra), RUNTIME.open(package):
        pass


def description(inputs: list[str], outputs: list[str]) -> Any:
    """A ModelDescription as coremltools' protobuf has it."""
    return SimpleNamespace(
        input=[SimpleNamespace(name=name) for name in inputs], output=[SimpleNamespace(name=name) for name in outputs]
    )


OURS = description(["image"], ["logits", "classLabel", "probabilities"])


class Model:
    """Stands in for coremltools.models.MLModel, which loads nothing on Linux."""

    refusal: str | None = None
    units: str
    says: Any = OURS

    def __init__(self, path: str, compute_units: str) -> None:
        assert path.endswith("m0.mlpackage")
        Model.units = compute_units
        if Model.refusal is not None:
            warnings.warn(f"You will not be able to run predict() {Model.refusal}", RuntimeWarning, stacklevel=1)

    def get_spec(self) -> Any:
        return SimpleNamespace(description=Model.says)

    def predict(self, inputs: dict[str, Any]) -> dict[str, Any]:
        (image,) = inputs.values()
        values = np.asarray(image, np.float32)
        means = values.mean((0, 1))[None] if values.ndim == 3 else values.mean((2, 3))
        return {"logits": means, "classLabel": "crane", "probabilities": {"crane": 1.0}}


@pytest.fixture
def on_a_mac(monkeypatch: pytest.MonkeyPatch) -> None:
    units = {"ALL": "ALL"}
    stand_in = SimpleNamespace(models=SimpleNamespace(MLModel=Model), ComputeUnit=units)
    monkeypatch.setattr(native, "_unavailable", lambda: None)
    monkeypatch.setattr(Model, "refusal", None)
    monkeypatch.setitem(sys.modules, "coremltools", stand_in)


@pytest.mark.usefixtures("on_a_mac")
@pytest.mark.parametrize("mode", [Mode.SHIPPED, Mode.DEFAULTS])
def test_a_tensor_runs_on_all_compute_units(package: Artifact, images: Array, mode: Mode) -> None:
    with RUNTIME.open(package, mode) as session:
        logits = session(images[:1])["logits"]
        assert session.takes_tensors
    assert logits == pytest.approx(images[:1].mean((2, 3)))
    assert Model.units == "ALL" == session.attestation.settings["compute_units"]
    assert session.attestation.precision is Dtype.FP16
    assert session.attestation.threads == 0
    assert RUNTIME.shipped_settings(package) == {"compute_units": "ALL"}


@pytest.mark.usefixtures("on_a_mac")
def test_an_image_input_takes_pixels_and_nothing_else(package: Artifact, images: Array) -> None:
    takes_images = replace(package, interface=Interface(image_input=True, labels=("crane",)))
    pixels = np.random.Generator(np.random.PCG64(0)).integers(0, 256, (1, 64, 64, 3), np.uint8)
    with RUNTIME.open(takes_images) as session:
        assert not session.takes_tensors
        assert session(pixels)["logits"] == pytest.approx(pixels[0].astype(np.float32).mean((0, 1))[None])
        assert session.classify(pixels) == ("crane", {"crane": 1.0})
        with pytest.raises(BadInput, match="don't fit"):
            session(images[:1])


@pytest.mark.usefixtures("on_a_mac")
def test_what_the_file_says_is_the_evaluators_to_tell(package: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "coremltools")
    with pytest.raises(BrokenArtifact, match="cannot be read as a Core ML package"), RUNTIME.open(package, Mode.ORACLE):
        pass


@pytest.mark.usefixtures("on_a_mac")
@pytest.mark.parametrize(
    ("other", "got"),
    [
        (description(["x"], ["logits"]), "inputs x; outputs logits"),
        (description(["image"], ["var_9"]), "inputs image; outputs var_9"),
        (description([], ["logits"]), "inputs none; outputs logits"),
    ],
)
def test_a_package_of_others_is_refused(
    other: Any, got: str, package: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Model, "says", other)
    with (
        pytest.raises(StageFailed, match=r"m0\.mlpackage is not a package of this project") as caught,
        RUNTIME.open(package),
    ):
        pass
    assert caught.value.got == got


@pytest.mark.usefixtures("on_a_mac")
def test_a_package_that_core_ml_refuses_fails_with_its_words(
    package: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Model, "refusal", "on this Core ML model: broken MIL")
    with pytest.raises(StageFailed, match=r"Core ML refuses m0\.mlpackage") as caught, RUNTIME.open(package):
        pass
    assert "broken MIL" in str(caught.value)
