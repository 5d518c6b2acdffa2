"""The deploy form behind an 8-bit image: the normalization as part of the model, exactly.

(p / 255 - mean) / std, then a convolution, is p · scale + bias, then the same convolution with its weights divided by
std, channel by channel: the zero padding comes after the bias, and keeps its meaning. Folding the mean into
the convolution's own bias would not be exact (the padding would no longer be the mean), and one average std for the
three channels, as Apple's guide suggests for frameworks that allow a single scale, is another model.
"""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from efficientvit.model import ConvNorm, EfficientViT


class ImageInput(nn.Module):
    """(B, 3, H, W) pixels, R G B, 0..255, as floats -> (B, classes) logits of `network`, which takes `divided_by_std`.

    `scale` () and `bias` (1, 3, 1, 1) are 1/255 and minus the mean.
    """

    def __init__(self, network: nn.Module, scale: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.network, self.scale, self.bias = network, scale, bias

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits."""
        y: Tensor = self.network(pixels * self.scale + self.bias)
        return y


@torch.no_grad()
def divided_by_std(net: EfficientViT, std: Sequence[float]) -> EfficientViT:
    """A copy whose input is x · std instead of x, for (B, 3, H, W). Needs folded norms."""
    result = copy.deepcopy(net)
    result.stem[0].weight = nn.Parameter(per_std(net, std), requires_grad=False)
    return result


@torch.no_grad()
def per_std(net: EfficientViT, std: Sequence[float]) -> Tensor:
    """The first convolution's weights then. Needs folded norms."""
    first = net.stem[0]
    assert isinstance(first, nn.Conv2d) and not isinstance(first, ConvNorm), "fold the norms first"
    return first.weight / torch.tensor(std, dtype=first.weight.dtype).reshape(1, 3, 1, 1)
