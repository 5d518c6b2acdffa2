"""The building blocks of the trained form: everything but attention.

Shapes are (B, C, H, W). Nothing here caches anything that depends on the weights: both public
implementations keep the gathered attention biases from `.eval()` on, and go stale when weights
are loaded afterwards.
"""

from torch import Tensor, nn

from efficientvit.spec import FFN_RATIO, MERGE_RATIO


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
