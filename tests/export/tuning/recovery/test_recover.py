"""`vit-export recover`: a checkpoint that says that it is not the one that it was made of, wherever it goes."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from efficientvit.digests import file_digest
from efficientvit.errors import BadInput
from efficientvit.size import square
from efficientvit.spec import model_spec
from efficientvit.weights.checkpoint import save_checkpoint
from efficientvit.weights.seeded import seeded
from efficientvit.weights.source import find_weights
from export import api
from export.folder.schema import manifest_schema
from export.tuning.recovery import run
from export.tuning.recovery.distill import Recovery

STEPS = 20
MEAN = (0.4, 0.5, 0.6)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for number in range(24):
        small = Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8))
        small.resize((80, 80), Image.Resampling.BICUBIC).save(folder / f"{number:02}.png")
    return folder


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("original") / "best.safetensors"
    said = json.dumps({"mean": MEAN, "std": MEAN, "crop_pct": 0.9})
    save_checkpoint(seeded(model_spec("m0", square(64))), path, said=said)
    return path


@pytest.fixture(scope="module")
def recovered(original: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("recovered") / "recovered.safetensors"
    found = api.recover("m0", weights=original, calibrate=photos, steps=STEPS, minutes=1000, out=out)
    assert found.exit_code == 0
    assert found.recovered_from == file_digest(original)
    assert found.sha256 == file_digest(out)
    assert found.after < found.before
    assert 0 < found.best <= found.steps == STEPS
    return out


def test_the_checkpoint_says_what_it_was_made_of_and_what_the_original_said(recovered: Path, original: Path) -> None:
    with safe_open(str(recovered), "pt") as file:
        said = file.metadata()
    assert said["recovered_from"] == file_digest(original)
    assert said["recovered_seed"] == "0"
    assert said["recovered_images"].startswith("24, sha256 ")
    weights, before = (find_weights(str(path), "m0", None) for path in (recovered, original))
    assert weights.recovered_from == before.sha256
    assert weights.source.startswith(f"recovered from {before.sha256}: recovered.safetensors")
    assert any("not the weights of best.safetensors" in note for note in weights.notes)
    assert {(fact.name, fact.value) for fact in weights.facts} == {(fact.name, fact.value) for fact in before.facts}
    assert ("mean", MEAN) in {(fact.name, fact.value) for fact in weights.facts}
    assert before.recovered_from is None
    with torch.no_grad():
        image = torch.zeros(1, 3, 64, 64)
        assert not torch.equal(weights.model(image), before.model(image))


def test_an_export_of_it_is_held_to_it_and_says_so(
    recovered: Path, original: Path, command: Any, tmp_path: Path
) -> None:
    done = command("m0", "-t", "onnx", "-w", str(recovered), "--no-time", "-o", "out")
    assert done.code == 0, done.err
    assert "recovered weights: not the checkpoint's" in " ".join(done.err.split())
    (folder,) = (tmp_path / "out").iterdir()
    manifest = json.loads((folder / "manifest.json").read_text())
    jsonschema.Draft202012Validator(manifest_schema()).validate(manifest)
    assert manifest["weights"]["recovered_from"] == file_digest(original)
    assert manifest["weights"]["sha256"] == file_digest(recovered)
    assert manifest["weights"]["source"].startswith("recovered from ")
    assert "<b>Recovered weights</b>: not the checkpoint's" in (folder / "report.html").read_text(encoding="utf-8")
    assert command("verify", str(folder), "-w", str(recovered)).code == 0
    other = command("verify", str(folder), "-w", str(original))
    assert other.code != 0, "they are not the original's"


def test_the_command_says_what_was_gained_and_for_whom(
    original: Path, photos: Path, command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def learned(given: Any, *_: Any, **__: Any) -> Recovery:
        return Recovery(given, 0.04, 0.01, 10, 12, 21)

    monkeypatch.setattr("export.tuning.recovery.distill.recover", learned)
    done = command("recover", "m0", "-w", str(original), "--calibrate", str(photos), "-o", "r.safetensors", "--json")
    assert done.code == 0, done.err
    record = json.loads(done.out)
    assert (record["before"], record["after"], record["best"], record["steps"]) == (0.04, 0.01, 10, 12)
    said = " ".join(done.err.split())
    assert "0.1000 after 10 of 12 steps, 0.2000 before" in said
    assert "not the weights of best.safetensors" in said


def test_where_nothing_is_gained_nothing_is_written(original: Path, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="nothing was gained"):
        api.recover("m0", weights=original, calibrate=photos, steps=1, minutes=1000, out=tmp_path / "none.safetensors")
    assert not list(tmp_path.iterdir())


def test_a_handful_of_photos_is_refused(
    original: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "FEWEST", 25)
    with pytest.raises(BadInput, match="too few photos"):
        api.recover("m0", weights=original, calibrate=photos, out=tmp_path / "none.safetensors")
