"""What checkpoints say of their input: read as timm reads it, never guessed, refused where it isn't true."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from timm.data.config import resolve_model_data_config
from timm.data.transforms_factory import create_transform
from timm.models import create_model
from timm.models._hub import save_for_hf
from torch import Tensor, nn

from efficientvit.errors import BadCheckpoint, BadOption
from efficientvit.images.preprocessing import IMAGENET_MEAN, to_tensor
from efficientvit.size import ImageSize, square
from efficientvit.weights.checkpoint import load_checkpoint
from efficientvit.weights.contract import preprocessing_of, settled
from efficientvit.weights.declared import Fact, of_checkpoint, of_config
from efficientvit.weights.input_size import input_size
from efficientvit.weights.reading import Reading
from efficientvit.weights.source import files_of, find_weights

State = dict[str, Tensor]
Saved = Callable[..., Path]
CONFIG = {
    "architecture": "efficientvit_m0",
    "num_classes": 3,
    "label_names": ["ant", "bee", "wasp"],
    "pretrained_cfg": {
        "input_size": [3, 64, 64], "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25], "crop_pct": 0.95,
        "interpolation": "bilinear", "crop_mode": "center", "num_classes": 3,
    },
}  # fmt: skip


def folder(tmp_path: Path, state: State, config: dict[str, Any] | str, name: str = "model.safetensors") -> Path:
    """As `save_for_hf` leaves it."""
    if name.endswith(".safetensors"):
        save_file(state, tmp_path / name)
    else:
        torch.save(state, tmp_path / name)
    (tmp_path / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    return tmp_path


# --- config.json -------------------------------------------------------------------------------------------


def test_a_folder_is_read_as_timms_local_dir(timm_m0: nn.Module, tmp_path: Path) -> None:
    cfg = {"input_size": (3, 64, 64), "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4), "crop_pct": 0.9,
           "interpolation": "bilinear"}  # fmt: skip
    model = create_model("efficientvit_m0", num_classes=3, img_size=64, pretrained_cfg_overlay=cfg)
    model.load_state_dict(timm_m0.state_dict())
    names = ["ant", "bee", "wasp"]
    save_for_hf(model, str(tmp_path), model_config={"label_names": names}, safe_serialization=True)
    found = find_weights(f"local-dir:{tmp_path}", "m0", None)
    assert (found.model.spec.image_size, found.model.spec.classes, found.labels) == (square(64), 3, tuple(names))
    ours = preprocessing_of(found.model.spec.image_size, found.facts, {})
    theirs = create_model(f"local-dir:{tmp_path}", pretrained=True)
    transform = create_transform(**resolve_model_data_config(theirs), is_training=False)
    photo = np.random.default_rng(0).integers(0, 256, (90, 130, 3), dtype=np.uint8)
    assert np.array_equal(to_tensor(photo, ours), transform(Image.fromarray(photo)).numpy())


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "best.pth"])
def test_names_of_the_weights_in_a_folder(name: str, state: State, tmp_path: Path) -> None:
    found = find_weights(str(folder(tmp_path, state, CONFIG, name)), "m0", None)
    assert found.suffix == f"{tmp_path.name}-{found.sha256[:8]}"
    assert [path.name for path in files_of(str(tmp_path))] == [name, "config.json"]
    beside = find_weights(str(tmp_path / name), "m0", None)  # the file itself, with its sidecar
    assert beside.facts == found.facts
    assert beside.suffix.startswith(f"{Path(name).stem}-")


def test_shards(state: State, tmp_path: Path) -> None:
    names = sorted(state)
    parts = {"model-1.safetensors": names[::2], "model-2.safetensors": names[1::2]}
    for part, own in parts.items():
        save_file({name: state[name] for name in own}, tmp_path / part)
    index = {"weight_map": {name: part for part, own in parts.items() for name in own}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "2 shards" in find_weights(str(tmp_path), "m0", None).source
    (tmp_path / "model-2.safetensors").unlink()
    with pytest.raises(BadCheckpoint, match="missing"):
        find_weights(str(tmp_path), "m0", None)


def test_shards_without_their_index(state: State, tmp_path: Path) -> None:
    names = sorted(state)
    for number, part in enumerate((names[:300], names[300:]), 1):
        save_file({name: state[name] for name in part}, tmp_path / f"model-{number:05}-of-00002.safetensors")
    assert load_checkpoint(tmp_path, "m0").source.startswith("2 shards")
    with pytest.raises(BadCheckpoint, match="is a shard, a part of a checkpoint") as refused:
        load_checkpoint(tmp_path / "model-00001-of-00002.safetensors", "m0")
    assert refused.value.next_step == f"name the folder, with all of them in it: {tmp_path}"
    (tmp_path / "model-00001-of-00002.safetensors").unlink()
    with pytest.raises(BadCheckpoint, match="is a shard"):
        load_checkpoint(tmp_path, "m0")


@pytest.mark.parametrize("other", ["model_best.pth.tar", "best.ckpt", "best.pt"])
def test_of_two_checkpoints_with_other_suffixes_none_is_taken(
    other: str, state: State, saved: Saved, tmp_path: Path
) -> None:
    saved(state, "last.pth")
    saved(state, other)
    with pytest.raises(BadCheckpoint, match="several checkpoints"):
        load_checkpoint(tmp_path, "m0")


def test_several_checkpoints_in_a_folder(state: State, saved: Saved, tmp_path: Path) -> None:
    saved(state, "a.pth"), saved(state, "b.pth")
    with pytest.raises(BadCheckpoint, match="several checkpoints") as caught:
        find_weights(str(tmp_path), "m0", None)
    assert caught.value.got == "a.pth, b.pth"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"architecture": "efficientvit_m1"}, "another model"),
        ({"num_classes": 10, "label_names": None}, "not about these weights"),
        ({"label_names": ["ant", "bee"]}, "not about these weights"),
        ({"pretrained_cfg": {"input_size": [3, 224, 224]}}, "not true"),
    ],
)
def test_a_config_of_other_weights_is_refused(change: dict[str, Any], said: str, state: State, tmp_path: Path) -> None:
    with pytest.raises(BadCheckpoint, match=said):
        find_weights(str(folder(tmp_path, state, CONFIG | change)), "m0", None)


def test_a_config_of_something_else_is_not_used(state: State, tmp_path: Path) -> None:
    found = find_weights(str(folder(tmp_path, state, {"architecture": "resnet50", "num_classes": 1000})), "m0", None)
    assert (found.facts, found.notes) == ((), ("config.json beside the weights is about 'resnet50': not used",))


@pytest.mark.parametrize("text", ["", "[1]", "{", "[" * 100_000])
def test_a_config_that_cannot_be_read(text: str, state: State, tmp_path: Path) -> None:
    with pytest.raises(BadCheckpoint, match="cannot be read"):
        find_weights(str(folder(tmp_path, state, text)), "m0", None)


def test_the_size_of_the_saved_weights_counts_before_that_of_their_origin(tmp_path: Path) -> None:
    config = {"model_args": {"img_size": 384}, "pretrained_cfg": {"input_size": [3, 224, 224], "crop_pct": 1.0}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    facts = {fact.name: fact.value for fact in of_config(tmp_path / "config.json")}
    assert facts == {"image_size": square(384), "crop_pct": 1.0}


def test_wordnet_ids_are_shown_by_their_descriptions(tmp_path: Path) -> None:
    names = {"0": "n01440764", "1": "n01443537"}
    described = {"n01440764": "tench", "n01443537": "goldfish"}
    (tmp_path / "config.json").write_text(json.dumps({"label_names": names, "label_descriptions": described}))
    assert [fact.value for fact in of_config(tmp_path / "config.json")] == [("tench", "goldfish")]


# --- The checkpoint itself ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ({"args": argparse.Namespace(img_size=256, input_size=None)}, square(256)),
        ({"args": {"input_size": [3, 128, 256], "img_size": None}}, ImageSize(height=128, width=256)),
        ({"args": {"input_size": 384}}, square(384)),
        ({"hyper_parameters": {"cfg": {"data": {"image_size": [320, 320]}}}}, square(320)),
        ({"args": {"val_crop_size": 224, "train_crop_size": 176}}, square(224)),
        ({"args": {"img_size": None, "input_size": None}}, square(224)),
    ],
)
def test_arguments_of_training_scripts(said: dict[str, Any], wanted: ImageSize) -> None:
    plain = {name: vars(each) if isinstance(each, argparse.Namespace) else each for name, each in said.items()}
    assert [fact.value for fact in of_checkpoint(plain) if fact.name == "image_size"] == [wanted]


def test_labels_of_another_number_are_left_out(state: State, saved: Saved) -> None:
    loaded = load_checkpoint(saved({"model": state, "classes": ["a", "b"]}), "m0")
    assert loaded.notes == ("labels in the checkpoint are not those of the head, of 3: not used",)
    assert find_weights(str(saved({"model": state, "classes": list("abc")})), "m0", None).labels == ("a", "b", "c")


@pytest.mark.parametrize(
    "names",
    [
        {"id2label": {"0": "a", "1": "b", "2": "c"}},
        {"class_to_idx": {"c": 2, "a": 0, "b": 1}},
        {"classes": ["a", "b", "c"]},
        {"CLASSES": ["a", "b", "c"]},
    ],
)
def test_forms_of_labels(names: dict[str, Any]) -> None:
    assert [fact.value for fact in of_checkpoint(names) if fact.name == "labels"] == [("a", "b", "c")]


def test_labels_that_are_alike_are_not_used(state: State, tmp_path: Path) -> None:
    found = find_weights(str(folder(tmp_path, state, CONFIG | {"label_names": ["ant", "bee", "ant"]})), "m0", None)
    assert found.labels == ()
    assert found.notes == ("labels in config.json name two classes alike: not used",)


# --- Input size --------------------------------------------------------------------------------------------

SEVEN = (7, 7, 4)


def said(*sizes: int) -> tuple[Fact, ...]:
    return tuple(Fact("image_size", square(size), f"place {i}") for i, size in enumerate(sizes))


def test_the_only_size_with_such_windows_needs_no_word() -> None:
    assert input_size((4, 2, 1), (), None, published=False, override=False).pixels == square(64)


@pytest.mark.parametrize(("windows", "listed"), [(SEVEN, "208, 224, 240, 256"), ((7, 7, 7), "from 400 to 2048")])
def test_what_nobody_says_is_asked_for(windows: tuple[int, int, int], listed: str) -> None:
    with pytest.raises(BadOption, match="nothing says") as caught:
        input_size(windows, (), None, published=False, override=False)
    assert listed in str(caught.value.expected)
    assert "--image-size" in str(caught.value.next_step)


def test_the_published_shape_is_assumed_and_said_to_be() -> None:
    found = input_size(SEVEN, (), None, published=True, override=False)
    assert (found.pixels, found.assumed) == (square(224), True)
    with pytest.raises(BadOption):  # at 384 nothing is published that keeps quiet about it
        input_size((7, 7, 6), (), None, published=True, override=False)


def test_what_is_said_is_taken_and_a_contradiction_needs_a_repetition() -> None:
    assert input_size(SEVEN, said(256), None, published=True, override=False).pixels == square(256)
    assert input_size(SEVEN, said(256), square(256), published=False, override=False).pixels == square(256)
    with pytest.raises(BadOption, match="contradicts") as caught:
        input_size(SEVEN, said(256), square(224), published=False, override=False)
    assert caught.value.expected == "image_size 256 in place 0"
    assert "--override" in str(caught.value.next_step)
    assert input_size(SEVEN, said(256), square(224), published=False, override=True).pixels == square(224)
    with pytest.raises(BadOption, match="two things"):
        input_size(SEVEN, said(256, 224), None, published=False, override=False)
    assert input_size(SEVEN, said(256, 224), square(224), published=False, override=False).pixels == square(224)
    with pytest.raises(BadCheckpoint, match="not true"):
        input_size(SEVEN, said(384), None, published=False, override=False)


def test_a_rectangle_that_is_said_is_taken_where_its_shorter_side_has_the_windows() -> None:
    wide = ImageSize(height=128, width=256)
    facts = (Fact("image_size", wide, "args"),)
    assert input_size((7, 4, 2), facts, None, published=False, override=False).pixels == wide
    with pytest.raises(BadCheckpoint, match="not true"):
        input_size(SEVEN, facts, None, published=False, override=False)
    with pytest.raises(BadOption, match="128x256 in args"):
        input_size((7, 4, 2), facts, ImageSize(height=256, width=128), published=False, override=False)


def test_a_file_of_another_tool_says_the_size(state: State, saved: Saved) -> None:
    weights = {name: torch.zeros(4, 49) if "stages.0" in name and "biases" in name else t for name, t in state.items()}
    for stage, side in ((1, 4), (2, 2)):
        weights |= {n: torch.zeros(4, side**2) for n in state if f"stages.{stage}" in n and "attention_biases" in n}
    with pytest.raises(BadOption, match="nothing says"):
        load_checkpoint(saved(weights), "m0")
    assert load_checkpoint(saved(weights), "m0", reading=Reading(any_size=True)).model.spec.image_size == square(112)


# --- Preprocessing -----------------------------------------------------------------------------------------

FACTS = (
    Fact("mean", (0.5, 0.5, 0.5), "config.json"),
    Fact("std", (0.5, 0.5, 0.5), "config.json"),
    Fact("crop_pct", 0.95, "config.json"),
    Fact("interpolation", "bilinear", "config.json"),
    Fact("classes", 3, "config.json"),
)


def test_preprocessing_from_what_is_said() -> None:
    found = preprocessing_of(square(256), FACTS, {})
    assert (found.mean, found.std, found.resize, found.interpolation) == (
        (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), square(269), "bilinear",
    )  # fmt: skip
    assert all(each.taken for each in settled(FACTS, found, 3))


@pytest.mark.parametrize("options", [{"mean": IMAGENET_MEAN}, {"resize": square(292)}, {"interpolation": "bicubic"}])
def test_an_option_against_it_has_to_be_repeated(options: dict[str, Any]) -> None:
    with pytest.raises(BadOption, match="contradicts"):
        preprocessing_of(square(256), FACTS, options)
    found = preprocessing_of(square(256), FACTS, options, override=True)
    (name,) = options
    assert getattr(found, name) == options[name]
    assert [each.taken for each in settled(FACTS, found, 3)].count(False) == 1


def test_options_that_agree_are_no_contradiction() -> None:
    agreeing = {"mean": (0.5, 0.5, 0.5), "resize": square(269), "interpolation": "bilinear"}
    assert preprocessing_of(square(256), FACTS, agreeing) == preprocessing_of(square(256), FACTS, {})


@pytest.mark.parametrize(
    "fact", [Fact("interpolation", "random", "args"), Fact("crop", "border", "args"), Fact("crop_pct", 1.2, "args")]
)
def test_what_cannot_be_done_is_asked_about(fact: Fact) -> None:
    with pytest.raises(BadOption) as caught:
        preprocessing_of(square(224), (fact,), {})
    assert "args" in str(caught.value.got)
