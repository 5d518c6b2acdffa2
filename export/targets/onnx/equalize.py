"""Stage `equalize`: the float32 file that int8 is made of, with its channels scaled to like ranges.

int8 has one scale for a tensor, and a channel whose values are a quarter of the largest channel's has a quarter of the
integers. Most of what int8 costs EfficientViT is lost there, in the stream (docs/int8.md). Scaled up, such a channel is
rounded more finely; what reads it has the inverse in its weights, which have scales by channel of their own.
"""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from efficientvit.deploy.equalization import STEPS, Equalization, Group, groups
from efficientvit.model import EfficientViT
from runtimes.artifact import Artifact
from runtimes.onnx.graph import load_onnx, write_onnx
from runtimes.precision import Precision
from runtimes.runtime import Array

_SHARE = 3 / 4
"""Of the distance to the largest channel, in powers: the rest is room for values that calibration did not see."""

_MOST, _LARGEST_DIGIT = 3.0, 9
"""Channels further below than 2^3 are taken for that far below."""

_IMAGES_AT_ONCE, _TINY = 8, 1e-30


def chosen(deploy: EfficientViT, images: Array) -> Equalization:
    """The factors that (n, 3, H, W) normalized float32 `images` ask for."""
    known = list(groups(deploy))
    peaks = dict(_peaks(deploy, known, images))
    return tuple(sorted((group.name, _digits(peaks, group)) for group in known))


def _digits(peaks: dict[nn.Module, Tensor], group: Group) -> str:
    shares = torch.stack([peaks[module] / peaks[module].max().clamp(min=_TINY) for module in group.seen]).double()
    below = -shares.clamp(min=2.0**-_MOST).log2().mean(0)  # (channels,) powers of two below the largest
    digits = (STEPS * _SHARE * below).round().clamp(0, _LARGEST_DIGIT).int()
    return "".join(map(str, digits.tolist()))


@torch.no_grad()
def _peaks(deploy: EfficientViT, known: list[Group], images: Array) -> Iterator[tuple[nn.Module, Tensor]]:
    """Of each module that is seen, the largest magnitude by channel."""
    found: dict[nn.Module, Tensor] = {}

    def see(module: nn.Module, _: object, result: Tensor) -> None:
        largest = result.abs().amax((0, *range(2, result.dim())))
        found[module] = torch.maximum(found[module], largest) if module in found else largest

    hooks = [module.register_forward_hook(see) for group in known for module in group.seen]
    try:
        for start in range(0, len(images), _IMAGES_AT_ONCE):
            deploy(torch.tensor(images[start : start + _IMAGES_AT_ONCE]))
    finally:
        for hook in hooks:
            hook.remove()
    yield from found.items()


def equalize(source: Artifact, form: EfficientViT, equalization: Equalization, out: Path) -> Artifact:
    """Write `source` with the constants of `form`, the deploy form with these factors."""
    import onnx

    model, state = load_onnx(source.path), form.state_dict()
    for held in model.graph.initializer:
        if held.name in state:
            shape = tuple(held.dims)
            value = state[held.name].numpy().reshape(shape)
            held.CopyFrom(onnx.numpy_helper.from_array(value, held.name))
    write_onnx(model, out)
    notes = (f"{len(equalization)} tensors' channels scaled to like ranges",)
    precision = Precision(equalization=equalization)
    return source.becomes(out, "equalize", precision=precision, tools=source.tools, notes=notes)
