"""State dicts that hold less than the trained form, or another head: the same function, in the trained form.

`fuse()` of timm and of the authors folds each BatchNorm into its convolution, and people save what they have timed.
Distillation trains a second head; the authors average both in evaluation.
"""

import functools
import re
from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor

_CONV = re.compile(r"(?<!\.conv)(?<!\.gate\.reduce)(?<!\.gate\.expand)(?<!\.linear)\.weight$")
_HEADS = ("head", "head_dist")
# Tensors that a layer's weight is computed from: what computes it, and the line that keeps the result in their place.
_EACH = "where it was made, for each such layer: torch.nn.utils.{}, and save the state dict again"
_COMPOSED = (
    (re.compile(r"\.(base_layer|original_module|modules_to_save|lora_\w+)\."), "adapters beside it (LoRA)",
     "where it was made: torch.save(model.merge_and_unload().state_dict(), 'weights.pth')"),
    (re.compile(r"\.parametrizations\.\w+\."), "a parametrization",
     _EACH.format("parametrize.remove_parametrizations(layer, 'weight')")),
    (re.compile(r"\.\w+_mask$"), "a mask of pruning", _EACH.format("prune.remove(layer, 'weight')")),
    (re.compile(r"\.weight_u$"), "spectral normalization", _EACH.format("remove_spectral_norm(layer)")),
    (re.compile(r"\.weight_g$"), "weight normalization", _EACH.format("remove_weight_norm(layer)")),
)  # fmt: skip
_EPS = torch.nn.BatchNorm2d(1).eps


@functools.cache
def _identity_norm() -> tuple[float, float]:
    """(weight, variance), both float32, whose BatchNorm is the identity to 1e-13: no variance alone gives 1."""
    weights = (1 + np.arange(1 << 20) * 2.0**-23).astype(np.float32).astype(np.float64)
    variances = (weights**2 - _EPS).astype(np.float32).astype(np.float64)
    best = int(np.abs(weights / np.sqrt(variances + _EPS) - 1).argmin())
    return float(weights[best]), float(variances[best])


def unfused(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Fused convolutions, and a fused head, as the trained form has them: under our names, with identities as norms."""
    state, count = dict(tensors), 0
    for name, weight in tensors.items():
        owner = name.removesuffix(".weight")
        bias = tensors.get(f"{owner}.bias")
        is_conv = weight.dim() == 4 and _CONV.search(name) is not None
        if bias is None or not (is_conv or (owner in _HEADS and weight.dim() == 2)):
            continue
        del state[name], state[f"{owner}.bias"]
        state |= _with_norm(owner, weight, bias) if is_conv else _head(owner, weight, bias)
        count += 1
    note = f"{count} layers have no BatchNorm of their own (fused, or replaced): an identity stands for it"
    return state, [note] if count else []


def composed(names: Iterable[str]) -> tuple[str, str, list[str]] | None:
    """What computes weights that are stored as several tensors, the way to keep the results, and the tensors' names."""
    names = list(names)
    for pattern, what, way in _COMPOSED:
        if found := [name for name in names if pattern.search(name)]:
            return what, way, found
    return None


def single_head(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """The average of `head` and `head_dist`, which are affine, as one head; computed in float64, rounded once."""
    wanted = {f"{head}.{part}" for head in _HEADS for part in _PARTS}
    alike = (
        all(tensors[f"head.{part}"].shape == tensors[f"head_dist.{part}"].shape for part in _PARTS)
        if (wanted <= tensors.keys())
        else False
    )
    if not alike:
        return dict(tensors), []
    weights, biases = zip(*(_affine(tensors, head) for head in _HEADS), strict=True)
    state = {name: tensor for name, tensor in tensors.items() if name not in wanted}
    state |= _head("head", (sum(weights) / 2).float(), (sum(biases) / 2).float())
    return state, ["two heads, `head` and `head_dist`: averaged, as the authors do in evaluation"]


_PARTS = ("norm.weight", "norm.bias", "norm.running_mean", "norm.running_var", "linear.weight", "linear.bias")


def _affine(tensors: Mapping[str, Tensor], head: str) -> tuple[Tensor, Tensor]:
    scale, shift, mean, variance, weight, bias = (tensors[f"{head}.{part}"].double() for part in _PARTS)
    scale = scale / (variance + _EPS).sqrt()
    return weight * scale, bias + weight @ (shift - mean * scale)


def _with_norm(owner: str, weight: Tensor, bias: Tensor) -> dict[str, Tensor]:
    scale, variance = _identity_norm()
    return {
        f"{owner}.conv.weight": weight,
        f"{owner}.norm.weight": torch.full_like(bias, scale),
        f"{owner}.norm.bias": bias,
        f"{owner}.norm.running_mean": torch.zeros_like(bias),
        f"{owner}.norm.running_var": torch.full_like(bias, variance),
    }


def _head(owner: str, weight: Tensor, bias: Tensor) -> dict[str, Tensor]:
    norm = _with_norm(owner, weight, torch.zeros_like(weight[0]))
    del norm[f"{owner}.conv.weight"]
    return {**norm, f"{owner}.linear.weight": weight, f"{owner}.linear.bias": bias}
