"""EfficientViT in its trained form: the reference that every artifact is compared with.

Shapes are (B, C, H, W). Nothing here caches anything that depends on the weights: both public
implementations keep the gathered attention biases from `.eval()` on, and go stale when weights
are loaded afterwards.
"""

import functools

import torch
from torch import Tensor, nn
from torch.nn import functional

from efficientvit.head import HeadKind
from efficientvit.size import ImageSize, square
from efficientvit.spec import FFN_RATIO, KEY_DIM, MERGE_RATIO, ModelSpec


class ConvNorm(nn.Module):
    """Convolution without bias, then BatchNorm."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, ceil(H / stride), ceil(W / stride))."""
        y: Tensor = self.norm(self.conv(x))
        return y


class Classifier(nn.Module):
    """Average pool, BatchNorm over features, linear layer."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.norm: nn.Module = nn.BatchNorm1d(channels)
        self.linear = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) -> (B, classes) logits."""
        y: Tensor = self.linear(self.norm(x.mean((2, 3))))
        return y


class AveragePool(nn.Module):
    """The mean over the grid: timm's `forward_head(pre_logits=True)`, and its model of `num_classes=0`."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) -> (B, channels)."""
        return x.mean((2, 3))


class Residual(nn.Module):
    """x + branch(x)."""

    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, x: Tensor) -> Tensor:
        """Keeps the shape."""
        y: Tensor = x + self.branch(x)
        return y


