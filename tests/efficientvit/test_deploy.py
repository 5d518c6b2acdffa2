"""Every rewrite is an identity of real arithmetic: in float64 nothing but rounding moves the logits."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from efficientvit.deploy import REWRITES, rewritten, to_deploy
from efficientvit.model import EfficientViT
from efficientvit.seeded import natural_spectrum, seeded
from efficientvit.spec import MODELS, model_spec
from efficientvit.static import StaticAttention

EXACT = 1e-12


def _images(size: int) -> Tensor:
    rng = np.random.default_rng(size)
    return torch.from_numpy(np.stack([natural_spectrum(rng, size), rng.standard_normal((3, size, size))]))


@torch.no_grad()
def _deviation(model: EfficientViT, other: EfficientViT) -> float:
    """Worst relative error of `other` against `model` in float64, over a natural image and noise."""
    images = _images(model.spec.image_size)
    right, mine = copy.deepcopy(model).double()(images), other(images)
    centred = right - right.mean(dim=1, keepdim=True)
    return float(((mine - right).norm(dim=1) / centred.norm(dim=1)).max())


@pytest.mark.parametrize("count", range(1, len(REWRITES) + 1), ids=[rewrite.__name__ for rewrite in REWRITES])
@pytest.mark.parametrize(("name", "size"), [("m0", 224), ("m1", 128)])
def test_each_rewrite_is_exact(count: int, name: str, size: int) -> None:
    model = seeded(model_spec(name, size))
    assert _deviation(model, rewritten(model, REWRITES[:count])) <= EXACT


@pytest.mark.parametrize(
    ("name", "size"),
    [
        *((name, 224) for name in MODELS),
        *((name, size) for name in ("m0", "m5") for size in (256, 384, 512)),
        ("m0", 64),
        ("m2", 96),
        ("m0", 160),
        ("m3", 240),
    ],
)
def test_all_rewrites_are_exact(name: str, size: int) -> None:
    model = seeded(model_spec(name, size))
    assert _deviation(model, rewritten(model)) <= EXACT


class _LargestRank(TorchDispatchMode):
    rank = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self.rank = max(self.rank, result.ndim)
        return result


@pytest.mark.parametrize(("name", "size"), [("m0", 224), ("m2", 160), ("m0", 64)])
def test_no_tensor_has_more_than_four_dimensions(name: str, size: int) -> None:
    deploy = to_deploy(seeded(model_spec(name, size)))
    with _LargestRank() as mode:  # type: ignore[no-untyped-call]
        deploy(torch.zeros(2, 3, size, size))
    assert mode.rank == 4


def test_the_trained_form_is_left_as_it_was() -> None:
    model = seeded(model_spec("m0", 64))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    deploy = to_deploy(model)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not any(isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d) for module in deploy.modules())
    assert {tensor.dtype for tensor in deploy.state_dict().values()} == {torch.float32}
    assert not any(parameter.requires_grad for parameter in deploy.parameters())


def test_weights_loaded_later_are_not_stale() -> None:
    """Both public implementations gather the attention biases once, at `.eval()`."""
    model = seeded(model_spec("m0", 64)).eval()
    images = _images(64).float()
    with torch.no_grad():
        model(images)
        model.load_state_dict(seeded(model_spec("m0", 64), 1).state_dict())
        assert torch.equal(model(images), seeded(model_spec("m0", 64), 1)(images))


def test_bias_matrices_are_symmetric() -> None:
    deploy = to_deploy(seeded(model_spec("m0", 224)))
    matrices = [m for module in deploy.modules() if isinstance(module, StaticAttention) for m in module.bias]
    assert len(matrices) == 24
    assert all(torch.equal(matrix, matrix.T) for matrix in matrices)


def test_seeded_weights_depend_on_name_and_seed_alone() -> None:
    first, again, other = (seeded(model_spec("m0", 64), seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["head.linear.weight"], other["head.linear.weight"])
    assert all(torch.count_nonzero(tensor) for name, tensor in first.items() if name.endswith(("weight", "bias")))
