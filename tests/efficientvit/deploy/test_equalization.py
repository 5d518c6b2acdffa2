"""Channels scaled by factors and back: the model computes the same, whatever the factors are."""

import random

import pytest
import torch

from efficientvit.deploy.equalization import Equalization, equalized, factors, groups
from efficientvit.deploy.rewrites import rewritten
from efficientvit.errors import BadInput
from efficientvit.head import Head
from efficientvit.model import EfficientViT, tensors_of
from efficientvit.size import square
from efficientvit.spec import model_spec
from efficientvit.weights.seeded import seeded


def drawn(deploy: EfficientViT, seed: int = 0) -> Equalization:
    """Factors at random for every group."""
    rng = random.Random(seed)
    return tuple((each.name, "".join(rng.choices("0123456789", k=each.width))) for each in groups(deploy))


@pytest.mark.parametrize(
    ("name", "size", "head"),
    [("m0", 224, "logits"), ("m1", 64, "logits"), ("m4", 96, "features"), ("m0", 128, "features:1,3"),
     ("m2", 96, "embedding")],
)  # fmt: skip
def test_the_model_computes_the_same(name: str, size: int, head: str) -> None:
    deploy = rewritten(seeded(model_spec(name, square(size), head=Head.parse(head))))
    images = torch.randn(2, 3, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    chosen = drawn(deploy)
    for found, meant in zip(tensors_of(equalized(deploy, chosen)(images)), tensors_of(deploy(images)), strict=True):
        assert float((found - meant).norm() / meant.norm()) < 1e-13


def test_factors_are_positive_and_one_in_the_middle() -> None:
    assert factors("0489").tolist() == [0.5, 1.0, 2.0, 2.0**1.25]


def test_the_form_itself_is_left_alone() -> None:
    deploy = rewritten(seeded(model_spec("m0", square(64))))
    before = {name: value.clone() for name, value in deploy.state_dict().items()}
    result = equalized(deploy, drawn(deploy))
    assert all(torch.equal(before[name], value) for name, value in deploy.state_dict().items())
    changed = {name for name, value in result.state_dict().items() if not torch.equal(before[name], value)}
    assert {"stem.conv1.weight", "stem.conv2.weight", "head.linear.weight"} <= changed
    assert not any(".bias." in name for name in changed), "attention biases have no channels"


def test_each_group_is_as_wide_as_what_it_scales() -> None:
    for group in groups(rewritten(seeded(model_spec("m3", square(96))))):
        assert group.seen
        assert group.readers
        rows = sum(conv.out_channels for conv, _ in group.writers)
        assert rows >= group.width
        for layer, channels, columns in group.readers:
            width = len(range(group.width)[channels])
            inputs = layer.weight.shape[1] if columns is not None else layer.weight.shape[0]
            assert width == len(range(inputs)[columns if columns is not None else slice(None)])


@pytest.mark.parametrize("asked", [("stem.conv9", "4444"), ("stem.conv1", "4"), ("stem.conv1", "x" * 8)])
def test_a_group_that_is_not_there_is_refused(asked: tuple[str, str]) -> None:
    with pytest.raises(BadInput, match=asked[0]):
        equalized(rewritten(seeded(model_spec("m0", square(64)))), (asked,))
