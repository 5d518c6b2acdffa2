"""The modules of the deploy form by themselves."""

import pytest
import torch
from torch import nn

from efficientvit.deploy.modules import LoneTokenAttention, StaticAttention, StaticWindows, TokenAttention
from efficientvit.deploy.rewrites import classifier_of_a_pixel, fold_norms, fold_query_scale, rewritten, to_deploy
from efficientvit.model import CascadedGroupAttention, EfficientViT, WindowAttention
from efficientvit.size import square
from efficientvit.spec import model_spec
from efficientvit.weights.seeded import seeded


def _folded(size: int = 64) -> EfficientViT:
    return rewritten(seeded(model_spec("m0", square(size))), (fold_norms, fold_query_scale))


def _attention(model: EfficientViT, stage: str) -> CascadedGroupAttention:
    attention = model.get_submodule(f"{stage}.block1.mixer.branch.attention")
    assert isinstance(attention, CascadedGroupAttention)
    return attention


@torch.no_grad()
def test_the_bias_must_be_symmetric() -> None:
    """Scores are kept transposed: with a table of signed offsets that would be another model."""
    attention = _attention(_folded(), "stage1")
    attention.bias_index[0, 1] = 5
    with pytest.raises(AssertionError, match="symmetric"):
        StaticAttention(attention)


def test_what_has_to_come_first() -> None:
    model = seeded(model_spec("m0", square(64)))
    with pytest.raises(AssertionError, match="fold the norms first"), torch.no_grad():
        StaticAttention(_attention(model, "stage1"))
    with pytest.raises(AssertionError, match="fold the query scale first"), torch.no_grad():
        StaticAttention(_attention(rewritten(model, (fold_norms,)), "stage1"))


@torch.no_grad()
@pytest.mark.parametrize("stage", ["stage1", "stage2", "stage3"])
def test_attention_is_the_trained_one(stage: str) -> None:
    trained = _attention(_folded(), stage)
    static: torch.nn.Module = StaticAttention(trained)
    side, channels = trained.window, trained.heads * trained.head_dim
    x = torch.randn(3, channels, side, side, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.allclose(static(x), trained(x), rtol=1e-12, atol=1e-12)
    assert isinstance(static, StaticAttention)
    reordered = TokenAttention(static)
    assert torch.allclose(reordered(x), trained(x), rtol=1e-12, atol=1e-12)
    assert set(reordered.state_dict()) == set(static.state_dict())
    if side == 1:
        static = LoneTokenAttention(static)
        assert torch.allclose(static(x), trained(x), rtol=1e-12, atol=1e-12)


@torch.no_grad()
@pytest.mark.parametrize(("size", "padding"), [(128, 6), (224, 0), (240, 6)])
def test_windows_are_the_trained_ones_for_any_batch(size: int, padding: int) -> None:
    trained = _folded(size).get_submodule("stage1.block1.mixer.branch")
    assert isinstance(trained, WindowAttention)
    static = StaticWindows(trained.attention, trained.grid, trained.window)
    assert (static.below, static.right) == (padding, padding)
    grid = trained.grid
    x = torch.randn(5, 64, grid.height, grid.width, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.allclose(static(x), trained(x), rtol=1e-12, atol=1e-12)
    assert torch.allclose(static(x[2:3]), trained(x)[2:3], rtol=1e-12, atol=1e-12)


@torch.no_grad()
def test_the_classifier_of_a_pixel_is_the_classifier() -> None:
    deploy = to_deploy(seeded(model_spec("m0", square(64)))).double()
    other = classifier_of_a_pixel(deploy)
    x = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.allclose(other(x), deploy(x), rtol=1e-12, atol=1e-12)
    assert not any(isinstance(each, nn.Linear) for each in other.modules())
    assert [*other.state_dict()] == [*deploy.state_dict()]
    for ours, theirs in zip(other.state_dict().values(), deploy.state_dict().values(), strict=True):
        assert torch.equal(ours.flatten(), theirs.flatten())
