"""Faults in the rewrites from the trained to the deploy form."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from efficientvit.deploy.modules import PooledHead, StaticAttention, StaticWindows
from efficientvit.model import EfficientViT
from export.selftest.faults.fault import Rng

Plant = Callable[[EfficientViT, Rng], str]
"""Spoils the model in place and says how, for the message of a failure."""


@dataclass(frozen=True, slots=True)
class RewriteFault:
    """What is planted, and before which rewrite: the first, or none of them."""

    plant: Plant
    first: bool = False

    def __str__(self) -> str:
        return self.plant.__name__


FAULTS: list[RewriteFault] = []


def fault(*, first: bool = False) -> Callable[[Plant], Plant]:
    """Enter a function that plants a fault in `FAULTS`, in order of definition."""

    def collect(plant: Plant) -> Plant:
        FAULTS.append(RewriteFault(plant, first))
        return plant

    return collect


def _pick(model: nn.Module, kind: type[nn.Module], rng: Rng, ending: str = "") -> tuple[str, Any]:
    found = [(name, m) for name, m in model.named_modules() if type(m) is kind and name.endswith(ending)]
    return found[int(rng.integers(len(found)))]


def _two_heads(rng: Rng, attention: StaticAttention) -> tuple[int, int]:
    first, second = rng.choice(attention.heads, 2, replace=False)
    return int(first), int(second)


@fault(first=True)
def wrong_epsilon(model: EfficientViT, rng: Rng) -> str:
    """BatchNorm folded with another epsilon than 1e-5."""
    epsilon = float(1e-5 * 10 ** rng.uniform(0.01, 2))
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d | nn.BatchNorm1d):
            norm.eps = epsilon
    return f"{epsilon}"


@fault(first=True)
def one_wrong_epsilon(model: EfficientViT, rng: Rng) -> str:
    """The same in one layer of the hundred."""
    name, norm = _pick(model, nn.BatchNorm2d, rng)
    norm.eps = float(1e-5 * 10 ** rng.uniform(0.01, 2))
    return f"{name}: {norm.eps}"


@fault(first=True)
def batch_statistics(model: EfficientViT, rng: Rng) -> str:
    """One BatchNorm folded with the statistics of a batch in place of the running ones."""
    name, norm = _pick(model, nn.BatchNorm2d, rng)
    seen: list[Tensor] = []
    handle = norm.register_forward_hook(lambda _, given, __: seen.append(given[0]))
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    model(torch.randn(model.spec.image_size.nchw(4), generator=generator, dtype=norm.weight.dtype))
    handle.remove()
    norm.running_mean.copy_(seen[0].mean((0, 2, 3)))
    norm.running_var.copy_(seen[0].var((0, 2, 3)))
    return name


@fault()
def stale_bias(model: EfficientViT, rng: Rng) -> str:
    """The attention bias as it was before the weights were loaded."""
    name, attention = _pick(model, StaticAttention, rng)
    head = int(rng.integers(attention.heads))
    attention.bias[head].zero_()
    return f"{name}.{head}"


@fault()
def wrong_heads_bias(model: EfficientViT, rng: Rng) -> str:
    """Two heads with each other's bias."""
    name, attention = _pick(model, StaticAttention, rng)
    first, second = _two_heads(rng, attention)
    swapped = attention.bias[second].clone(), attention.bias[first].clone()
    attention.bias[first].copy_(swapped[0])
    attention.bias[second].copy_(swapped[1])
    return f"{name}: {first}, {second}"


@fault()
def shifted_bias(model: EfficientViT, rng: Rng) -> str:
    """The bias matrix of tokens that are off by one."""
    name, attention = _pick(model, StaticAttention, rng)
    attention.bias[0].copy_(attention.bias[0].roll(1, dims=0))
    return name


@fault()
def missing_scale(model: EfficientViT, rng: Rng) -> str:
    """One head's queries without 1/4."""
    name, attention = _pick(model, StaticAttention, rng)
    conv = attention.q_depthwise[int(rng.integers(attention.heads))]
    conv.weight.mul_(4)
    conv.bias.mul_(4)
    return name


@fault()
def forgotten_residual(model: EfficientViT, rng: Rng) -> str:
    """A depthwise residual not absorbed."""
    name, conv = _pick(model, nn.Conv2d, rng, "depthwise1")
    conv.weight[:, 0, 1, 1] -= 1
    return name


