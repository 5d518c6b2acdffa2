"""Values in the forms that configurations have them, the sidecar files that hold them, and what is not understood."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from efficientvit.errors import BadCheckpoint, BadOption
from efficientvit.size import ImageSize, square
from efficientvit.spec import model_spec
from efficientvit.weights.checkpoint import LoadedWeights, load_checkpoint
from efficientvit.weights.contract import preprocessing_of
from efficientvit.weights.seeded import seeded
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


@pytest.mark.parametrize(
    ("content", "unread"), [("img_size: 64\n", (".hydra/config.yaml",)), ("model: efficientvit_m0\nimg_size: 64\n", ())]
)
def test_hydras_configuration(content: str, unread: tuple[str, ...], state: State, tmp_path: Path) -> None:
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "config.yaml").write_text(content)
    save_file(state, tmp_path / "model.safetensors")
    loaded = load_checkpoint(tmp_path, "m0")
    assert loaded.unread == unread
    assert [note.partition(" ")[0] for note in loaded.notes] == list(unread)
    assert {fact.source for fact in loaded.facts} == (set() if unread else {".hydra/config.yaml"})
    assert tmp_path / ".hydra" / "config.yaml" in files_of(str(tmp_path))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
def test_a_configuration_in_utf_16_is_named_so(encoding: str, state: State, tmp_path: Path) -> None:
    save_file(state, tmp_path / "model.safetensors")
    text = '{"architecture": "efficientvit_m0"}'
    (tmp_path / "config.json").write_bytes(
        ("" if encoding == "utf-16" else "\ufeff").encode(encoding) + text.encode(encoding)
    )
    with pytest.raises(BadCheckpoint, match="cannot be read") as caught:
        load_checkpoint(tmp_path, "m0")
    assert "UTF-16; save it as UTF-8" in str(caught.value.got)


def test_numbers_of_bytes_are_converted_in_one_line(state: State, tmp_path: Path) -> None:
    said = {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]}
    facts = _beside({"architecture": "efficientvit_m0", "pretrained_cfg": said}, state, tmp_path).facts
    with pytest.raises(BadOption, match="mean and std are not of pixels from 0 to 1") as caught:
        preprocessing_of(square(64), facts, {})
    options = "--mean 0.485 0.456 0.406 --std 0.229 0.224 0.225, with --override"
    assert str(caught.value.next_step).endswith(options)
    given = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
    assert preprocessing_of(square(64), facts, given, override=True) == preprocessing_of(square(64), (), {})


def test_what_an_option_makes_wrong_is_not_blamed_on_the_checkpoint(state: State, tmp_path: Path) -> None:
    said = {"mean": [0.5] * 3, "std": [0.5] * 3}
    facts = _beside({"architecture": "efficientvit_m0", "pretrained_cfg": said}, state, tmp_path).facts
    with pytest.raises(BadOption, match="resize cannot be used") as caught:
        preprocessing_of(square(64), facts, {"resize": square(32)})
    assert (caught.value.got, caught.value.next_step) == ("32", "give 64 or more, as in --resize 64")


@pytest.mark.parametrize("said", [{"args": {"img_size": 64}}, {"arch": "efficientvit_m0"}, {"mean": 0.5, "std": 0.5}])
def test_a_configuration_that_may_say_the_normalization_is_named(
    said: dict[str, Any], state: State, tmp_path: Path
) -> None:
    (tmp_path / "config.yaml").write_text("mean: [0.5, 0.5, 0.5]\n")
    torch.save({"model": state, **said}, tmp_path / "w.pth")
    loaded = load_checkpoint(tmp_path / "w.pth", "m0")
    assert loaded.unread == (() if "mean" in said else ("config.yaml",))
    assert len(loaded.notes) == len(loaded.unread)


def test_what_timm_does_not_read_of_its_configuration_is_noted(state: State, tmp_path: Path) -> None:
    config = {"architecture": "efficientvit_m0", "data": {"val": {"mean": HALVES, "std": HALVES, "img_size": 64}}}
    told = _beside(config, state, tmp_path).notes
    assert told == tuple(
        f"config.json says {value} in 'data.val', where timm reads nothing: not used"
        for value in ("image_size 64", "mean 0.5 0.5 0.5", "std 0.5 0.5 0.5")
    )
    loaded = _beside({**config, "mean": 0.25, "std": 0.5, "input_size": 64}, state, tmp_path)
    assert loaded.notes == ()
    assert preprocessing_of(square(64), loaded.facts, {}).mean == (0.25, 0.25, 0.25)


ARGS = "model: efficientvit_m0\nimg_size: 64\nmean: [0.5, 0.5, 0.5]\nstd:\n- 0.25\n- 0.25\n- 0.25\ninterpolation: ''\n"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("args.yaml", ARGS),
        ("args.yaml", f"!!python/object:argparse.Namespace\n{ARGS}"),
        (
            "hparams.yaml",
            f"data: &data\n  workers: 4\nmodel_args: !!python/object:x.Y\n  {ARGS.replace(chr(10), chr(10) + '  ')}",
        ),
        ("args.json", json.dumps({"arch": "efficientvit_m0.r224_in1k", "mean": 0.5, "std": "0.25", "img_size": 64})),
        ("config.toml", "model_name = 'efficientvit_m0'\nmean = [0.5, 0.5, 0.5]\nstd = 0.25\n[data]\nimg_size = 64\n"),
    ],
)
def test_what_a_training_script_wrote_beside_the_weights(name: str, content: str, state: State, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    save_file(state, tmp_path / "best.safetensors")
    loaded = load_checkpoint(tmp_path / "best.safetensors", "m0")
    assert (loaded.unread, loaded.size_assumed) == ((), False)
    assert {fact.source.partition("'")[0] for fact in loaded.facts} == {name}
    made = preprocessing_of(square(64), loaded.facts, {})
    assert (made.mean, made.std) == (HALVES, (0.25, 0.25, 0.25))
    assert tmp_path / name in files_of(str(tmp_path / "best.safetensors"))


@pytest.mark.parametrize(
    "content",
    [
        "model: resnet50\nimg_size: 64\n",
        "model: efficientvit_m4\nimg_size: 64\n",
        "img_size: 64\n",
        "- model: efficientvit_m0\n",
        "model: [",
        "model: !!python/object/apply:os.system ['false']\nimg_size: 64\n",
        "&a [*a]",
        "\x00",
        "model: efficientvit_m0\n" + "# much\n" * 200_000,
    ],
)
def test_what_is_about_something_else_or_no_mapping_is_named(content: str, state: State, tmp_path: Path) -> None:
    (tmp_path / "args.yaml").write_text(content)
    save_file(state, tmp_path / "model.safetensors")
    loaded = load_checkpoint(tmp_path, "m0")
    assert (loaded.unread, loaded.facts) == (("args.yaml",), ())


def test_two_places_that_differ_are_asked_about(state: State, tmp_path: Path) -> None:
    (tmp_path / "args.yaml").write_text(ARGS)
    said = {"architecture": "efficientvit_m0", "pretrained_cfg": {"mean": 0.485, "std": 0.25}}
    facts = _beside(said, state, tmp_path).facts
    with pytest.raises(BadOption, match="says two things of its mean") as asked:
        preprocessing_of(square(64), facts, {})
    assert "args.yaml" in str(asked.value.got)
    assert "config.json" in str(asked.value.got)


def test_timms_default_where_its_arguments_leave_the_size_out(state: State, tmp_path: Path) -> None:
    state = seeded(model_spec("m0")).state_dict()
    (tmp_path / "args.yaml").write_text("model: efficientvit_m0\nimg_size: null\ninput_size: null\n")
    save_file(state, tmp_path / "best.safetensors")
    facts = load_checkpoint(tmp_path / "best.safetensors", "m0").facts
    (size,) = (fact for fact in facts if fact.name == "image_size")
    assert (size.value, size.source.partition(":")[0]) == (square(224), "args.yaml")


@pytest.mark.parametrize(
    ("said", "mean", "std"),
    [
        ({"rescale_factor": 1 / 255, "image_mean": 0.5, "image_std": 0.25}, HALVES, (0.25,) * 3),
        ({"rescale_factor": 1 / 127.5, "do_normalize": False}, (0, 0, 0), (0.5,) * 3),
        ({"rescale_factor": 1 / 127.5, "rescale_offset": True, "do_normalize": False}, HALVES, HALVES),
        ({"rescale_factor": 1, "image_mean": [127.5] * 3, "image_std": 51}, HALVES, (0.2,) * 3),
        ({"do_rescale": False, "image_mean": 0.5, "image_std": 0.25}, HALVES, (0.25,) * 3),  # already from 0 to 1
    ],
)
def test_a_preprocessor_that_scales_pixels(
    said: dict[str, Any], mean: object, std: object, state: State, tmp_path: Path
) -> None:
    loaded = _beside({"size": 64, **said}, state, tmp_path, "preprocessor_config.json")
    made = preprocessing_of(square(64), loaded.facts, {})
    assert made.mean == pytest.approx(mean)
    assert made.std == pytest.approx(std)


@pytest.mark.parametrize(
    "said",
    [
        {"do_rescale": False, "do_normalize": False},
        {"rescale_factor": 1 / 127.5},
        {"rescale_factor": 0, "image_mean": 0.5, "image_std": 0.5},
    ],
)
def test_a_preprocessor_that_leaves_the_scale_open(said: dict[str, Any], state: State, tmp_path: Path) -> None:
    with pytest.raises(BadCheckpoint, match="not understood"):
        _beside({"size": 64, **said}, state, tmp_path, "preprocessor_config.json")


def test_a_preprocessor_that_swaps_red_and_blue(state: State, tmp_path: Path) -> None:
    with pytest.raises(BadCheckpoint, match="BGR") as caught:
        _beside({"size": 64, "do_flip_channel_order": True}, state, tmp_path, "preprocessor_config.json")
    assert "weight.flip(1)" in str(caught.value.next_step)


@pytest.mark.parametrize("place", ["mean", "pixel_mean"])
def test_tensors_beside_the_state_dict_say_the_normalization(place: str, state: State, tmp_path: Path) -> None:
    std = place.replace("mean", "std")
    payload = {"model": state, place: torch.full((3, 1, 1), 0.5), std: torch.full((1, 3, 1, 1), 0.25)}
    torch.save(payload, tmp_path / "w.pth")
    made = preprocessing_of(square(64), load_checkpoint(tmp_path / "w.pth", "m0").facts, {})
    assert (made.mean, made.std) == (HALVES, (0.25, 0.25, 0.25))


@pytest.mark.parametrize("place", ["cfg.mean", "normalize.mean", "imageTransform.img_mean"])
def test_names_that_say_the_normalization_of_the_input(place: str, state: State, tmp_path: Path) -> None:
    owner, leaf = place.split(".")
    told = {leaf: torch.full((3,), 0.5), leaf.replace("mean", "std"): torch.tensor(0.25)}
    torch.save({"model": state, owner: told}, tmp_path / "w.pth")
    _require_halves(tmp_path)


@pytest.mark.parametrize(
    ("place", "prefix"),
    [
        ("a.model.0.mean", "a.model.1."),
        ("a.mean", "a.net."),
        ("model.data_preprocessor.mean", "model.backbone."),
        ("normalizer.pixel_mean", "net."),
    ],
)
def test_a_normalization_beside_the_model(place: str, prefix: str, state: State, tmp_path: Path) -> None:
    told = {place: torch.full((3, 1, 1), 0.5), place.replace("mean", "std"): torch.full((1, 3, 1, 1), 0.25)}
    torch.save({f"{prefix}{name}": tensor for name, tensor in state.items()} | told, tmp_path / "w.pth")
    _require_halves(tmp_path)


def _require_halves(folder: Path) -> None:
    loaded = load_checkpoint(folder / "w.pth", "m0")
    made = preprocessing_of(square(64), loaded.facts, {})
    assert (made.mean, made.std) == (HALVES, (0.25, 0.25, 0.25))
    assert not any("not used" in note or "not taken" in note for note in loaded.notes)


@pytest.mark.parametrize(
    "owner",
    ["metric", "loss", "val_acc", "criterion.normalize", "lpips.norm", "target_norm", "heads.0", "trainMetrics"],
)
@pytest.mark.parametrize("beside", [False, True])
def test_means_of_something_else_are_listed(owner: str, beside: bool, state: State, tmp_path: Path) -> None:
    told = {"mean": torch.tensor([0.7, 0.3, 0.9]), "std": torch.tensor([0.2, 0.3, 0.5])}
    if beside:
        payload: dict[str, Any] = {"model": state, owner: told}
    else:
        payload = {f"net.{name}": tensor for name, tensor in state.items()}
        payload |= {f"{owner}.{name}": tensor for name, tensor in told.items()}
    torch.save(payload, tmp_path / "w.pth")
    loaded = load_checkpoint(tmp_path / "w.pth", "m0")
    assert loaded.facts == ()
    (note,) = [note for note in loaded.notes if note.startswith("not taken for the normalization")]
    assert f"{owner}.mean, {owner}.std" in note
    assert preprocessing_of(square(64), loaded.facts, {"std": HALVES}).mean == (0.485, 0.456, 0.406)


def test_a_border_crop_is_refused_with_the_file_and_its_key(state: State, tmp_path: Path) -> None:
    with pytest.raises(BadCheckpoint, match="not understood") as refused:
        _beside({"architecture": "efficientvit_m0", "pretrained_cfg": {"crop_mode": "border"}}, state, tmp_path)
    assert str(refused.value.next_step).startswith("edit crop_mode in config.json")
    assert "crop_mode center or squash" in str(refused.value.expected)


def test_the_channels_may_be_last() -> None:
    assert values_of({"input_size": [192, 224, 3]}) == [("image_size", ImageSize(height=192, width=224))]


@pytest.mark.parametrize(
    ("said", "note"),
    [
        ({"input_size": [4, 64, 64]}, "other channels in input_size [4, 64, 64], and the weights take 3"),
        ({"in_chans": 1}, "in_chans 1, and the weights take 3 channels"),
        (
            {"id2label": {"2": "c", "0": "a", "3": "b"}},
            "id2label {'2': 'c', '0': 'a', '3': 'b'}, which does not name each of the classes 0, 1 and so on once",
        ),
        (
            {"class_to_idx": {"a": 1, "b": 2, "c": 3}},
            "class_to_idx {'a': 1, 'b': 2, 'c': 3}, which does not name each of the classes 0, 1 and so on once",
        ),
        (
            {"class_names": ["a", "", "c"]},
            "class_names ['a', '', 'c'], which does not name each of the classes 0, 1 and so on once",
        ),
    ],
)
def test_what_is_dropped_is_noted(said: dict[str, Any], note: str, state: State, tmp_path: Path) -> None:
    assert _beside({"architecture": "efficientvit_m0", **said}, state, tmp_path).notes == (
        f"config.json says {note}: not used",
    )


@pytest.mark.parametrize("said", [{"in_chans": 3}, {"labels": [0, 1]}, {"names": {"train": "a.csv"}}, {"classes": 3}])
def test_what_is_no_list_of_labels_is_not_noted(said: dict[str, Any], state: State, tmp_path: Path) -> None:
    assert _beside({"architecture": "efficientvit_m0", **said}, state, tmp_path).notes == ()


@pytest.mark.parametrize("scale", [1, 255])
def test_imagenets_mean_with_blue_first_is_a_hint(scale: int, state: State, tmp_path: Path) -> None:
    said = {"mean": [0.406 * scale, 0.456 * scale, 0.485 * scale], "std": [0.225, 0.224, 0.229]}
    config = {"architecture": "efficientvit_m0", "pretrained_cfg": said}
    (note,) = _beside(config, state, tmp_path).notes
    assert "in the order blue, green, red" in note
    assert "weight.flip(1)" in note
    assert _beside({**config, "pretrained_cfg": {"mean": 0.45, "std": 0.2}}, state, tmp_path).notes == ()
