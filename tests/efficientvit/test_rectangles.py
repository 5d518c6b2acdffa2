"""Rectangles: the trained form against timm's own with `img_size=(H, W)`, the deploy form against the trained one."""

import copy

import pytest
import timm
import torch

from efficientvit.deploy.modules import LoneTokenAttention, StaticWindows
from efficientvit.deploy.rewrites import rewritten
from efficientvit.errors import BadOption
from efficientvit.model import EfficientViT, build
from efficientvit.size import ImageSize
from efficientvit.spec import model_spec
from efficientvit.weights.keymaps import Layout, to_own


def _random(name: str, size: ImageSize) -> EfficientViT:
    """Every parameter and statistic random: as initialized, a scale of zero ends every branch."""
    model = build(model_spec(name, size, 10)).double()
    generator = torch.Generator().manual_seed(0)
    for key, tensor in model.state_dict().items():
        if key.endswith(("norm.weight", "running_var")):
            tensor.uniform_(0.3, 0.7, generator=generator)
        elif key.endswith(("bias", "running_mean")) and tensor.is_floating_point():
            tensor.normal_(0, 0.3, generator=generator)
    return model


def _images(size: ImageSize) -> torch.Tensor:
    return torch.randn(size.nchw(2), generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "size"),
    [("m0", "128x256"), ("m5", "128x256"), ("m0", "224x320"), ("m0", "320x224"), ("m0", "480x640"), ("m0", "64x112")],
)
def test_equals_timms(name: str, size: str) -> None:
    """Windows are limited by the shorter side, the grid is padded below and to the right."""
    own = _random(name, ImageSize.parse(size))
    pixels = own.spec.image_size
    stock = timm.create_model(f"efficientvit_{name}", img_size=(pixels.height, pixels.width), num_classes=10).double()
    state = stock.state_dict()
    names = to_own(list(state), Layout.TIMM)
    stock.load_state_dict({key: own.state_dict().get(names[key], value) for key, value in state.items()})
    images = _images(pixels)
    right, found = stock.eval()(images), own(images)
    assert float((found - right).norm() / right.norm()) < 1e-10


@torch.no_grad()
@pytest.mark.parametrize("size", ["64x112", "112x224", "96x128", "128x256", "224x112", "64x128"])
def test_the_deploy_form_computes_the_same(size: str) -> None:
    """At 112x224 windows are cut along the width only; windows of one token, at 64 pixels, are not cut at all."""
    trained = _random("m0", ImageSize.parse(size))
    deploy = rewritten(copy.deepcopy(trained))
    parted = {name.split(".")[0] for name, each in deploy.named_modules() if isinstance(each, StaticWindows)}
    lone = {name.split(".")[0] for name, each in deploy.named_modules() if isinstance(each, LoneTokenAttention)}
    assert not parted & lone
    images = _images(trained.spec.image_size)
    right, found = trained(images), deploy(images)
    assert float((found - right).norm() / right.norm()) < 1e-12


def test_sizes_as_text() -> None:
    size = ImageSize.parse("480X640")
    assert (size.height, size.width, str(size)) == (480, 640, "480x640")
    assert str(ImageSize.parse("224x224")) == "224"
    assert [ImageSize.from_json(each.to_json()) for each in (size, ImageSize.parse("64"))] == [
        size,
        ImageSize.parse("64"),
    ]
    for text in ("", "x", "224x", "1x2x3", "22.4", "-224"):
        with pytest.raises(BadOption, match="HxW"):
            ImageSize.parse(text)
    for value in ([1], [1, 2, 3], [1.0, 2], [True, 2], "12", None):
        with pytest.raises(BadOption, match="height, width"):
            ImageSize.from_json(value)


@pytest.mark.parametrize("size", ["224x225", "48x224", "224x2064"])
def test_sides_that_cannot_be_used(size: str) -> None:
    with pytest.raises(BadOption, match=size):
        model_spec("m0", ImageSize.parse(size))