class FeedForward(nn.Sequential):
    """Expand by FFN_RATIO, ReLU, project back (paper section 3.1): children `expand`, `relu`, `project`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.add_module("expand", ConvNorm(channels, FFN_RATIO * channels))
        self.add_module("relu", nn.ReLU())
        self.add_module("project", ConvNorm(FFN_RATIO * channels, channels))


class SqueezeExcite(nn.Module):
    """Channel gates from the spatial mean: two 1x1 convolutions, ReLU between, sigmoid after."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, channels // 4, 1)
        self.relu = nn.ReLU()
        self.expand = nn.Conv2d(channels // 4, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Keeps the shape."""
        gates: Tensor = self.expand(self.relu(self.reduce(x.mean((2, 3), keepdim=True))))
        return x * gates.sigmoid()


class PatchMerging(nn.Sequential):
    """Halve the grid between stages: expand by 4, depthwise stride 2, squeeze-excite, project."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        hidden = MERGE_RATIO * inputs
        self.add_module("expand", ConvNorm(inputs, hidden))
        self.add_module("relu1", nn.ReLU())
        self.add_module("depthwise", ConvNorm(hidden, hidden, 3, stride=2, groups=hidden))
        self.add_module("relu2", nn.ReLU())
        self.add_module("gate", SqueezeExcite(hidden))
        self.add_module("project", ConvNorm(hidden, outputs))


def token_interaction(channels: int) -> Residual:
    """The depthwise 3x3 before each feed-forward layer (paper section 3.1)."""
    return Residual(ConvNorm(channels, channels, 3, groups=channels))


def feed_forward(channels: int) -> Residual:
    """The feed-forward layer with its residual."""
    return Residual(FeedForward(channels))


def bias_index(window: int) -> Tensor:
    """(N, N) int64: which entry of the bias table each pair of tokens uses, N = window².

    The table has one entry for each pair of absolute offsets (|dy|, |dx|), row by row.
    """
    side = torch.arange(window)
    row, column = (axis.flatten() for axis in torch.meshgrid(side, side, indexing="ij"))
    offset_y = (row[:, None] - row[None, :]).abs()
    offset_x = (column[:, None] - column[None, :]).abs()
    return offset_y * window + offset_x


class CascadedGroupAttention(nn.Module):
    """Each head sees its own slice of the channels plus the output of the head before it."""

    bias_index: Tensor

    def __init__(self, channels: int, heads: int, window: int, kernels: tuple[int, ...]) -> None:
        super().__init__()
        self.heads = heads
        self.window = window
        self.head_dim = channels // heads
        self.scale = KEY_DIM**-0.5
        self.qkv = nn.ModuleList(ConvNorm(self.head_dim, 2 * KEY_DIM + self.head_dim) for _ in range(heads))
        self.q_depthwise = nn.ModuleList(
            ConvNorm(KEY_DIM, KEY_DIM, kernel, groups=KEY_DIM) for kernel in kernels[:heads]
        )
        self.relu = nn.ReLU()
        self.project = ConvNorm(channels, channels)
        self.bias = nn.Parameter(torch.zeros(heads, window * window))
        self.register_buffer("bias_index", bias_index(window), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, window, window), shape kept."""
        outputs: list[Tensor] = []
        biases = self.bias[:, self.bias_index]  # (heads, N, N)
        for i, feature in enumerate(x.chunk(self.heads, dim=1)):
            fed = feature if not outputs else feature + outputs[-1]
            q, k, v = self.qkv[i](fed).split([KEY_DIM, KEY_DIM, self.head_dim], dim=1)
            q = self.q_depthwise[i](q)
            q, k, v = q.flatten(2), k.flatten(2), v.flatten(2)  # (B, d, N)
            scores = (q * self.scale).transpose(1, 2) @ k + biases[i]  # (B, queries, keys)
            mixed = v @ scores.softmax(dim=-1).transpose(1, 2)  # (B, head_dim, N)
            outputs.append(mixed.unflatten(2, (self.window, self.window)))
        y: Tensor = self.project(self.relu(torch.cat(outputs, dim=1)))
        return y


class WindowAttention(nn.Module):
    """Attention within square windows; a grid that they don't divide is zero-padded right and below.

    The padding tokens are not masked: the published weights were trained so.
    """

    def __init__(self, channels: int, heads: int, grid: ImageSize, window: int, kernels: tuple[int, ...]) -> None:
        super().__init__()
        self.grid = grid
        self.window = window
        self.attention = CascadedGroupAttention(channels, heads, window, kernels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, grid height, grid width), shape kept."""
        grid, window = self.grid, self.window
        if grid == square(window):
            y: Tensor = self.attention(x)
            return y
        batch, channels = x.shape[:2]
        down, across = -(-grid.height // window), -(-grid.width // window)
        height, width = down * window, across * window
        x = functional.pad(x, (0, width - grid.width, 0, height - grid.height))
        x = x.view(batch, channels, down, window, across, window)
        x = x.permute(0, 2, 4, 1, 3, 5).reshape(-1, channels, window, window)
        x = self.attention(x)
        x = x.view(batch, down, across, channels, window, window).permute(0, 3, 1, 4, 2, 5)
        return x.reshape(batch, channels, height, width)[:, :, : grid.height, : grid.width]


class Block(nn.Sequential):
    """The sandwich layout: one attention between two feed-forward layers (paper figure 2)."""

    def __init__(self, channels: int, heads: int, grid: ImageSize, window: int, kernels: tuple[int, ...]) -> None:
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


def _head(spec: ModelSpec) -> nn.Module:
    if spec.head.kind is HeadKind.FEATURES:
        return nn.Identity()  # the last stage's map as it is
    return Classifier(spec.dims[2], spec.classes) if spec.head.gives_logits else AveragePool()


class EfficientViT(nn.Module):
    """(B, 3, H, W) -> (B, classes) logits, or what else `spec.head` gives; H and W are those of `spec.image_size`.

    Stages that no output needs are left out.
    """

    stage1: nn.Sequential
    stage2: nn.Sequential
    stage3: nn.Sequential

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        self.stem = _stem(spec.dims[0])
        for number in range(1, spec.head.last_stage + 1):
            self.add_module(f"stage{number}", _stage(spec, number - 1))
        self.head = _head(spec)

    def stage(self, number: int) -> nn.Sequential:
        """One of the stages, 1 to 3."""
        stage = self.get_submodule(f"stage{number}")
        assert isinstance(stage, nn.Sequential)
        return stage

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, ...]:
        """What a batch of normalized images gives: one tensor, or several maps, as `spec.outputs` lists them."""
        x, maps = self.stem(image), []
        for number in range(1, self.spec.head.last_stage + 1):
            x = self.stage(number)(x)
            if number in self.spec.head.stages:
                maps.append(x)
        y: Tensor = self.head(x)
        return tuple(maps) if len(maps) > 1 else y


def tensors_of(result: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """What a model gives, as several tensors, whether there are several or one."""
    return result if isinstance(result, tuple) else (result,)


def build(spec: ModelSpec) -> EfficientViT:
    """The model of `spec` in eval mode with PyTorch's default initialization; load weights before use."""
    return EfficientViT(spec).eval()


@functools.cache
def tensor_names(spec: ModelSpec) -> tuple[str, ...]:
    """The names in the state dict of its model."""
    return tuple(build(spec).state_dict())
