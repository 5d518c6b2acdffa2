"""What training scripts leave around the weights: prefixes, averages, second heads, metadata of any type."""

import argparse
import collections
import copy
import datetime
import decimal
import enum
import fractions
import pathlib
import sys
import types
import uuid
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from timm.utils.model import reparameterize_model
from torch import Tensor, nn

from efficientvit.errors import BadCheckpoint, BadOption
from efficientvit.size import square
from efficientvit.weights.checkpoint import load_checkpoint
from efficientvit.weights.inert import plain, read_inertly
from efficientvit.weights.reading import Reading

State = dict[str, Tensor]
Saved = Callable[..., Path]
TABLE = "stages.1.blocks.0.mixer.m.attn.attention_biases"


def equal(path: Path, wanted: nn.Module, images: Tensor) -> tuple[str, ...]:
    """It computes what timm's module does; the notes."""
    loaded = load_checkpoint(path, "m0")
    reference = copy.deepcopy(wanted).double()
    with torch.inference_mode():
        right, got = reference(images), loaded.model.double()(images)
    assert float((got - right).norm() / right.norm()) < 1e-10
    return loaded.notes


# --- Names -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["net.", "backbone.", "timm_model.", "m.", "generator.net.", "module._orig_mod.x."])
def test_any_prefix_is_found_and_said(
    prefix: str, state: State, saved: Saved, timm_m0: nn.Module, images: Tensor
) -> None:
    payload = {"state_dict": {prefix + name: tensor for name, tensor in state.items()}, "epoch": 1}
    assert equal(saved(payload), timm_m0, images) == (f"prefix '{prefix}' stripped from {len(state)} tensor names",)


@pytest.mark.parametrize("place", ["[0]", "[1].a.b.c.d", "run.[1].model"])
def test_a_state_dict_in_a_list_or_far_below(
    place: str, state: State, saved: Saved, timm_m0: nn.Module, images: Tensor
) -> None:
    payload: object = state
    for part in reversed(place.split(".")):
        payload = (
            [None, payload] if part == "[1]" else [payload, {"mean": [0.5] * 3}] if part == "[0]" else {part: payload}
        )
    path = saved(payload)
    equal(path, timm_m0, images)
    loaded = load_checkpoint(path, "m0")
    assert f"state dict under '{place}'" in loaded.source
    assert [fact.source for fact in loaded.facts] == (["the checkpoint's '[1]'"] if place == "[0]" else [])


def test_what_lies_outside_the_prefix_is_listed(state: State, saved: Saved) -> None:
    around = {"criterion.weight": torch.ones(3), "val_acc.confmat": torch.zeros(3, 3), "n_averaged": torch.tensor(3)}
    payload = {"state_dict": {f"net.{name}": tensor for name, tensor in state.items()} | around}
    notes = load_checkpoint(saved(payload), "m0").notes
    assert notes[1] == "2 tensors outside the model not used: criterion.weight, val_acc.confmat"


@pytest.mark.parametrize("wrapper", ["_orig_mod", "module", "_fsdp_wrapped_module"])
def test_wrappers_within_a_name(wrapper: str, state: State, saved: Saved, timm_m0: nn.Module, images: Tensor) -> None:
    wrapped = {name.replace("stages.", f"stages.{wrapper}."): tensor for name, tensor in state.items()}
    count = sum(name.startswith("stages.") for name in state)
    assert equal(saved(wrapped), timm_m0, images) == (
        f"segments of wrappers (_orig_mod, module) taken out of {count} tensor names",
    )


def test_leftovers_of_profilers(state: State, saved: Saved, timm_m0: nn.Module, images: Tensor) -> None:
    counted = {f"{name.rpartition('.')[0]}.{left}": torch.zeros(1) for name in state for left in ("total_ops",)}
    assert equal(saved(state | counted | {"total_params": torch.zeros(1)}), timm_m0, images) == ()


def test_student_and_teacher_are_asked_about(state: State, saved: Saved) -> None:
    both = {f"student.{name}": tensor for name, tensor in state.items()}
    both |= {f"teacher.{name}": tensor + 1 for name, tensor in state.items()}
    with pytest.raises(BadCheckpoint, match="several models") as caught:
        load_checkpoint(saved({"state_dict": both}), "m0")
    assert caught.value.got == "'state_dict.student', 'state_dict.teacher'"
    assert "k.startswith('student.')" in str(caught.value.next_step)


def test_a_teacher_of_another_size_is_not_meant(state: State, saved: Saved) -> None:
    teacher = timm.create_model("efficientvit_m1", num_classes=3, img_size=64).state_dict()
    both = {f"student.{name}": tensor for name, tensor in state.items()}
    both |= {f"a_teacher.{name}": tensor for name, tensor in teacher.items()}
    loaded = load_checkpoint(saved(both), "m0")
    assert torch.equal(loaded.model.state_dict()["stage2.block1.mixer.branch.attention.bias"], state[TABLE])
    assert "not used: 'a_teacher'" in loaded.notes[1]


