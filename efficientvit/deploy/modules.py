"""The modules that only the deploy form has: static shapes, constant biases, rank 4 at most."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from efficientvit.model import CascadedGroupAttention, FeedForward
from efficientvit.size import ImageSize
from efficientvit.spec import KEY_DIM


def _rows(conv: nn.Conv2d, rows: slice, *, bias: bool) -> nn.Conv2d:
    """The 1x1 convolution that computes these output channels of `conv`."""
    weight = conv.weight[rows]
    part = nn.Conv2d(conv.in_channels, weight.shape[0], 1, bias=bias, dtype=weight.dtype, device=weight.device)
    part.weight.copy_(weight)
    if bias:
        assert part.bias is not None and conv.bias is not None
        part.bias.copy_(conv.bias[rows])
    return part


class StaticAttention(nn.Module):
    """Cascaded group attention as few operators as it takes.

    The bias of each head is one constant (N, N) matrix. It is symmetric (it depends on absolute offsets),
    so the scores can be kept transposed, kᵀq + b with the softmax over the rows, and v @ scores needs no
    transpose of an N x N matrix.
    """

    def __init__(self, trained: CascadedGroupAttention) -> None:
        super().__init__()
        self.heads = trained.heads
        self.window = trained.window
        self.head_dim = trained.head_dim
        qkv = [conv for conv in trained.qkv if isinstance(conv, nn.Conv2d)]
        assert len(qkv) == trained.heads, "fold the norms first"
        assert trained.scale == 1.0, "fold the query scale first"
        self.q = nn.ModuleList(_rows(conv, slice(0, KEY_DIM), bias=True) for conv in qkv)
        # Without a bias: exact, because the softmax over the keys drops it (see drop_key_bias).
        self.k = nn.ModuleList(_rows(conv, slice(KEY_DIM, 2 * KEY_DIM), bias=False) for conv in qkv)
        self.v = nn.ModuleList(_rows(conv, slice(2 * KEY_DIM, None), bias=True) for conv in qkv)
        self.q_depthwise = trained.q_depthwise
        self.relu = trained.relu
        self.project = trained.project
        matrices = trained.bias[:, trained.bias_index]  # (heads, N, N)
        assert torch.equal(matrices, matrices.transpose(1, 2)), "the bias table must be symmetric"
        self.bias = nn.ParameterList(nn.Parameter(matrix.clone()) for matrix in matrices)

    def forward(self, x: Tensor) -> Tensor:
        """(B, heads * head_dim, window, window), shape kept."""
        outputs: list[Tensor] = []
        for i, feature in enumerate(x.split(self.head_dim, dim=1)):
            outputs.append(self._head(i, feature if not outputs else feature + outputs[-1]))
        y: Tensor = self.project(self.relu(torch.cat(outputs, dim=1)))
        return y

    def _head(self, i: int, x: Tensor) -> Tensor:
        """(B, head_dim, window, window), shape kept."""
        q = self.q_depthwise[i](self.q[i](x))
        return self._mixed(q, self.k[i](x), self.v[i](x), self.bias[i])

    def _mixed(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
        """Queries and keys (B, KEY_DIM, window, window), values as what comes back: (B, head_dim, window, window)."""
        tokens = self.window**2
        q, k, flat = q.reshape(-1, KEY_DIM, tokens), k.reshape(-1, KEY_DIM, tokens), v.reshape(-1, v.shape[1], tokens)
        scores = k.transpose(1, 2) @ q + bias  # (B, keys, queries)
        mixed = flat @ scores.softmax(dim=1)  # (B, head_dim, queries)
        return mixed.reshape(-1, v.shape[1], self.window, self.window)


class TokenAttention(StaticAttention):
    """`StaticAttention` whose products give tokens before channels, (B, N, C).

    The parameters are the same, so that an artifact of either holds the same constants. A runtime that convolves
    channels-last has q, k, v and the result lying so already, and its optimizer drops the transposes around them.
    """

    def __init__(self, attention: StaticAttention) -> None:
        nn.Module.__init__(self)
        self.__dict__.update(attention.__dict__)

    def _mixed(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
        """As `StaticAttention._mixed`."""
        tokens = self.window**2
        # The keys as they are: OpenVINO 2026.4 would take a transpose of theirs for its own attention operator, and
        # in one pass over that (SDPAReshapeFusion) fails on M0, where tokens and heads have sizes that it mixes up.
        scores = _tokens(q, tokens) @ k.reshape(-1, KEY_DIM, tokens) + bias  # (B, queries, keys)
        mixed = scores.softmax(dim=-1) @ _tokens(v, tokens)  # (B, queries, head_dim)
        return mixed.reshape(-1, self.window, self.window, v.shape[1]).permute(0, 3, 1, 2)


def _tokens(x: Tensor, tokens: int) -> Tensor:
    """(B, C, window, window) -> (B, tokens, C)."""
    return x.permute(0, 2, 3, 1).reshape(-1, tokens, x.shape[1])


class LoneTokenAttention(nn.Module):
    """The attention of windows of one token (grids of 1, at 64 pixels): the softmax over one key is 1, so v is all.

    Nothing is left in it that looks at other tokens, so a grid of several such windows needs no partition.
    """

    def __init__(self, attention: StaticAttention) -> None:
        super().__init__()
        self.head_dim = attention.head_dim
        self.v = attention.v
        self.relu = attention.relu
        self.project = attention.project

    def forward(self, x: Tensor) -> Tensor:
        """(B, heads * head_dim, H, W), shape kept."""
        outputs: list[Tensor] = []
        for v, feature in zip(self.v, x.split(self.head_dim, dim=1), strict=True):
            outputs.append(v(feature if not outputs else feature + outputs[-1]))
        y: Tensor = self.project(self.relu(torch.cat(outputs, dim=1)))
        return y


class StaticWindows(nn.Module):
    """Attention in windows, partitioned by Split and Concat along the channels.

    Windows go to the channel axis first and to the batch axis by a reshape that moves nothing, so the
    batch may be symbolic and no tensor has more than four dimensions. A split along the *batch* axis
    instead makes the torch.export-based exporter bake the example's batch in without a word.
    """

    def __init__(self, attention: nn.Module, grid: ImageSize, window: int) -> None:
        super().__init__()
        self.attention = attention
        self.grid = grid
        self.window = window
        self.down, self.across = -(-grid.height // window), -(-grid.width // window)
        self.below, self.right = self.down * window - grid.height, self.across * window - grid.width

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, grid height, grid width), shape kept."""
        channels, across, window = x.shape[1], self.across, self.window
        padded = bool(self.below or self.right)
        if padded:
            x = functional.pad(x, (0, self.right, 0, self.below))
        windows = [cell for row in _split(x, window, dim=2) for cell in _split(row, window, dim=3)]
        x = torch.cat(windows, dim=1).reshape(-1, channels, window, window)  # (B * windows, C, window, window)
        x = self.attention(x)
        cells = x.reshape(-1, self.down * across * channels, window, window).split(channels, dim=1)
        rows = [_joined(cells[i * across : (i + 1) * across], dim=3) for i in range(self.down)]
        x = _joined(rows, dim=2)
        return x[:, :, : self.grid.height, : self.grid.width] if padded else x


