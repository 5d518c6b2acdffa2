"""Values in the forms that configurations have them, the sidecar files that hold them, and what is not understood."""

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file
from torch import Tensor

from efficientvit.errors import BadCheckpoint, BadOption
from efficientvit.size import ImageSize, square
from efficientvit.weights.checkpoint import LoadedWeights, load_checkpoint
from efficientvit.weights.contract import preprocessing_of
from efficientvit.weights.source import files_of
from efficientvit.weights.values import UNUSABLE, values_of

State = dict[str, Tensor]
HALVES = (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ({"img_size": "224"}, square(224)),
        ({"img_size": "192x224"}, ImageSize(height=192, width=224)),
        ({"input_size": "[3, 192, 224]"}, ImageSize(height=192, width=224)),
        ({"input_size": [3, 64.0, 64.0]}, square(64)),
        ({"image_size": {"height": 192, "width": 224}}, ImageSize(height=192, width=224)),
        ({"mean": "0.5"}, HALVES),
        ({"mean": "(0.5, 0.5, 0.5)"}, HALVES),
        ({"crop_pct": "0.9"}, 0.9),
        ({"num_classes": "5"}, 5),
        ({"interpolation": "InterpolationMode.BICUBIC"}, "bicubic"),
    ],
)
def test_numbers_may_be_text_and_filters_members_of_an_enumeration(said: dict[str, Any], wanted: object) -> None:
    assert [value for _, value in values_of(said)] == [wanted]


@pytest.mark.parametrize(
    "said",
    [
        {"mean": [0.5] * 4},
        {"std": "imagenet"},
        {"mean": [0.5, float("nan"), 0.5]},
        {"crop_pct": 95},
        {"crop_pct": 0},
        {"interpolation": 3},
        {"img_size": "large"},
        {"img_size": -1},
        {"img_size": [3, 64.5, 64]},
    ],
)
def test_what_is_not_understood_is_not_passed_over(said: dict[str, Any], state: State, tmp_path: Path) -> None:
    assert [name for name, _ in values_of(said)] == [UNUSABLE]
    if "nan" not in str(said):  # which JSON doesn't have
        config = {"architecture": "efficientvit_m0", "pretrained_cfg": said}
        with pytest.raises(BadCheckpoint, match=r"config\.json says of the input what is not understood") as refused:
            _beside(config, state, tmp_path)
        assert str(next(iter(said))) in str(refused.value.got)


def test_what_a_training_script_says_so_is_noted(state: State, tmp_path: Path) -> None:
    save_file(state, tmp_path / "w.safetensors", metadata={"interpolation": "3", "mean": "0.5 0.5 0.5"})
    loaded = load_checkpoint(tmp_path / "w.safetensors", "m0")
    assert loaded.notes == ("its metadata says interpolation 3, which is not understood: not used",)
    assert [fact.name for fact in loaded.facts] == ["mean"]


@pytest.mark.parametrize(("said", "missing"), [({"mean": [0.5] * 3}, "std"), ({"std": 0.5}, "mean")])
def test_half_a_normalization_is_asked_about(said: dict[str, Any], missing: str, state: State, tmp_path: Path) -> None:
    facts = _beside({"architecture": "efficientvit_m0", "pretrained_cfg": said}, state, tmp_path).facts
    (name,) = said
    with pytest.raises(BadOption, match=f"says a {name} and no {missing}") as asked:
        preprocessing_of(square(64), facts, {})
    assert f"--{missing} R G B" in str(asked.value.next_step)
    made = preprocessing_of(square(64), facts, {missing: HALVES})
    assert (made.mean, made.std) == (HALVES, HALVES)


def test_half_of_imagenets_normalization_is_all_of_it(state: State, tmp_path: Path) -> None:
    said = {"mean": [0.485, 0.456, 0.406]}
    facts = _beside({"architecture": "efficientvit_m0", "pretrained_cfg": said}, state, tmp_path).facts
    assert preprocessing_of(square(64), facts, {}) == preprocessing_of(square(64), (), {})


def _beside(config: dict[str, Any], state: State, folder: Path, name: str = "config.json") -> LoadedWeights:
    save_file(state, folder / "model.safetensors")
    (folder / name).write_text(json.dumps(config), encoding="utf-8-sig")
    return load_checkpoint(folder, "m0")


def test_metadata_of_another_tool(state: State, tmp_path: Path) -> None:
    said = {"config": json.dumps({"pretrained_cfg": {"mean": [0.5] * 3, "std": "0.25"}}), "num_classes": "3"}
    save_file(state, tmp_path / "w.safetensors", metadata=said)
    facts = {fact.name: fact.value for fact in load_checkpoint(tmp_path / "w.safetensors", "m0").facts}
    assert facts == {"mean": HALVES, "std": (0.25, 0.25, 0.25), "classes": 3}


@pytest.mark.parametrize("name", ["hf-hub:me/efficientvit_m0", "local-dir:/x/efficientvit_m0.r224_in1k"])
def test_an_architecture_with_the_place_of_its_weights(name: str, state: State, tmp_path: Path) -> None:
    loaded = _beside({"architecture": name, "pretrained_cfg": {"mean": 0.5, "std": 0.5}}, state, tmp_path)
    assert preprocessing_of(square(64), loaded.facts, {}).mean == HALVES


def test_a_preprocessor_of_transformers(state: State, tmp_path: Path) -> None:
    config = {"image_mean": [0.5] * 3, "image_std": [0.25] * 3, "resample": 2, "do_center_crop": True}
    sizes = {"size": {"shortest_edge": 72}, "crop_size": {"height": 64, "width": 64}}
    loaded = _beside(config | sizes, state, tmp_path, "preprocessor_config.json")
    made = preprocessing_of(square(64), loaded.facts, {})
    assert (made.mean, made.interpolation, made.resize) == (HALVES, "bilinear", square(72))
    assert tmp_path / "preprocessor_config.json" in files_of(str(tmp_path))


def test_a_preprocessor_that_normalizes_nothing(state: State, tmp_path: Path) -> None:
    loaded = _beside({"do_normalize": False, "size": 64}, state, tmp_path, "preprocessor_config.json")
    made = preprocessing_of(square(64), loaded.facts, {})
    assert (made.mean, made.std) == ((0, 0, 0), (1, 1, 1))
    assert (made.resize, made.crop) == (square(64), "squash")  # it crops nothing


def test_configurations_that_are_not_read_are_named(state: State, tmp_path: Path) -> None:
    (tmp_path / "args.yaml").write_text("img_size: 64\n")
    save_file(state, tmp_path / "model.safetensors")
    (note,) = load_checkpoint(tmp_path, "m0").notes
    assert note.startswith("args.yaml beside the weights not read")