@pytest.mark.parametrize("entry", ["state_dict_ema", "modelEma", "emaModel", "EMAModel", "modelEMA", "swaState"])
def test_the_average_is_taken_when_it_is_asked_for(entry: str, state: State, saved: Saved) -> None:
    average = {name: tensor + 1 for name, tensor in state.items()}
    path = saved({"state_dict": state, entry: average})
    loaded = load_checkpoint(path, "m0")
    assert loaded.notes == (f"taken from 'state_dict'; not used: '{entry}' (--ema takes the running average)",)
    averaged = load_checkpoint(path, "m0", reading=Reading(ema=True))
    own = "stage2.block1.mixer.branch.attention.bias"
    assert torch.equal(averaged.model.state_dict()[own], loaded.model.state_dict()[own] + 1)
    assert (averaged.average, loaded.average) == (True, False)
    with pytest.raises(BadOption, match="no running average"):
        load_checkpoint(saved({"model": state}), "m0", reading=Reading(ema=True))


# --- Other forms -------------------------------------------------------------------------------------------


def test_a_fused_model(saved: Saved, timm_m0: nn.Module, images: Tensor) -> None:
    fused = reparameterize_model(timm_m0)
    notes = equal(saved(fused.state_dict()), fused, images)
    assert notes == ("113 layers have no BatchNorm of their own (fused, or replaced): an identity stands for it",)


def test_a_head_that_was_replaced_by_a_linear_layer(saved: Saved, timm_m0: nn.Module, images: Tensor) -> None:
    replaced = copy.deepcopy(timm_m0)
    replaced.head = nn.Linear(192, 5)
    assert equal(saved(replaced.state_dict()), replaced, images)[0].startswith("1 layers have no BatchNorm")


def test_a_normalization_in_front_of_the_model_says_what_it_is(saved: Saved, state: State) -> None:
    inside = {f"1.{name}": tensor for name, tensor in state.items()}
    front = {"0.mean": torch.full((1, 3, 1, 1), 0.5), "0.std": torch.tensor([0.25, 0.5, 0.25]).view(3, 1, 1)}
    facts = load_checkpoint(saved(front | inside), "m0").facts
    assert [(fact.name, fact.value, fact.source) for fact in facts] == [
        ("mean", (0.5, 0.5, 0.5), "the tensor '0.mean'"),
        ("std", (0.25, 0.5, 0.25), "the tensor '0.std'"),
    ]


def test_two_heads_are_averaged(saved: Saved, state: State, timm_m0: nn.Module, images: Tensor) -> None:
    generator = torch.Generator().manual_seed(0)
    second = {
        name.replace("head.", "head_dist."): tensor + torch.rand(tensor.shape, generator=generator)
        for name, tensor in state.items()
        if name.startswith("head.") and tensor.is_floating_point()
    }
    loaded = load_checkpoint(saved({"model": {**state, **second}}), "m0")
    assert loaded.notes == ("two heads, `head` and `head_dist`: averaged, as the authors do in evaluation",)
    first, other = copy.deepcopy(timm_m0).double(), copy.deepcopy(timm_m0)
    other.load_state_dict(state | {name.replace("head_dist.", "head."): tensor for name, tensor in second.items()})
    with torch.inference_mode():
        wanted = (first(images) + other.double().eval()(images)) / 2
        got = loaded.model.double()(images)
    assert float((got - wanted).norm() / wanted.norm()) < 1e-6  # the merged head is rounded to float32


@pytest.mark.parametrize(("channels", "said"), [(1, "gray"), (4, "4 channels")])
def test_stems_for_other_images(channels: int, said: str, state: State, saved: Saved) -> None:
    stem = "patch_embed.conv1.conv.weight"
    state[stem] = state[stem][:, :1].repeat(1, channels, 1, 1)
    with pytest.raises(BadCheckpoint, match=said) as caught:
        load_checkpoint(saved(state), "m0")
    assert ("0.299" in str(caught.value.next_step)) == (channels == 1)


@pytest.mark.parametrize("classes", [1, 2])
def test_few_classes(classes: int, state: State, saved: Saved) -> None:
    for part in ("weight", "bias"):
        state[f"head.linear.{part}"] = state[f"head.linear.{part}"][:classes].clone()
    assert load_checkpoint(saved(state), "m0").model.spec.classes == classes


# --- Metadata ----------------------------------------------------------------------------------------------


class Color(enum.Enum):
    """As in somebody's training script."""

    RED = 1


