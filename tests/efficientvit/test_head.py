"""Other heads than a classifier's: timm's `features_only` and `num_classes=0`, and what `--head` takes."""

from typing import Any

import pytest
import timm
import torch

from efficientvit.deploy.rewrites import rewritten
from efficientvit.errors import BadOption
from efficientvit.head import CLASSIFIER, Head, HeadKind, Output
from efficientvit.model import tensors_of
from efficientvit.size import ImageSize
from efficientvit.spec import MODELS, model_spec
from efficientvit.weights.keymaps import Layout, to_own
from efficientvit.weights.seeded import seeded

EXACT = 1e-10


def _pixels(size: ImageSize) -> torch.Tensor:
    return torch.randn(size.nchw(2), generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def _filled(stock: torch.nn.Module, state: dict[str, torch.Tensor]) -> torch.nn.Module:
    """timm's model with our weights."""
    names = to_own(list(stock.state_dict()), Layout.TIMM)
    stock.load_state_dict({theirs: state[own] for theirs, own in names.items()})
    return stock.double().eval()


@torch.no_grad()
@pytest.mark.parametrize(("name", "size"), [*((name, "64") for name in MODELS), ("m0", "224"), ("m0", "96x128")])
def test_maps_are_those_of_timms_features_only(name: str, size: str) -> None:
    pixels = ImageSize.parse(size)
    own = seeded(model_spec(name, pixels, head=Head.parse("features"))).double()
    stock: Any = timm.create_model(f"efficientvit_{name}", img_size=(pixels.height, pixels.width), features_only=True)
    right = _filled(stock.double(), own.state_dict())(_pixels(pixels))
    for form in (own, rewritten(own)):
        maps = tensors_of(form(_pixels(pixels)))
        assert [tuple(each.shape[1:]) for each in maps] == [output.shape for output in own.spec.outputs]
        assert max(float((a - b).norm() / b.norm()) for a, b in zip(maps, right, strict=True)) < EXACT
    assert [output.stride for output in own.spec.outputs] == stock.feature_info.reduction() == [16, 32, 64]


@torch.no_grad()
def test_the_embedding_is_what_timm_gives_without_classes() -> None:
    """And the same as its `forward_head(pre_logits=True)`, so that `none` and `embedding` are one head."""
    size = ImageSize.parse("64")
    own = seeded(model_spec("m0", size, head=Head.parse("none"))).double()
    stock = _filled(timm.create_model("efficientvit_m0", img_size=64, num_classes=0).double(), own.state_dict())
    right = stock(_pixels(size))
    before = stock.forward_head(stock.forward_features(_pixels(size)), pre_logits=True)  # type: ignore[operator]
    assert torch.equal(right, before)
    for form in (own, rewritten(own)):
        assert float((form(_pixels(size)) - right).norm() / right.norm()) < EXACT


@torch.no_grad()
def test_some_of_the_maps_need_no_stage_behind_them() -> None:
    size = ImageSize.parse("64")
    every, some = (seeded(model_spec("m0", size, head=Head.parse(head))) for head in ("features", "features:2,1"))
    assert not any(name.startswith(("stage3", "head")) for name in some.state_dict())
    assert [output.name for output in some.spec.outputs] == ["stage1", "stage2"]
    right, found = (tensors_of(form(_pixels(size).float())) for form in (every, some))
    assert all(torch.equal(a, b) for a, b in zip(right, found, strict=False))
    (last,) = tensors_of(seeded(model_spec("m0", size, head=Head.parse("features:3")))(_pixels(size).float()))
    assert torch.equal(last, right[2])


@pytest.mark.parametrize(
    ("text", "head", "shown"),
    [
        ("logits", CLASSIFIER, "logits"),
        ("none", Head(HeadKind.EMBEDDING), "embedding"),
        ("embedding", Head(HeadKind.EMBEDDING), "embedding"),
        ("features", Head(HeadKind.FEATURES, (1, 2, 3)), "features"),
        ("features:3,2,3", Head(HeadKind.FEATURES, (2, 3)), "features:2,3"),
        ("features:1,2,3", Head(HeadKind.FEATURES, (1, 2, 3)), "features"),
    ],
)
def test_what_names_a_head(text: str, head: Head, shown: str) -> None:
    assert Head.parse(text) == head == Head.parse(shown)
    assert str(head) == shown


@pytest.mark.parametrize("text", ["", "maps", "features:", "features:0", "features:4", "features:1,", "none:1"])
def test_what_names_none(text: str) -> None:
    with pytest.raises(BadOption, match="there is no head"):
        Head.parse(text)


def test_outputs_and_classes_follow_from_the_head() -> None:
    spec = model_spec("m5", head=Head.parse("features:1,3"))
    assert spec.classes == 0
    assert spec.outputs == (Output("stage1", (192, 14, 14), 16), Output("stage3", (384, 4, 4), 64))
    assert model_spec("m5", classes=7, head=Head.parse("none")).outputs == (Output("embedding", (384,)),)
    assert model_spec("m5", classes=7).outputs == (Output("logits", (7,)),)