@fault()
def residual_beside_the_center(model: EfficientViT, rng: Rng) -> str:
    """A depthwise residual on the tap next to the center."""
    name, conv = _pick(model, nn.Conv2d, rng, "depthwise2")
    conv.weight[:, 0, 1, 1] -= 1
    conv.weight[:, 0, 1, 2] += 1
    return name


@fault()
def flipped_kernel(model: EfficientViT, rng: Rng) -> str:
    """A depthwise kernel upside down or left to right."""
    name, conv = _pick(model, nn.Conv2d, rng, "depthwise2")
    axis = int(rng.integers(2, 4))
    conv.weight.copy_(conv.weight.flip(axis))
    return f"{name}: axis {axis}"


@fault()
def lost_projection_bias(model: EfficientViT, rng: Rng) -> str:
    """The bias of the convolution that was moved behind the average pool."""
    assert isinstance(model.head, PooledHead)
    assert isinstance(model.head.project, nn.Conv2d)
    assert model.head.project.bias is not None
    model.head.project.bias.zero_()
    return "head"


class _Transposed(StaticWindows):
    """Windows taken column by column, put back row by row."""

    def forward(self, x: Tensor) -> Tensor:
        padding = (0, self.right, 0, self.below)
        cells = [row.split(self.window, dim=3) for row in functional.pad(x, padding).split(self.window, dim=2)]
        across = [cell for column in zip(*cells, strict=True) for cell in column]
        rows = [torch.cat(across[i : i + self.across], dim=3) for i in range(0, len(across), self.across)]
        y: Tensor = super().forward(torch.cat(rows, dim=2)[:, :, : self.grid.height, : self.grid.width])
        return y


@fault()
def transposed_windows(model: EfficientViT, rng: Rng) -> str:
    """The windows' order transposed on the way in; each is as it was inside."""
    count = 0
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, StaticWindows):
                setattr(module, name, _Transposed(child.attention, child.grid, child.window))
                count += min(child.down, child.across) > 1
    assert count, "no grid has more than one window"
    return f"{count} window attentions"


@fault()
def reversed_cascade(model: EfficientViT, rng: Rng) -> str:
    """The heads of one attention in reverse."""
    name, attention = _pick(model, StaticAttention, rng)
    for part in ("q", "k", "v", "q_depthwise"):
        setattr(attention, part, nn.ModuleList(reversed(list(getattr(attention, part)))))
    return name


class _OverTheQueries(StaticAttention):
    """The softmax over the other axis: the sizes are equal, so nothing complains."""

    def _head(self, i: int, x: Tensor) -> Tensor:
        tokens = self.window**2
        q = self.q_depthwise[i](self.q[i](x)).reshape(-1, 16, tokens)
        k = self.k[i](x).reshape(-1, 16, tokens)
        v = self.v[i](x).reshape(-1, self.head_dim, tokens)
        scores = k.transpose(1, 2) @ q + self.bias[i]
        y: Tensor = (v @ scores.softmax(dim=2)).reshape(-1, self.head_dim, self.window, self.window)
        return y


@fault()
def wrong_softmax(model: EfficientViT, rng: Rng) -> str:
    """One attention normalized over the queries."""
    name, attention = _pick(model, StaticAttention, rng)
    attention.__class__ = _OverTheQueries
    return name


@fault()
def nudged_bias(model: EfficientViT, rng: Rng) -> str:
    """One channel's bias off by 1e-9 to 1e-3: nothing that a tolerance of 1e-3 would see."""
    name, conv = _pick(model, nn.Conv2d, rng, "expand")
    delta = 10 ** rng.uniform(-9, -3)
    # The channel that fires the most: one that its ReLU closes shows nothing.
    conv.bias[int(conv.bias.argmax())] += delta
    return f"{name}: {delta:.1e}"


@fault()
def rounded_constants(model: EfficientViT, rng: Rng) -> str:
    """One tensor rounded to float32 on the way, or to less."""
    name, conv = _pick(model, nn.Conv2d, rng)
    dtype = (torch.float32, torch.float16, torch.bfloat16)[int(rng.integers(3))]
    conv.weight.copy_(conv.weight.to(dtype))
    return f"{name}: {dtype}"