def _split(x: Tensor, size: int, dim: int) -> Sequence[Tensor]:
    """Parts of this size; no operator where there is one part only."""
    return x.split(size, dim=dim) if x.shape[dim] > size else (x,)


def _joined(parts: Sequence[Tensor], dim: int) -> Tensor:
    """The inverse."""
    return torch.cat(list(parts), dim=dim) if len(parts) > 1 else parts[0]


class PooledHead(nn.Module):
    """The last feed-forward layer, the average pool and the classifier, if any; the projection works on one pixel."""

    def __init__(self, ffn: FeedForward, linear: nn.Module) -> None:
        super().__init__()
        self.expand, self.relu, self.project = ffn.children()
        self.linear = linear

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) -> (B, classes) logits, or (B, channels)."""
        hidden = self.relu(self.expand(x)).mean((2, 3), keepdim=True)
        pooled = x.mean((2, 3), keepdim=True) + self.project(hidden)  # (B, channels, 1, 1)
        y: Tensor = self.linear(pooled.reshape(-1, pooled.shape[1]))
        return y


class PixelClassifier(nn.Conv2d):
    """A linear layer as a convolution of one pixel, with the same parameters.

    For a runtime that adds up products of matrices in float16 and convolutions in float32.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear.in_features, linear.out_features, 1, bias=linear.bias is not None)
        self.weight = nn.Parameter(linear.weight[:, :, None, None], requires_grad=linear.weight.requires_grad)
        self.bias = linear.bias

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels) -> (B, classes)."""
        return super().forward(x[:, :, None, None]).flatten(1)
