"""Faults planted in the rewrites from the trained to the deploy form: rejected at the stage `rewrite`, exit 1."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from efficientvit import deploy
from efficientvit.model import EfficientViT
from efficientvit.static import PooledClassifier, StaticAttention, StaticWindows
from export import pipeline
from export.outcome import Exit
from export.request import Request
from runtimes.base import Evidence
from validation import reference, rewrite

Plant = Callable[[EfficientViT], EfficientViT]


def _modules(model: nn.Module, kind: type[nn.Module]) -> list[nn.Module]:
    return [module for module in model.modules() if isinstance(module, kind)]


def wrong_epsilon(model: EfficientViT) -> EfficientViT:
    """BatchNorm folded with 1e-3 in place of 1e-5."""
    for norm in _modules(model, nn.BatchNorm2d):
        assert isinstance(norm, nn.BatchNorm2d)
        norm.eps = 1e-3
    return model


def stale_bias(model: EfficientViT) -> EfficientViT:
    """The attention bias as it was before the weights were loaded: zero."""
    attention = _modules(model, StaticAttention)[0]
    assert isinstance(attention, StaticAttention)
    attention.bias[1].zero_()
    return model


def wrong_heads_bias(model: EfficientViT) -> EfficientViT:
    """Two heads with each other's bias."""
    attention = _modules(model, StaticAttention)[-1]
    assert isinstance(attention, StaticAttention)
    first, second = attention.bias[0].clone(), attention.bias[1].clone()
    attention.bias[0].copy_(second)
    attention.bias[1].copy_(first)
    return model


def missing_scale(model: EfficientViT) -> EfficientViT:
    """One head's queries without 1/4."""
    attention = _modules(model, StaticAttention)[0]
    assert isinstance(attention, StaticAttention)
    conv = attention.q_depthwise[0]
    assert isinstance(conv, nn.Conv2d)
    assert conv.bias is not None
    conv.weight.mul_(4)
    conv.bias.mul_(4)
    return model


def forgotten_residual(model: EfficientViT) -> EfficientViT:
    """A depthwise residual not absorbed."""
    conv = model.stage2.get_submodule("block1.depthwise1")
    assert isinstance(conv, nn.Conv2d)
    conv.weight[:, 0, 1, 1] -= 1
    return model


def flipped_kernel(model: EfficientViT) -> EfficientViT:
    """A depthwise kernel upside down."""
    conv = model.stage1.get_submodule("block1.depthwise2")
    assert isinstance(conv, nn.Conv2d)
    conv.weight.copy_(conv.weight.flip(2))
    return model


def lost_projection_bias(model: EfficientViT) -> EfficientViT:
    """The bias of the convolution that was moved behind the average pool."""
    assert isinstance(model.head, PooledClassifier)
    assert isinstance(model.head.project, nn.Conv2d)
    assert model.head.project.bias is not None
    model.head.project.bias.zero_()
    return model


class _Transposed(StaticWindows):
    """Windows taken column by column, put back row by row."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.transpose(2, 3).contiguous())


def transposed_windows(model: EfficientViT) -> EfficientViT:
    """The windows' order transposed on the way in."""
    for module in model.modules():
        for name, child in module.named_children():
            if isinstance(child, StaticWindows):
                setattr(module, name, _Transposed(child.attention, child.grid, child.window))
    return model


def reversed_cascade(model: EfficientViT) -> EfficientViT:
    """The heads of one attention in reverse."""
    attention = _modules(model, StaticAttention)[1]
    assert isinstance(attention, StaticAttention)
    for name in ("q", "k", "v", "q_depthwise"):
        setattr(attention, name, nn.ModuleList(reversed(list(getattr(attention, name)))))
    return model


def tiny_bias(model: EfficientViT) -> EfficientViT:
    """One channel's bias off by a thousandth: nothing that a tolerance of 1e-3 would see."""
    conv = model.stem.get_submodule("conv1")
    assert isinstance(conv, nn.Conv2d)
    assert conv.bias is not None
    conv.bias[0] += 1e-3
    return model


@pytest.mark.parametrize(
    ("plant", "at"),
    [
        (wrong_epsilon, 0),
        (stale_bias, None),
        (wrong_heads_bias, None),
        (missing_scale, None),
        (forgotten_residual, None),
        (flipped_kernel, None),
        (lost_projection_bias, None),
        (transposed_windows, None),
        (reversed_cascade, None),
        (tiny_bias, None),
    ],
)
def test_planted_in_the_rewrites(plant: Plant, at: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rewrites = list(deploy.REWRITES)
    rewrites.insert(len(rewrites) if at is None else at, torch.no_grad()(plant))

    def faulty(model: EfficientViT) -> EfficientViT:
        return deploy.rewritten(model, tuple(rewrites))

    monkeypatch.setattr(rewrite, "rewritten", faulty)
    monkeypatch.setattr(reference, "to_deploy", lambda model: faulty(model).float())
    request = Request(("m0",), ("onnx",), weights="seeded", image_size=128, out=tmp_path, time=False)
    (outcome,) = pipeline.run(request, pipeline.Silent())
    assert outcome.code(Evidence.REFERENCE) is Exit.REJECTED
    assert outcome.rewrite is not None
    assert not outcome.rewrite.passed
    assert outcome.stages == []
