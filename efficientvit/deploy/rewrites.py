"""The deploy form: the trained form rewritten exactly, so that fewer and cheaper operators compute the same.

Each rewrite is a function `EfficientViT -> EfficientViT` on a copy that it may change; `to_deploy` applies all
of them in float64 and rounds the constants once. They are identities of real arithmetic: in float64 the
results move by rounding alone. In order:

    fold_norms                   BatchNorm into the convolution or linear layer before or after it
    absorb_depthwise_residuals   x + depthwise(x): 1 on the center tap
    fold_query_scale             key_dim^-1/2 = 1/4 into the query's depthwise convolution, bit-exact
    drop_key_bias                softmax over the keys ignores what is the same for every key
    static_attention             constant bias matrices, static shapes, separate q/k/v, no transpose of the scores
    static_windows               window partition by Split and Concat, rank 4, instead of 6-D permutes
    pool_before_projection       the last feed-forward's second convolution after the average pool, where there is one

Not exact, so not here: merging the heads (the cascade is sequential), merging a 1x1 with the depthwise
convolution after it (the bias meets zero padding), folding the input mean into the stem (zero padding again).
"""

from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
from torch import Tensor, nn

from efficientvit.copies import copied
from efficientvit.deploy.modules import (
    LoneTokenAttention,
    PixelClassifier,
    PooledHead,
    StaticAttention,
    StaticWindows,
    TokenAttention,
)
from efficientvit.head import HeadKind
from efficientvit.model import (
    CascadedGroupAttention,
    Classifier,
    ConvNorm,
    EfficientViT,
    FeedForward,
    Residual,
    WindowAttention,
)
from efficientvit.size import square
from efficientvit.spec import KEY_DIM

M = TypeVar("M", bound=nn.Module)
Rewrite = Callable[[EfficientViT], EfficientViT]


def _replace(model: nn.Module, kind: type[M], make: Callable[[M], nn.Module]) -> None:
    """Replace every child of exactly this kind by `make(child)`, innermost first."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, kind) and type(child) is kind:
                setattr(module, name, make(child))


def _attentions(model: nn.Module) -> Iterator[CascadedGroupAttention]:
    return (module for module in model.modules() if isinstance(module, CascadedGroupAttention))


def _scale_and_shift(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """BatchNorm in eval mode as y = scale * x + shift, per channel."""
    assert isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    return scale, norm.bias - norm.running_mean * scale


def _folded_conv(module: ConvNorm) -> nn.Conv2d:
    conv, (scale, shift) = module.conv, _scale_and_shift(module.norm)
    folded = nn.Conv2d(
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,  # type: ignore[arg-type]  # typed with any number of sides
        conv.stride,  # type: ignore[arg-type]
        conv.padding,  # type: ignore[arg-type]
        groups=conv.groups,
        device="meta",  # nothing is drawn for values that are replaced
    )
    folded.weight = nn.Parameter(conv.weight * scale[:, None, None, None])
    folded.bias = nn.Parameter(shift)
    return folded


def _folded_classifier(module: Classifier) -> Classifier:
    scale, shift = _scale_and_shift(module.norm)
    module.linear.bias.add_(module.linear.weight @ shift)
    module.linear.weight.mul_(scale)
    module.norm = nn.Identity()
    return module


@torch.no_grad()
def fold_norms(model: EfficientViT) -> EfficientViT:
    """Fold every BatchNorm: 113 of them in M0."""
    _replace(model, ConvNorm, _folded_conv)
    _replace(model, Classifier, _folded_classifier)
    return model


@torch.no_grad()
def absorb_depthwise_residuals(model: EfficientViT) -> EfficientViT:
    """x + conv(x) = conv'(x), where conv' has 1 more on its center tap. Needs folded norms."""

    def absorbed(module: Residual) -> nn.Module:
        conv = module.branch
        if not isinstance(conv, nn.Conv2d):
            return module
        conv.weight[:, 0, conv.kernel_size[0] // 2, conv.kernel_size[1] // 2] += 1
        return conv

    _replace(model, Residual, absorbed)
    return model


@torch.no_grad()
def fold_query_scale(model: EfficientViT) -> EfficientViT:
    """(s·q)ᵀk = sqᵀk: the scale goes into the query's depthwise convolution, a power of two. Needs folded norms."""
    for attention in _attentions(model):
        for conv in attention.q_depthwise:
            assert isinstance(conv, nn.Conv2d) and conv.bias is not None
            conv.weight *= attention.scale
            conv.bias *= attention.scale
        attention.scale = 1.0
    return model


