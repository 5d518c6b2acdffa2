"""Weights that are stored as several tensors: told for what they are, whatever layer they belong to."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune, spectral_norm

from efficientvit.errors import BadCheckpoint
from efficientvit.weights.checkpoint import load_checkpoint

State = dict[str, Tensor]
HEAD = "head.linear.weight"
EXPAND = "stages.0.blocks.0.ffn0.m.pw1.conv.weight"


def _linear(weight: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.weight = nn.Parameter(weight.clone())
    return layer


def _weight_norm(weight: Tensor) -> nn.Module:
    layer = _linear(weight)
    parametrizations.weight_norm(layer)  # in place
    return layer


def _pruned(weight: Tensor) -> nn.Module:
    layer = _linear(weight)
    prune.l1_unstructured(layer, "weight", amount=0.5)
    return layer


def _spectral(weight: Tensor) -> nn.Module:
    layer = _linear(weight)
    spectral_norm(layer)
    return layer


def _lora(weight: Tensor) -> nn.Module:
    """As peft names its tensors."""
    layer = nn.Module()
    layer.base_layer = _linear(weight)
    layer.lora_A = nn.ModuleDict({"default": nn.Linear(weight.shape[1], 4, bias=False)})
    layer.lora_B = nn.ModuleDict({"default": nn.Linear(4, weight.shape[0], bias=False)})
    return layer


@pytest.mark.parametrize(
    ("made", "what", "way"),
    [
        (_weight_norm, "parametrization", "remove_parametrizations(layer, 'weight')"),
        (_pruned, "pruning", "prune.remove(layer, 'weight')"),
        (_spectral, "spectral", "remove_spectral_norm(layer)"),
        (_lora, "LoRA", "merge_and_unload()"),
    ],
)
@pytest.mark.parametrize("name", [HEAD, EXPAND])
@pytest.mark.parametrize("prefix", ["", "base_model.model."])
def test_a_weight_in_several_tensors_is_named_and_not_taken(
    made: Callable[[Tensor], nn.Module], what: str, way: str, name: str, prefix: str, state: State, tmp_path: Path
) -> None:
    owner = name.removesuffix(".weight")
    layer = made(state.pop(name).flatten(1))
    bias = state.pop(f"{owner}.bias", None)
    parts = layer.state_dict()
    state |= {f"{owner}.{part}": tensor for part, tensor in parts.items() if bias is not None or "bias" not in part}
    torch.save({prefix + each: tensor for each, tensor in state.items()}, tmp_path / "w.pth")
    with pytest.raises(BadCheckpoint, match=what) as caught:
        load_checkpoint(tmp_path / "w.pth", "m0")
    assert way in str(caught.value.next_step)
    assert owner in str(caught.value.got)
