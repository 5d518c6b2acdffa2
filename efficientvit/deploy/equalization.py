"""Equalization: channels of a tensor that int8 rounds by one scale are given like ranges, and the model stays the same.

A *group* is what one factor for each channel goes through: its writers' output channels are multiplied by the factors,
its readers' input channels divided by them. In between are sums, splits, windows, means and ReLUs, which pass a
positive factor on. In EfficientViT these are the stem's activations and the stream of each stage, from one depthwise
convolution to the next: a depthwise convolution reads one group and writes the next. A head of an attention is added to
the slice of the stream that the next head reads, so its values have that slice's factors.

What is an output of the model is in no group.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor, nn

from efficientvit.copies import copied
from efficientvit.deploy.modules import LoneTokenAttention, PooledHead, StaticAttention, StaticWindows
from efficientvit.errors import BadInput
from efficientvit.model import EfficientViT, Residual

Equalization = tuple[tuple[str, str], ...]
"""Group and a digit d for each of its channels, whose factor is 2^((d - 4) / 4): from 1/2 to 2.4."""

MIDDLE, STEPS = 4, 4
_ALL = slice(None)


@dataclass(frozen=True, slots=True)
class Group:
    """The layers around one tensor, or several that are added up.

    `writers`: a layer, and which of the group's channels its output channels are. `readers`: a layer, which channels it
    reads, and which of its input channels these are; None of a depthwise convolution, which has its own for each.
    `relus`: on the way, with the channels of the group and of the ReLU. `seen`: modules whose results have all channels
    of the group.
    """

    name: str
    width: int
    writers: list[tuple[nn.Conv2d, slice]]
    readers: list[tuple[nn.Conv2d | nn.Linear, slice, slice | None]] = field(default_factory=list)
    relus: list[tuple[nn.Module, slice, slice]] = field(default_factory=list)
    seen: list[nn.Module] = field(default_factory=list)


def groups(deploy: EfficientViT) -> Iterator[Group]:
    """Those of a deploy form, in the order of its operators."""
    return (group for group in _tensors(deploy) if group.writers)


def _tensors(deploy: EfficientViT) -> Iterator[Group]:
    """And those that are outputs, without writers."""
    stem = dict(deploy.stem.named_children())
    group = _of("stem.conv1", stem["conv1"])
    for number in (1, 2, 3):
        relu, after = stem[f"relu{number}"], f"conv{number + 1}"
        group.relus.append((relu, _ALL, _ALL))
        group.seen.append(relu)
        group.readers.append((_conv(stem[after]), _ALL, _ALL))
        yield group
        group = _of(f"stem.{after}", stem[after])
    group.seen.append(stem["conv4"])
    for number in range(1, deploy.spec.head.last_stage + 1):
        for name, block in deploy.stage(number).named_children():
            for part, module in block.named_children():
                path = f"stage{number}.{name}.{part}"
                match part:
                    case "depthwise1" | "depthwise2":
                        group.readers.append((_conv(module), _ALL, None))
                        yield group
                        group = _of(path, module)
                        group.seen.append(module)
                    case "merge":
                        _read(group, module.get_submodule("expand"))
                        yield group
                        group = _of(f"{path}.project", module.get_submodule("project"))
                        group.seen.append(module.get_submodule("project"))
                    case "mixer":
                        _attend(group, module)
                    case _ if isinstance(module, Residual):  # the last one of a classifier is in its head
                        _read(group, module.branch.get_submodule("expand"))
                        group.writers.append((_conv(module.branch.get_submodule("project")), _ALL))
                        group.seen.append(module)
        if number in deploy.spec.head.stages:  # a map that the model gives: its channels are what they are
            group = Group("", group.width, [])
    head = deploy.head
    if isinstance(head, PooledHead) and isinstance(head.linear, nn.Linear):
        _read(group, head.expand)
        group.writers.append((_conv(head.project), _ALL))
        group.readers.append((head.linear, _ALL, _ALL))
        yield group


def _conv(module: nn.Module) -> nn.Conv2d:
    return cast(nn.Conv2d, module)


def _of(name: str, writer: nn.Module) -> Group:
    conv = _conv(writer)
    return Group(name, conv.out_channels, [(conv, _ALL)])


def _read(group: Group, conv: nn.Module) -> None:
    group.readers.append((_conv(conv), _ALL, _ALL))


def _attend(group: Group, mixer: nn.Module) -> None:
    assert isinstance(mixer, Residual)
    attention = mixer.branch.attention if isinstance(mixer.branch, StaticWindows) else mixer.branch
    assert isinstance(attention, StaticAttention | LoneTokenAttention)
    width = attention.head_dim
    heads = [slice(start, start + width) for start in range(0, group.width, width)]
    for head, own in enumerate(heads):
        read = (attention.q, attention.k, attention.v) if isinstance(attention, StaticAttention) else (attention.v,)
        group.readers.extend((_conv(convs[head]), own, _ALL) for convs in read)
    for head, following in enumerate(heads[1:]):
        group.writers.append((_conv(attention.v[head]), following))
        group.relus.append((attention.relu, following, heads[head]))
        group.readers.append((_conv(attention.project), following, heads[head]))
    group.writers.append((_conv(attention.project), _ALL))
    group.seen.append(mixer)


def factors(digits: str) -> Tensor:
    """(channels,) float64, all positive."""
    return torch.tensor([2.0 ** ((int(digit) - MIDDLE) / STEPS) for digit in digits], dtype=torch.float64)


@torch.no_grad()
def equalized(deploy: EfficientViT, equalization: Equalization) -> EfficientViT:
    """A copy of a deploy form with the factors in its weights and biases.

    Raises:
        BadInput: there is no such group, or it has another number of channels.
    """
    result = copied(deploy)
    equalize(result, equalization)
    return result


@torch.no_grad()
def equalize(deploy: EfficientViT, equalization: Equalization) -> EfficientViT:
    """The same in place."""
    for group, by in _each(deploy, equalization):
        for writer, channels in group.writers:
            own = by[channels]
            writer.weight.mul_(own.reshape(-1, 1, 1, 1))
            assert writer.bias is not None
            writer.bias.mul_(own)
        for reader, channels, columns in group.readers:
            own = by[channels]
            if columns is None:
                reader.weight.div_(own.reshape(-1, 1, 1, 1))
            else:
                reader.weight[:, columns].div_(own.reshape(1, -1, *[1] * (reader.weight.dim() - 2)))
    return deploy


class ScaledReLU(nn.Module):
    """factor * ReLU(x / factor), by channel, which is ReLU(x) for positive factors: for proofs, never exported."""

    def __init__(self, by: Tensor) -> None:
        super().__init__()
        self.by = by.reshape(1, -1, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Keeps the shape."""
        return self.by * (x / self.by).relu()


