"""EfficientViT in its trained form: the reference that every artifact is compared with."""

from torch import Tensor, nn

from efficientvit.attention import WindowAttention
from efficientvit.layers import Classifier, ConvNorm, PatchMerging, Residual, feed_forward, token_interaction
from efficientvit.spec import ModelSpec


class Block(nn.Sequential):
    """The sandwich layout: one attention between two feed-forward layers (paper figure 2)."""

    def __init__(self, channels: int, heads: int, grid: int, window: int, kernels: tuple[int, ...]) -> None:
        super().__init__()
        self.add_module("depthwise1", token_interaction(channels))
        self.add_module("ffn1", feed_forward(channels))
        self.add_module("mixer", Residual(WindowAttention(channels, heads, grid, window, kernels)))
        self.add_module("depthwise2", token_interaction(channels))
        self.add_module("ffn2", feed_forward(channels))


class Downsample(nn.Sequential):
    """Patch merging between two feed-forward pairs."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.add_module("depthwise1", token_interaction(inputs))
        self.add_module("ffn1", feed_forward(inputs))
        self.add_module("merge", PatchMerging(inputs, outputs))
        self.add_module("depthwise2", token_interaction(outputs))
        self.add_module("ffn2", feed_forward(outputs))


def _stem(channels: int) -> nn.Sequential:
    widths = (3, channels // 8, channels // 4, channels // 2, channels)
    stem = nn.Sequential()
    for i in range(4):
        stem.add_module(f"conv{i + 1}", ConvNorm(widths[i], widths[i + 1], 3, stride=2))
        if i < 3:
            stem.add_module(f"relu{i + 1}", nn.ReLU())
    return stem


def _stage(spec: ModelSpec, index: int) -> nn.Sequential:
    stage = nn.Sequential()
    if index:
        stage.add_module("downsample", Downsample(spec.dims[index - 1], spec.dims[index]))
    for i in range(spec.depths[index]):
        block = Block(spec.dims[index], spec.heads[index], spec.grids[index], spec.windows[index], spec.kernels)
        stage.add_module(f"block{i + 1}", block)
    return stage


class EfficientViT(nn.Module):
    """The classifier (B, 3, S, S) -> (B, classes) logits, S = `spec.image_size`."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        self.stem = _stem(spec.dims[0])
        self.stage1 = _stage(spec, 0)
        self.stage2 = _stage(spec, 1)
        self.stage3 = _stage(spec, 2)
        self.head: nn.Module = Classifier(spec.dims[2], spec.classes)

    def forward(self, image: Tensor) -> Tensor:
        """Logits of a batch of normalized images."""
        y: Tensor = self.head(self.stage3(self.stage2(self.stage1(self.stem(image)))))
        return y


def build(spec: ModelSpec) -> EfficientViT:
    """The model of `spec` in eval mode with PyTorch's default initialization; load weights before use."""
    return EfficientViT(spec).eval()