@torch.no_grad()
def drop_key_bias(model: EfficientViT) -> EfficientViT:
    """qᵀ(k + b) = qᵀk + qᵀb, and qᵀb is the same for every key, so the softmax drops it. Needs folded norms."""
    for attention in _attentions(model):
        for conv in attention.qkv:
            assert isinstance(conv, nn.Conv2d) and conv.bias is not None
            conv.bias[KEY_DIM : 2 * KEY_DIM] = 0
    return model


@torch.no_grad()
def static_attention(model: EfficientViT) -> EfficientViT:
    """`StaticAttention` in place of every `CascadedGroupAttention`. Needs the rewrites before it."""

    def static(module: CascadedGroupAttention) -> nn.Module:
        attention = StaticAttention(module)
        return attention if module.window > 1 else LoneTokenAttention(attention)

    _replace(model, CascadedGroupAttention, static)
    return model


@torch.no_grad()
def static_windows(model: EfficientViT) -> EfficientViT:
    """`StaticWindows` in place of every window attention; nothing at all where a window is the grid, or one token."""

    def static(module: WindowAttention) -> nn.Module:
        if module.window == 1 or module.grid == square(module.window):
            return module.attention
        return StaticWindows(module.attention, module.grid, module.window)

    _replace(model, WindowAttention, static)
    return model


@torch.no_grad()
def pool_before_projection(model: EfficientViT) -> EfficientViT:
    """mean(x + W·h + b) = mean(x) + W·mean(h) + b: 1/16 of the last convolution's work at 224. Needs folded norms.

    A model that gives maps stays as it is: they are x + W·h + b.
    """
    if model.spec.head.kind is HeadKind.FEATURES:
        return model
    last = model.stage3[-1]
    residual = last.ffn2
    assert isinstance(residual, Residual) and isinstance(residual.branch, FeedForward)
    linear = model.head.linear if isinstance(model.head, Classifier) else nn.Identity()
    model.head = PooledHead(residual.branch, linear)
    last.ffn2 = nn.Identity()
    return model


REWRITES: tuple[Rewrite, ...] = (
    fold_norms,
    absorb_depthwise_residuals,
    fold_query_scale,
    drop_key_bias,
    static_attention,
    static_windows,
    pool_before_projection,
)


def rewritten(model: EfficientViT, rewrites: tuple[Rewrite, ...] = REWRITES) -> EfficientViT:
    """A float64 copy of `model` after `rewrites`; `model` itself is left as it was."""
    result = copied(model).double().eval()
    for rewrite in rewrites:
        result = rewrite(result)
    return result.requires_grad_(requires_grad=False)


def to_deploy(model: EfficientViT) -> EfficientViT:
    """The deploy form of a trained model, its constants computed in float64 and rounded to float32 once."""
    return rewritten(model).float()


def tokens_before_channels(deploy: EfficientViT) -> EfficientViT:
    """A copy of a deploy form with `TokenAttention`, for runtimes that convolve channels-last; no constant differs."""
    result = copied(deploy)
    _replace(result, StaticAttention, TokenAttention)
    return result


def classifier_of_a_pixel(deploy: EfficientViT) -> EfficientViT:
    """A copy of a deploy form with `PixelClassifier` in place of the linear layer, if any; no constant differs."""
    result = copied(deploy)
    _replace(result, nn.Linear, PixelClassifier)
    return result