def with_scaled_relus(deploy: EfficientViT, equalization: Equalization) -> EfficientViT:
    """Write each ReLU that factors go through as the same function of its input without them, in place."""
    by_relu: dict[nn.Module, Tensor] = {}
    for group, by in _each(deploy, equalization):
        for relu, channels, own in group.relus:
            whole = by_relu.setdefault(relu, torch.ones(group.width, dtype=torch.float64))
            whole[own] = by[channels]
    for module in list(deploy.modules()):
        for name, child in list(module.named_children()):
            if child in by_relu:
                setattr(module, name, ScaledReLU(by_relu[child]))
    return deploy


def _each(deploy: EfficientViT, equalization: Equalization) -> Iterator[tuple[Group, Tensor]]:
    asked: Mapping[str, str] = dict(equalization)
    there = {group.name: group for group in groups(deploy)}
    for name, digits in asked.items():
        if name not in there or there[name].width != len(digits) or not digits.isdecimal() or not digits.isascii():
            raise BadInput(
                f"the model has no tensor '{name}' of {len(digits)} channels to equalize",
                expected="a group of the deploy form, and a digit for each of its channels",
                got=f"'{digits[:12]}'",
                next_step="export the artifact again",
            )
    yield from ((group, factors(asked[name])) for name, group in there.items() if name in asked)
