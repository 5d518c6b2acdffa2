"""Weights on which parity could not fail are found out; ours are not among them."""

import copy

import pytest
import torch
from torch import nn

from efficientvit.attention import CascadedGroupAttention
from efficientvit.layers import ConvNorm, Residual
from efficientvit.model import EfficientViT, build
from efficientvit.preprocess import Preprocessing
from efficientvit.seeded import seeded
from efficientvit.spec import MODELS, model_spec
from validation.golden_synthetic import synthetic
from validation.metrics import relative_error
from validation.reference import ReferenceModel
from validation.self_check import CHECKPOINT, SEEDED, self_check, visibility

SIZE = 64
GOLDEN = synthetic(Preprocessing(image_size=SIZE))


@torch.no_grad()
def fresh() -> EfficientViT:
    """As training starts: residual branches end in a scale of zero, attention biases are zero."""
    model = build(model_spec("m0", SIZE))
    for module in model.modules():
        if isinstance(module, Residual):
            last = [child for child in module.branch.modules() if isinstance(child, ConvNorm)][-1]
            assert isinstance(last.norm, nn.BatchNorm2d)
            last.norm.weight.zero_()
        if isinstance(module, CascadedGroupAttention):
            module.bias.zero_()
    return model


def test_fresh_weights_are_vacuous() -> None:
    check = self_check(ReferenceModel(fresh(), GOLDEN), CHECKPOINT)
    assert check.vacuous
    assert any("heads and biases could be lost unseen" in failure for failure in check.failures)
    assert check.least_visible == 0


@torch.no_grad()
def test_weights_that_ignore_the_image_are_vacuous() -> None:
    model = seeded(model_spec("m0", SIZE))
    model.stem.get_submodule("conv1.norm").get_parameter("weight").mul_(1e-6)
    check = self_check(ReferenceModel(model, GOLDEN), CHECKPOINT)
    assert any("hardly depend on the image" in failure for failure in check.failures)
    assert any("ignores its input" in failure for failure in check.failures)


@torch.no_grad()
def test_one_dead_head_is_named() -> None:
    model = seeded(model_spec("m0", SIZE))
    attention = model.stage1.get_submodule("block1.mixer.branch.attention")
    assert isinstance(attention, CascadedGroupAttention)
    attention.bias[2].zero_()
    check = self_check(ReferenceModel(model, GOLDEN), CHECKPOINT)
    assert check.least_visible == 0
    assert check.least_visible_name == "stage1.block1.mixer.branch.attention.bias.2"
    assert check.vacuous


@pytest.mark.parametrize("name", MODELS)
def test_seeded_weights_pass_at_224(name: str) -> None:
    golden = synthetic(Preprocessing())
    check = self_check(ReferenceModel(seeded(model_spec(name)), golden), SEEDED)
    assert check.failures == ()
    assert check.deploy_ratio <= 1.5
    assert check.sham_ratio > 10


@pytest.mark.parametrize("seed", range(1, 5))
def test_other_seeds_pass_too(seed: int) -> None:
    assert not self_check(ReferenceModel(seeded(model_spec("m0", SIZE), seed), GOLDEN), SEEDED).vacuous


def test_visibility_is_what_a_loss_would_cost(model_reference: ReferenceModel) -> None:
    """To first order: dropping a tenth of a bias moves the logits by a tenth of its visibility."""
    visible = visibility(model_reference)
    images = model_reference.images[[0, 5, 10]].double()
    for name in ("stage2.block1.ffn1.branch.expand.norm.bias", "stem.conv3.norm.bias", "head.linear.bias"):
        model = copy.deepcopy(model_reference.exact)
        right = model(images).detach().numpy()
        with torch.no_grad():
            model.get_parameter(name).mul_(0.9)
            mine = model(images).numpy()
        cost = float((relative_error(mine, right) ** 2).mean() ** 0.5)
        assert cost == pytest.approx(0.1 * visible[name], rel=0.75)


def test_lone_tokens_have_no_attention_to_lose(model_reference: ReferenceModel) -> None:
    assert model_reference.trained.spec.windows[2] == 1
    assert not [
        name for name in visibility(model_reference) if name.startswith("stage3") and ".attention.bias." in name
    ]
