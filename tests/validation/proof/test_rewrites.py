"""The rewrites are proven, a wrong one is told by name, and a constant that is off by one unit as well."""

import copy
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from efficientvit.deploy import rewrites
from efficientvit.deploy.modules import PooledHead, StaticAttention, StaticWindows
from efficientvit.deploy.rewrites import REWRITES, Rewrite, to_deploy
from efficientvit.model import EfficientViT
from efficientvit.size import square
from efficientvit.spec import KEY_DIM, model_spec
from efficientvit.weights.seeded import seeded
from export.selftest.faults.rewrites import FAULTS, RewriteFault
from export.selftest.planting import rng_for
from validation.proof.rewrites import audit, prove_rewrites

OF_CONSTANTS = {"batch_statistics", "nudged_bias", "rounded_constants"}
"""Planted by numbers that only floating point has: the audit's business."""

SEEDS = {"rounded_constants": 1}
"""One that rounds to less than float32: to float32 everything is rounded anyway."""


@pytest.mark.parametrize(
    ("name", "size"),
    [("m0", 224), ("m1", 64), ("m2", 96), ("m3", 64), ("m4", 96), ("m5", 64)],
)
def test_all_are_proven_and_rounded_once(name: str, size: int) -> None:
    model = seeded(model_spec(name, square(size)))
    steps = prove_rewrites(model)
    assert [(step.name, step.proven, step.detail) for step in steps] == [(r.__name__, True, "") for r in REWRITES]
    assert list(audit(model, to_deploy(model))) == []


@pytest.fixture(scope="module")
def model() -> EfficientViT:
    """Windows of more than one token, a grid that they don't divide."""
    return seeded(model_spec("m0", square(128)))


def _together(steps: Sequence[Rewrite]) -> Rewrite:
    """As one: each of them is proven above."""

    def together(form: EfficientViT) -> EfficientViT:
        for step in steps:
            form = step(form)
        return form

    return together


Change = Callable[[EfficientViT], None]


def _squared(model: EfficientViT) -> None:
    conv = model.get_submodule("stem.conv2")
    assert isinstance(conv, nn.Conv2d)
    conv.weight.mul_(conv.weight)


def _bias_forgotten(model: EfficientViT) -> None:
    model.get_submodule("stem.conv3").get_parameter("bias").zero_()


def _tap(model: EfficientViT) -> None:
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.groups == module.in_channels and module.stride == (1, 1):
            module.weight[:, 0, 1, 1] -= 1
            module.weight[:, 0, 1, 0] += 1
            return


def _query_bias(model: EfficientViT) -> None:
    conv = next(rewrites._attentions(model)).q_depthwise[1]
    assert isinstance(conv, nn.Conv2d)
    assert conv.bias is not None
    conv.bias *= 4


def _value_bias(model: EfficientViT) -> None:
    conv = next(rewrites._attentions(model)).qkv[0]
    assert isinstance(conv, nn.Conv2d)
    assert conv.bias is not None
    conv.bias[2 * KEY_DIM :] = 0


class _OtherSide(StaticWindows):
    def forward(self, x: Tensor) -> Tensor:
        margin = (self.right, 0, self.below, 0)
        padded = functional.pad(x, margin)[:, :, : self.grid.height, : self.grid.width]
        y: Tensor = super().forward(padded)
        return y


def _padding(model: EfficientViT) -> None:
    padded = [each for each in model.modules() if isinstance(each, StaticWindows) and each.below]
    assert padded
    padded[0].__class__ = _OtherSide


class _TooEarly(PooledHead):
    def forward(self, x: Tensor) -> Tensor:
        hidden = self.relu(self.expand(x).mean((2, 3), keepdim=True))
        y: Tensor = self.linear((x.mean((2, 3), keepdim=True) + self.project(hidden)).flatten(1))
        return y


