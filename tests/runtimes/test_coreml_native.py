import sys
import warnings
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from efficientvit.errors import MissingExtra, StageFailed, Unavailable
from efficientvit.spec import ModelSpec
from runtimes import coreml_native, extras
from runtimes.artifact import Artifact, Dtype, Format, Precision
from runtimes.base import Array, Evidence, Mode, Runtime
from runtimes.coreml_native import CoreMl, ports

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
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    assert (RUNTIME.unavailable() or "").endswith("not installed: pip install 'vit-export[coreml]'")
    with pytest.raises(MissingExtra), RUNTIME.open(package):
        pass


def port(name: str, kind: str, shape: tuple[int, ...] = ()) -> Any:
    """A FeatureDescription as coremltools' protobuf has it."""
    return SimpleNamespace(
        name=name,
        type=SimpleNamespace(WhichOneof=lambda group: kind, multiArrayType=SimpleNamespace(shape=shape)),
    )


def description(inputs: list[Any], outputs: list[Any]) -> Any:
    return SimpleNamespace(input=inputs, output=outputs)


TENSORS = description(
    [port("x_1", "multiArrayType", (1, 3, 64, 64))],
    [port("classLabel", "stringType"), port("var_9", "multiArrayType", (1, 10))],
)


def test_names_and_shape_are_read_from_the_spec() -> None:
    assert ports(TENSORS, "m0.mlpackage") == ("x_1", (1, 3, 64, 64), "var_9")


@pytest.mark.parametrize(
    "other",
    [
        description([port("image", "imageType")], [port("logits", "multiArrayType")]),
        description([port("x", "multiArrayType")], [port("a", "multiArrayType"), port("b", "multiArrayType")]),
        description([port("x", "multiArrayType")], [port("label", "stringType")]),
    ],
    ids=["image input", "two outputs", "no tensor output"],
)
def test_packages_that_take_or_give_something_else_are_refused(other: Any) -> None:
    with pytest.raises(StageFailed, match=r"m0\.mlpackage is not a model from one tensor to one tensor"):
        ports(other, "m0.mlpackage")


class Model:
    """Stands in for coremltools.models.MLModel, which loads nothing on Linux."""

    refusal: str | None = None
    units: str

    def __init__(self, path: str, compute_units: str) -> None:
        assert path.endswith("m0.mlpackage")
        Model.units = compute_units
        if Model.refusal is not None:
            warnings.warn(f"You will not be able to run predict() {Model.refusal}", RuntimeWarning, stacklevel=1)

    def get_spec(self) -> Any:
        return SimpleNamespace(description=TENSORS)

    def predict(self, inputs: dict[str, Array]) -> dict[str, Array]:
        return {"var_9": inputs["x_1"].mean((2, 3)), "classLabel": np.array(["crane"])}


@pytest.fixture
def on_a_mac(monkeypatch: pytest.MonkeyPatch) -> None:
    units = {name: name for name in ("ALL", "CPU_ONLY")}
    stand_in = SimpleNamespace(models=SimpleNamespace(MLModel=Model), ComputeUnit=units)
    monkeypatch.setattr(coreml_native, "_unavailable", lambda: None)
    monkeypatch.setattr(Model, "refusal", None)
    monkeypatch.setitem(sys.modules, "coremltools", stand_in)


@pytest.mark.usefixtures("on_a_mac")
@pytest.mark.parametrize(("mode", "units"), [(Mode.ORACLE, "CPU_ONLY"), (Mode.SHIPPED, "ALL"), (Mode.DEFAULTS, "ALL")])
def test_each_mode_runs_on_its_compute_units(package: Artifact, images: Array, mode: Mode, units: str) -> None:
    with RUNTIME.open(package, mode) as session:
        logits = session(images[:1])
    assert logits == pytest.approx(images[:1].mean((2, 3)))
    assert Model.units == units == session.attestation.settings["compute_units"]
    assert session.attestation.precision is Dtype.FP16
    assert session.attestation.threads == 0
    assert RUNTIME.shipped_settings(package) == {"compute_units": "ALL"}


@pytest.mark.usefixtures("on_a_mac")
def test_a_package_that_core_ml_refuses_fails_with_its_words(
    package: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Model, "refusal", "on this Core ML model: broken MIL")
    with pytest.raises(StageFailed, match=r"Core ML refuses m0\.mlpackage") as caught, RUNTIME.open(package):
        pass
    assert "broken MIL" in str(caught.value)
