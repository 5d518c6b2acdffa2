"""What a checkpoint says of its input becomes the job's, and is recorded."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from efficientvit.errors import BadGoldenSet, BadOption
from efficientvit.size import square
from efficientvit.spec import model_spec
from efficientvit.weights.seeded import seeded
from export.commands.recompute import weights_of
from export.folder.weights import WeightsRecord
from export.pipeline import manifest
from export.pipeline.prepare import Loaded, Prepared, load
from export.request.request import Request
from export.targets.onnx.calibration import calibration_notes, too_few
from export.targets.workshop import Workshop
from tests.silent import Silent

CONFIG = {
    "architecture": "efficientvit_m0",
    "label_names": ["no", "yes"],
    "pretrained_cfg": {
        "input_size": [3, 64, 64],
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
        "crop_pct": 0.95,
        "interpolation": "box",
    },
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    state = {name: tensor.contiguous() for name, tensor in seeded(model_spec("m0", square(64), 2)).state_dict().items()}
    (tmp_path / "bees").mkdir()
    save_file(state, tmp_path / "bees" / "model.safetensors")
    torch.save({"state_dict": state, "state_dict_ema": state}, tmp_path / "bees.pth")
    (tmp_path / "bees" / "config.json").write_text(json.dumps(CONFIG))
    return tmp_path / "bees"


def loaded(weights: Path, **more: Any) -> Loaded:
    request = Request(("m0",), ("onnx",), weights=str(weights), **more)
    return load(request, "m0", request.jobs(), Silent())


def record(of: Loaded) -> WeightsRecord:
    return manifest._weights(cast(Prepared, of))


def test_the_sidecar_is_the_default_and_is_recorded(folder: Path) -> None:
    found = loaded(folder)
    contract = found.reference.golden.preprocessing
    assert (contract.mean, contract.resize, contract.interpolation) == ((0.5, 0.5, 0.5), square(67), "box")
    said = {each.name: (each.value, each.source, each.taken) for each in record(found).said}
    assert said["image_size"] == ("64", "config.json", True)
    assert said["crop_pct"] == ("0.95", "config.json", True)
    assert found.weights.labels == ("no", "yes")


def test_what_was_overridden_is_recorded_too(folder: Path) -> None:
    with pytest.raises(BadOption, match="contradicts"):
        loaded(folder, preprocessing={"interpolation": "bicubic"})
    found = loaded(folder, preprocessing={"interpolation": "bicubic"}, override=True)
    assert found.reference.golden.preprocessing.interpolation == "bicubic"
    assert [each.name for each in record(found).said if not each.taken] == ["interpolation"]


def test_verify_finds_the_average_again(folder: Path) -> None:
    path = folder.with_suffix(".pth")
    said = record(loaded(path, ema=True))
    assert said.average
    of = type("Of", (), {"weights": said, "model": SimpleNamespace(name="m0", image_size=64, head="logits")})
    assert weights_of(folder, cast(Any, of), str(path)).average


@pytest.mark.published_m0
def test_a_release_accepts_no_assumption(tmp_path: Path) -> None:
    # As timm publishes them: nothing but tensors, 1000 classes, the windows of 224.
    import timm

    from efficientvit.weights.keymaps import Layout, to_own

    model = timm.create_model("efficientvit_m0")
    assert to_own(list(model.state_dict()), Layout.TIMM)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "photos").mkdir()
    weights = tmp_path / "model.safetensors"
    assert loaded(weights).weights.size_assumed
    with pytest.raises(BadOption, match="needs to know which input size"):
        loaded(weights, release=True, golden=tmp_path / "photos")


def test_a_release_does_not_pass_over_a_configuration_that_is_not_read(folder: Path) -> None:
    (folder / "config.json").unlink()
    (folder / "args.yaml").write_text("mean: 0.5\n")  # of whatever model
    (folder.parent / "photos").mkdir()
    assert "args.yaml beside the weights not read" in loaded(folder).weights.notes[0]
    with pytest.raises(BadOption, match=r"args\.yaml beside them is not read"):
        loaded(folder, release=True, golden=folder.parent / "photos")
    given = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}
    with pytest.raises(BadGoldenSet, match="is empty"):  # it gets as far as the photos
        loaded(folder, release=True, golden=folder.parent / "photos", preprocessing=given)


def test_calibration_photos_that_are_none(folder: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.new("RGB", (80, 80), (200, 10, 10)).save(photos / "a.png")
    (photos / "b.txt").write_text("no image")
    found = loaded(folder)
    with pytest.raises(BadGoldenSet, match=r"b\.txt"):
        Workshop(found.weights, found.reference, tmp_path).photos(photos)
    shop = Workshop(found.weights, found.reference, tmp_path, skip_bad=True)
    assert len(shop.photos(photos).images) == 1
    assert calibration_notes(shop, str(photos)) == ("1 files of --calibrate left out: b.txt",)


def test_few_calibration_photos_are_named_as_a_cause() -> None:
    assert "calibrated on 4 images: too few" in str(too_few(4))
    assert too_few(100) is None