HARMLESS = [
    np.float64(71.2),
    np.arange(3),
    np.array(["a", "b"]),
    pathlib.PurePosixPath("/runs/7"),
    datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC),
    datetime.timedelta(1),
    collections.defaultdict(list, {"loss": [1.0]}),
    collections.deque([1]),
    collections.Counter("aab"),
    decimal.Decimal(1),
    fractions.Fraction(1, 3),
    uuid.UUID(int=7),
    {1, 2},
    frozenset({1}),
    1 + 2j,
    range(3),
    types.SimpleNamespace(lr=0.1),
    argparse.Namespace(out=pathlib.PurePosixPath("/x"), rate=np.float32(0.1)),
]


@pytest.mark.parametrize("zipped", [True, False])
def test_harmless_types_in_the_metadata(zipped: bool, state: State, tmp_path: Path) -> None:
    payload = {"model": state, **{f"extra{i}": value for i, value in enumerate(HARMLESS)}}
    torch.save(payload, tmp_path / "weights.pth", _use_new_zipfile_serialization=zipped)
    loaded = load_checkpoint(tmp_path / "weights.pth", "m0")
    own = "stage2.block1.mixer.branch.attention.bias"
    assert torch.equal(loaded.model.state_dict()[own], state[TABLE])
    (note,) = loaded.notes
    assert note.startswith("types of other packages not restored: ")


@pytest.mark.parametrize("value", HARMLESS, ids=repr)
def test_each_is_known_by_its_own(value: object, saved: Saved) -> None:
    restored = read_inertly(saved({"extra": value}))
    assert restored.refused == ()


def test_what_metadata_say_is_read_from_any_of_them(saved: Saved) -> None:
    said = {
        "metric": np.float64(71.5),
        "classes": np.array(["a", "b"]),
        "mean": np.array([0.5, 0.25, 0.125], np.float32),
        "sizes": collections.deque([1, 2]),
        "out": pathlib.PurePosixPath("runs/7"),
        "args": types.SimpleNamespace(img_size=np.int64(64)),
    }
    assert plain(read_inertly(saved(said)).payload) == {
        "metric": 71.5,
        "classes": ["a", "b"],
        "mean": [0.5, 0.25, 0.125],
        "sizes": [1, 2],
        "out": "runs/7",
        "args": {"img_size": 64},
    }


@pytest.mark.parametrize("name", ["id2label", "names"])
def test_classes_by_their_number(name: str, state: State, saved: Saved) -> None:
    payload = {"model": state, "hyper_parameters": {name: {0: "ant", 1: "bee", 2: "wasp"}}}
    (fact,) = load_checkpoint(saved(payload), "m0").facts
    assert fact.value == ("ant", "bee", "wasp")


def test_a_list_of_transforms_is_read(state: State, saved: Saved) -> None:
    transforms = [{"name": "Resize"}, {"name": "Normalize", "mean": [0.5] * 3, "std": [0.25] * 3}]
    facts = load_checkpoint(saved({"model": state, "cfg": {"transforms": transforms}}), "m0").facts
    assert {fact.name: fact.value for fact in facts} == {"mean": (0.5,) * 3, "std": (0.25,) * 3}
    assert facts[0].source == "the checkpoint's 'cfg.transforms[1]'"


@pytest.mark.parametrize("depth", [1, 5, 20])
def test_a_normalization_at_any_depth_is_read(depth: int, state: State, saved: Saved) -> None:
    said: object = {"mean": [0.5] * 3, "std": [0.25] * 3}
    for level in range(depth):
        said = {"a": said} if level % 2 else [("Normalize", said)]
    facts = load_checkpoint(saved({"model": state, "cfg": said}), "m0").facts
    assert {fact.name: fact.value for fact in facts} == {"mean": (0.5,) * 3, "std": (0.25,) * 3}


@pytest.mark.parametrize("at_the_top", [True, False])
def test_arguments_among_the_tensors_are_read(at_the_top: bool, state: State, saved: Saved) -> None:
    both = {**state, "args": argparse.Namespace(mean=[0.5] * 3, std=[0.25] * 3)}
    facts = load_checkpoint(saved(both if at_the_top else {"model": both}), "m0").facts
    assert {fact.name: fact.value for fact in facts} == {"mean": (0.5,) * 3, "std": (0.25,) * 3}


def test_metadata_that_hold_themselves_and_one_another(state: State, saved: Saved) -> None:
    said: dict[str, object] = {"mean": [0.5] * 3, "std": [0.25] * 3}
    said["itself"] = said
    for _ in range(60):
        said = {"a": said, "b": said, "both": [said, said]}
    facts = load_checkpoint(saved({"model": state, "cfg": said}), "m0").facts
    assert {fact.name: fact.value for fact in facts} == {"mean": (0.5,) * 3, "std": (0.25,) * 3}


