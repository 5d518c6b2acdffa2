"""The trained form with int8's roundings in it, through which gradients pass as if nothing was rounded.

Weights are rounded as they will be, per channel after the normalization behind them is folded in. Activations are
rounded where most of int8's cost is: what convolutions read and what residuals add up to, within ranges that were seen
on images, channel by channel as far as equalization will bring them to like ranges. It is a model of the file, not the
file: attention products, gates and the classifier's weights are left out, and what comes of it is judged as ever.
"""

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from efficientvit.model import ConvNorm, EfficientViT, FeedForward, PatchMerging, Residual

LARGEST, LEVELS = 127, 255
_SHARE, _MOST = 3 / 4, 3.0
"""Of what a channel lacks to the largest, in powers of two, and the most that it may: as stage `equalize` has it."""

_TINY = 1e-12


class Range:
    """The values of one tensor (B, C, H, W): `equalized`, its channels' scales follow their own largest values."""

    def __init__(self, *, equalized: bool) -> None:
        self.equalized, self.seeing = equalized, True
        self._low: Tensor | None = None
        self._high: Tensor | None = None

    def take(self, other: "Range") -> None:
        """What the other has seen, to round to it."""
        self._low, self._high, self.seeing = other._low, other._high, False

    def __call__(self, x: Tensor) -> Tensor:
        """The tensor itself while it is seen, then rounded."""
        if self.seeing:
            low, high = x.detach().amin((0, 2, 3)).clamp(max=0), x.detach().amax((0, 2, 3)).clamp(min=0)
            self._low = low if self._low is None else torch.minimum(self._low, low)
            self._high = high if self._high is None else torch.maximum(self._high, high)
            return x
        assert self._low is not None
        assert self._high is not None
        peaks = torch.maximum(-self._low, self._high)
        share = (peaks / peaks.max().clamp(min=_TINY)).clamp(min=2.0**-_MOST) ** (_SHARE if self.equalized else 0.0)
        share = share.reshape(1, -1, 1, 1)
        low, high = (self._low / share.flatten()).min() * share, (self._high / share.flatten()).max() * share
        scale = ((high - low) / LEVELS).clamp(min=_TINY)
        within = torch.minimum(torch.maximum(x, low), high)
        return within + ((within / scale).round() * scale - within).detach()


class RoundedConvNorm(nn.Module):
    """A `ConvNorm` with its parameters, as one convolution with int8 weights; `residual`: it adds its input."""

    def __init__(self, module: ConvNorm, reads: Range | None, *, residual: bool = False) -> None:
        super().__init__()
        self.conv, self.norm = module.conv, module.norm
        self.range, self._residual = reads, residual

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, ceil(H / stride), ceil(W / stride))."""
        conv, norm = self.conv, self.norm
        assert norm.running_mean is not None
        assert norm.running_var is not None
        factor = norm.weight / (norm.running_var + norm.eps).sqrt()
        weight = conv.weight * factor[:, None, None, None]
        if self._residual:
            middle = torch.zeros_like(weight)
            middle[:, 0, conv.kernel_size[0] // 2, conv.kernel_size[1] // 2] = 1
            weight = weight + middle
        x = x if self.range is None else self.range(x)
        bias = norm.bias - norm.running_mean * factor
        return functional.conv2d(x, _rounded(weight), bias, conv.stride, conv.padding, groups=conv.groups)


class RoundedResidual(nn.Module):
    """A `Residual` whose sum is rounded."""

    def __init__(self, module: Residual) -> None:
        super().__init__()
        branch = module.branch
        self.absorbed = isinstance(branch, ConvNorm)  # as the deploy form has it: 1 more on the center tap
        self.branch = RoundedConvNorm(branch, None, residual=True) if isinstance(branch, ConvNorm) else branch
        self.range = Range(equalized=True)

    def forward(self, x: Tensor) -> Tensor:
        """Keeps the shape."""
        return self.range(self.branch(x) if self.absorbed else x + self.branch(x))


def rounded_form(model: EfficientViT) -> EfficientViT:
    """A copy with roundings, and with the same names in its state; its normalizations keep their statistics."""
    result = copy.deepcopy(model).eval()
    for module in list(result.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, Residual):
                setattr(module, name, RoundedResidual(child))
    for module in list(result.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, ConvNorm):
                # The stream was rounded where it was added up.
                reads_stream = isinstance(module, FeedForward) and name == "expand"
                hidden = isinstance(module, FeedForward | PatchMerging) and name != "expand"
                setattr(module, name, RoundedConvNorm(child, None if reads_stream else Range(equalized=not hidden)))
    return result


def ranges(model: nn.Module) -> Iterator[Range]:
    """Every range of a rounded form."""
    for module in model.modules():
        found = getattr(module, "range", None)
        if isinstance(found, Range):
            yield found


def _rounded(weight: Tensor) -> Tensor:
    """(out, ...): symmetric int8 with a scale for each output channel."""
    peak = weight.detach().abs().amax(tuple(range(1, weight.dim())), keepdim=True)
    scale = (peak / LARGEST).clamp(min=_TINY)
    return weight + ((weight / scale).round().clamp(-LARGEST, LARGEST) * scale - weight).detach()