class _WrongAxis(PooledHead):
    def forward(self, x: Tensor) -> Tensor:
        hidden = self.relu(self.expand(x)).mean((3,), keepdim=True)[:, :, :1]
        y: Tensor = self.linear((x.mean((2, 3), keepdim=True) + self.project(hidden)).flatten(1))
        return y


def _early(model: EfficientViT) -> None:
    model.head.__class__ = _TooEarly


def _axis(model: EfficientViT) -> None:
    model.head.__class__ = _WrongAxis


class _NotMasked(StaticAttention):
    def _mixed(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
        return super()._mixed(q, k, v, bias.transpose(0, 1).flip(0))


def _bias_matrix(model: EfficientViT) -> None:
    next(each for each in model.modules() if isinstance(each, StaticAttention)).__class__ = _NotMasked


@pytest.mark.parametrize(
    ("rewrite", "change"),
    [
        ("fold_norms", _bias_forgotten),
        ("fold_norms", _squared),
        ("absorb_depthwise_residuals", _tap),
        ("fold_query_scale", _query_bias),
        ("drop_key_bias", _value_bias),
        ("static_attention", _bias_matrix),
        ("static_windows", _padding),
        ("pool_before_projection", _early),
        ("pool_before_projection", _axis),
    ],
)
def test_a_wrong_one_is_told_by_name(rewrite: str, change: Change, model: EfficientViT) -> None:
    def spoiled(right: Rewrite) -> Rewrite:
        @torch.no_grad()
        def wrong(form: EfficientViT) -> EfficientViT:
            form = right(form)
            change(form)
            return form

        wrong.__name__ = rewrite
        return wrong

    place = [step.__name__ for step in REWRITES].index(rewrite)
    found = prove_rewrites(model, (_together(REWRITES[:place]), spoiled(REWRITES[place])))
    assert [step.name for step in found if not step.proven] == [rewrite]


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_planted_fault_is_no_identity_or_not_what_is_rounded(fault: RewriteFault, model: EfficientViT) -> None:
    def plant(form: EfficientViT) -> EfficientViT:
        with torch.no_grad():
            fault.plant(form, rng_for(SEEDS.get(str(fault), 5), str(fault)))
        return form

    if str(fault) in OF_CONSTANTS:
        steps = (plant, *REWRITES) if fault.first else (*REWRITES, plant)
        assert list(audit(model, rewrites.rewritten(model, steps).float()))
        return
    found = prove_rewrites(model, (plant,) if fault.first else (_together(REWRITES), plant))
    assert [step.name for step in found if not step.proven] == ["plant"]


def test_a_constant_that_is_off_by_one_unit_is_named(model: EfficientViT) -> None:
    deploy = copy.deepcopy(to_deploy(model))
    weight = deploy.get_parameter("stem.conv3.weight")
    with torch.no_grad():
        weight[0, 0, 1, 1] = torch.nextafter(weight[0, 0, 1, 1], torch.tensor(torch.inf))
    (found,) = audit(model, deploy)
    assert (found.name, found.wrong) == ("stem.conv3.weight", 1)
    assert 0.5 < found.ulps <= 1.5


def test_between_two_floats_float64_may_take_either(model: EfficientViT) -> None:
    """A weight of M4, seed 2: folded, it is 4e-11 units past the middle, which float64 rounds to the middle first."""
    tied = copy.deepcopy(model)
    held = tied.state_dict()
    numbers = {"conv.weight": "-0x1.268f62p-4", "norm.weight": "0x1.6b267ep+0", "norm.running_var": "0x1.76p+1"}
    with torch.no_grad():
        for name, number in numbers.items():
            held[f"stage3.downsample.merge.expand.{name}"].flatten()[0] = float.fromhex(number)
    deploy = to_deploy(tied)
    stored = deploy.get_parameter("stage3.downsample.merge.expand.weight").flatten()[0]
    assert stored == torch.tensor(float.fromhex("-0x1.e8e60ep-5"))
    assert list(audit(tied, deploy)) == []
