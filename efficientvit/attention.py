"""Cascaded group attention in local windows, as trained (paper section 3.2, figure 3)."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from efficientvit.layers import ConvNorm
from efficientvit.spec import KEY_DIM


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
    """Attention within windows; a grid that they don't divide is zero-padded right and below.

    The padding tokens are not masked: the published weights were trained so.
    """

    def __init__(self, channels: int, heads: int, grid: int, window: int, kernels: tuple[int, ...]) -> None:
        super().__init__()
        self.grid = grid
        self.window = window
        self.attention = CascadedGroupAttention(channels, heads, window, kernels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, grid, grid), shape kept."""
        side, window = self.grid, self.window
        if side == window:
            y: Tensor = self.attention(x)
            return y
        batch, channels = x.shape[:2]
        count = -(-side // window)
        padding = count * window - side
        x = functional.pad(x, (0, padding, 0, padding))
        x = x.view(batch, channels, count, window, count, window)
        x = x.permute(0, 2, 4, 1, 3, 5).reshape(-1, channels, window, window)
        x = self.attention(x)
        x = x.view(batch, count, count, channels, window, window).permute(0, 3, 1, 4, 2, 5)
        return x.reshape(batch, channels, side + padding, side + padding)[:, :, :side, :side]
