"""Backbones: the authors' detection code and timm's `features_only` save no classification head."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from torch import Tensor

from efficientvit.errors import BadCheckpoint
from efficientvit.head import Head
from efficientvit.model import tensors_of
from efficientvit.size import square
from efficientvit.spec import model_spec
from efficientvit.weights.checkpoint import load_checkpoint
from efficientvit.weights.keymaps import Layout, is_ignored, to_own
from efficientvit.weights.reading import Reading
from efficientvit.weights.seeded import seeded

FEATURES, EMBEDDING = (Reading(head=Head.parse(head)) for head in ("features", "embedding"))
SIDE = 64


def _maps(state: dict[str, Tensor], images: Tensor) -> tuple[Tensor, ...]:
    """timm's own, of a classifier's weights."""
    model = timm.create_model("efficientvit_m0", num_classes=3, img_size=SIDE).eval()
    model.load_state_dict(state)
    _, maps = model.double().forward_intermediates(images)  # type: ignore[operator]
    return tuple(maps)


@torch.no_grad()
def test_the_authors_detection_code(
    golden_state: Callable[[str, str], dict[str, Tensor]], saved: Callable[..., Path]
) -> None:
    """As mmdet writes it: `backbone.` before the authors' names, a neck and a head of its own, no classifier."""
    full = golden_state("official", "m4")
    bare = {f"backbone.{name}": tensor for name, tensor in full.items() if not name.startswith("head.")}
    others = {"neck.lateral_convs.0.conv.weight": torch.ones(2, 3), "bbox_head.retina_cls.bias": torch.ones(4)}
    path = saved({"meta": {"epoch": 12}, "state_dict": {**bare, **others}}, "retinanet_efficientvit_m4.pth")
    loaded = load_checkpoint(path, "m4", square(224), reading=FEATURES)
    whole = load_checkpoint(saved({"model": full}, "m4.pth"), "m4", square(224))
    assert "prefix 'backbone.' stripped" in loaded.notes[0]
    assert "2 tensors outside the model not used" in loaded.notes[1]
    own, right = loaded.model.state_dict(), whole.model.state_dict()
    assert {name for name in right if name not in own} == {name for name in right if name.startswith("head.")}
    assert all(torch.equal(tensor, right[name]) for name, tensor in own.items() if not is_ignored(name))


@torch.no_grad()
def test_timms_features_only(saved: Callable[..., Path], images: Tensor) -> None:
    """It flattens the names of the first level, and a detector puts its own before them."""
    own = seeded(model_spec("m0", square(SIDE), head=Head.parse("features"))).state_dict()
    stock = timm.create_model("efficientvit_m0", features_only=True, img_size=SIDE)
    names = to_own(list(stock.state_dict()), Layout.TIMM)
    state = {f"model.backbone.body.{theirs}": own[name] for theirs, name in names.items()}
    loaded = load_checkpoint(saved(state), "m0", square(SIDE), reading=FEATURES)
    assert loaded.model.state_dict().keys() == own.keys()
    found = loaded.model.state_dict()
    assert all(torch.equal(tensor, own[name]) for name, tensor in found.items() if not is_ignored(name))


@torch.no_grad()
def test_a_classifiers_backbone_and_what_is_left_out(
    state: dict[str, Tensor], saved: Callable[..., Path], images: Tensor
) -> None:
    """Its head is not used, and what is said of classes is not about what is exported."""
    path = saved({"model": state, "args": {"nb_classes": 3}})
    loaded = load_checkpoint(path, "m0", square(SIDE), reading=FEATURES)
    assert "6 tensors of the classifier not used: the export gives features" in loaded.notes
    assert loaded.model.spec.classes == 0
    assert not [fact for fact in loaded.facts if fact.name in ("classes", "labels")]
    right = _maps(state, images)
    found = tensors_of(loaded.model.double()(images))
    assert all(float((a - b).norm() / b.norm()) < 1e-10 for a, b in zip(found, right, strict=True))
    pooled = load_checkpoint(path, "m0", square(SIDE), reading=EMBEDDING).model.double()(images)
    assert float((pooled - right[2].mean((2, 3))).norm() / pooled.norm()) < 1e-10
    some = load_checkpoint(path, "m0", square(SIDE), reading=Reading(head=Head.parse("features:1,2")))
    assert not any(name.startswith("stage3") for name in some.model.state_dict())


HEADS = ("head.linear.weight", "head.linear.bias")


def _refused(payload: object, saved: Callable[..., Path]) -> BadCheckpoint:
    with pytest.raises(BadCheckpoint) as refused:
        load_checkpoint(saved(payload), "m0", square(SIDE))
    return refused.value


@pytest.mark.parametrize(
    ("prefix", "name"), [("", "fc"), ("", "head.1"), ("backbone.", "classifier"), ("net.", "net.head.linear.1")]
)
def test_a_classifier_in_another_place_is_named_with_the_line_that_makes_it_the_head(
    prefix: str, name: str, state: dict[str, Tensor], saved: Callable[..., Path], tmp_path: Path
) -> None:
    """Whether a ReLU stands before it, its tensors do not say."""
    bare = {f"{prefix}{theirs}": tensor for theirs, tensor in state.items() if not theirs.startswith("head.")}
    weight, bias = torch.randn(4, 192), torch.randn(4)
    error = _refused({"state_dict": {**bare, f"{name}.weight": weight, f"{name}.bias": bias}}, saved)
    assert error.what == "the checkpoint's classifier is not the one of this family"
    assert error.got == f"{name}.weight (4, 192)"
    line = str(error.next_step).partition("save it as the head: ")[2].partition("; for any other")[0]
    script = line.replace("save(d, 'weights.pth')", "save(d, 'mended.pth')")
    done = subprocess.run(
        [sys.executable, "-c", f"import torch; {script}"],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    loaded = load_checkpoint(tmp_path / "mended.pth", "m0", square(SIDE)).model.state_dict()
    assert torch.equal(loaded["head.linear.weight"], weight)
    assert torch.equal(loaded["head.linear.bias"], bias)


def test_a_lost_bias_is_not_taken_for_none(state: dict[str, Tensor], saved: Callable[..., Path]) -> None:
    del state[HEADS[1]]
    error = _refused(state, saved)
    assert error.what.endswith("lacks the bias of its classifier")
    assert "torch.zeros(classes)" in str(error.next_step)
    bare = {name: tensor for name, tensor in state.items() if not name.startswith("head.")}
    error = _refused({**bare, "head.weight": torch.randn(4, 192)}, saved)
    assert error.got == "head.weight (4, 192)"
    assert "d['head.weight'] = d.pop('head.weight'); d['head.bias'] = torch.zeros(4)" in str(error.next_step)


@pytest.mark.parametrize(
    ("change", "what", "line"),
    [
        (lambda weight: weight.T.contiguous(), "another shape, transposed", "weight.T.contiguous()"),
        (lambda weight: weight[0], "another shape", "weight.reshape(-1, 192)"),
        (lambda weight: weight[:, :, None, None], "another shape", "weight.reshape(-1, 192)"),
    ],
    ids=["transposed", "a vector", "a convolution"],
)
def test_a_head_of_another_shape(
    change: Callable[[Tensor], Tensor], what: str, line: str, state: dict[str, Tensor], saved: Callable[..., Path]
) -> None:
    state[HEADS[0]] = change(state[HEADS[0]])
    error = _refused(state, saved)
    assert error.what == f"the classification head has {what}"
    assert line in str(error.next_step)
