"""Backbones: the authors' detection code and timm's `features_only` save no classification head."""

from collections.abc import Callable
from pathlib import Path

import timm
import torch
from torch import Tensor

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