def test_a_configuration_as_json_is_read(state: State, saved: Saved) -> None:
    text = '{"data": {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}}'
    facts = load_checkpoint(saved({"model": state, "meta": {"cfg": text}}), "m0").facts
    assert [(fact.name, fact.source) for fact in facts] == [
        ("mean", "the checkpoint's 'meta.cfg.data'"),
        ("std", "the checkpoint's 'meta.cfg.data'"),
    ]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("data_preprocessor = dict(mean=[127.5] * 3, std=[127.5] * 3)\nimg_size=64", "img_size, mean, std"),
        ("data:\n  img_mean: [0.5, 0.5, 0.5]\n", "img_mean"),
        ("train.py --model m0 --img-size 64 --mean 0.5 0.5 0.5", "img-size, mean"),
    ],
)
def test_a_configuration_as_other_text_is_noted(text: str, names: str, state: State, saved: Saved) -> None:
    loaded = load_checkpoint(saved({"model": state, "meta": {"cfg": text, "comment": "the mean of three runs"}}), "m0")
    assert loaded.notes == (f"the checkpoint's 'meta' says {names} in the text 'cfg', and text is not read: not used",)


def test_the_mean_of_a_metric_is_not_the_inputs(state: State, saved: Saved) -> None:
    loaded = load_checkpoint(saved({"model": state, "metrics": {"top1": {"mean": 0.7, "std": 0.01}}}), "m0")
    assert loaded.facts == ()
    assert loaded.notes[0] == (
        "the checkpoint's 'metrics.top1' says mean 0.7 0.7 0.7, by its place not of the input: not used"
    )


def test_a_configuration_of_omegaconf_is_read(state: State, saved: Saved, monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("omegaconf")

    class Node:
        def __init__(self, content: object) -> None:
            self._content = content

    class Leaf:
        def __init__(self, value: object) -> None:
            self._val = value

    for kind in (Node, Leaf):
        kind.__module__, kind.__qualname__ = "omegaconf", kind.__name__
        setattr(module, kind.__name__, kind)
    monkeypatch.setitem(sys.modules, "omegaconf", module)
    mean = Node([Leaf(0.5), Leaf(0.5), Leaf(0.5)])
    path = saved({"state_dict": state, "hyper_parameters": Node({"mean": mean, "img_size": Leaf(64)})})
    monkeypatch.delitem(sys.modules, "omegaconf")
    facts = {fact.name: (fact.value, fact.source) for fact in load_checkpoint(path, "m0").facts}
    assert facts["mean"] == ((0.5, 0.5, 0.5), "the checkpoint's 'hyper_parameters'")
    assert facts["image_size"] == (square(64), "the checkpoint's 'hyper_parameters'")


@pytest.mark.parametrize("value", [Color.RED, print])
def test_other_types_are_named_with_the_line_that_saves_it_right(value: object, state: State, saved: Saved) -> None:
    with pytest.raises(BadCheckpoint, match="refused") as caught:
        load_checkpoint(saved({"run": {"net": state}, "extra": value}), "m0")
    assert ("print" if value is print else "Color") in str(caught.value.got)
    line = "torch.save(torch.load('weights.pth', weights_only=False)['run']['net'], 'weights.pth')"
    assert line in str(caught.value.next_step)


def test_a_whole_module_under_a_name(timm_m0: nn.Module, saved: Saved) -> None:
    with pytest.raises(BadCheckpoint, match="whole module") as caught:
        load_checkpoint(saved({"model": timm_m0, "epoch": 3}), "m0")
    assert "['model'].state_dict()" in str(caught.value.next_step)
    assert "EfficientVitMsra" in str(caught.value.got)


@pytest.mark.parametrize(
    ("put", "place"),
    [
        (lambda module: [module, {"epoch": 3}], "[0]"),
        (lambda module: {"run": {"net.best": module}}, "['run']['net.best']"),
    ],
)
def test_a_whole_module_in_a_list_or_below(
    put: Callable[[nn.Module], object], place: str, timm_m0: nn.Module, saved: Saved
) -> None:
    with pytest.raises(BadCheckpoint, match="whole module") as caught:
        load_checkpoint(saved(put(timm_m0)), "m0")
    assert f"weights_only=False){place}.state_dict()" in str(caught.value.next_step)


def test_tensors_without_names_are_no_model(state: State, saved: Saved) -> None:
    with pytest.raises(BadCheckpoint, match="holds no state dict"):
        load_checkpoint(saved(list(state.items())), "m0")


def test_a_traced_program_is_told_from_a_module(timm_m0: nn.Module, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(timm_m0, torch.randn(1, 3, 64, 64)), str(tmp_path / "scripted.pt"))
    with pytest.raises(BadCheckpoint, match="TorchScript program"):
        load_checkpoint(tmp_path / "scripted.pt", "m0")
