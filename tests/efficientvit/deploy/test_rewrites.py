"""Every rewrite is an identity of real arithmetic: in float64 nothing but rounding moves the logits."""

import copy
import functools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from efficientvit.deploy import rewrites
from efficientvit.deploy.modules import StaticAttention
from efficientvit.deploy.rewrites import REWRITES, Rewrite, rewritten, to_deploy
from efficientvit.model import EfficientViT, build
from efficientvit.size import ImageSize, square
from efficientvit.spec import MODELS, model_spec
from efficientvit.weights.seeded import natural_spectrum, seeded

EXACT = 1e-12


def _images(size: ImageSize) -> Tensor:
    rng = np.random.default_rng([size.height, size.width])
    return torch.from_numpy(np.stack([natural_spectrum(rng, size), rng.standard_normal(size.nchw(1)[1:])]))


def _model(name: str, size: int) -> EfficientViT:
    """Seeded; above 128 with what was calibrated at 128, which is as good here and spares forty large images."""
    if size <= 128:
        return seeded(model_spec(name, square(size)))
    model = build(model_spec(name, square(size)))
    own = model.state_dict()
    fitting = {key: value for key, value in _small(name).items() if value.shape == own[key].shape}
    absent, _ = model.load_state_dict(fitting, strict=False)
    generator = torch.Generator().manual_seed(0)
    for key in absent:
        assert key.endswith("attention.bias")
        model.get_parameter(key).data.normal_(generator=generator)
    return model


@functools.cache
def _small(name: str) -> dict[str, Tensor]:
    return seeded(model_spec(name, square(128))).state_dict()


@torch.no_grad()
def _deviation(model: EfficientViT, other: EfficientViT) -> float:
    """Worst relative error of `other` against `model` in float64, over a natural image and noise."""
    images = _images(model.spec.image_size)
    right, mine = copy.deepcopy(model).double()(images), other(images)
    centered = right - right.mean(dim=1, keepdim=True)
    return float(((mine - right).norm(dim=1) / centered.norm(dim=1)).max())


NEEDS: dict[Rewrite, tuple[Rewrite, ...]] = {
    rewrites.fold_norms: (),
    rewrites.absorb_depthwise_residuals: (rewrites.fold_norms,),
    rewrites.fold_query_scale: (rewrites.fold_norms,),
    rewrites.drop_key_bias: (rewrites.fold_norms,),
    rewrites.static_attention: (rewrites.fold_norms, rewrites.fold_query_scale),
    rewrites.static_windows: (),
    rewrites.pool_before_projection: (rewrites.fold_norms,),
}


@pytest.fixture(scope="module", params=[("m0", 224), ("m1", 128)], ids=str)
def some_model(request: pytest.FixtureRequest) -> EfficientViT:
    return _model(*request.param)


@pytest.mark.parametrize("rewrite", REWRITES, ids=[rewrite.__name__ for rewrite in REWRITES])
def test_each_rewrite_is_exact(rewrite: Rewrite, some_model: EfficientViT) -> None:
    """By itself, after nothing but what it needs."""
    before = rewritten(some_model, NEEDS[rewrite])
    after = rewritten(some_model, (*NEEDS[rewrite], rewrite))
    assert _deviation(some_model, after) <= EXACT
    assert _deviation(before, after) <= EXACT
    state = after.state_dict()
    changed = [
        None if (now := state.get(name)) is None or now.shape != was.shape else not torch.equal(now, was)
        for name, was in before.state_dict().items()
    ]
    renamed = [type(module) for module in after.modules()] != [type(module) for module in before.modules()]
    assert renamed or any(changed), "it did nothing"


def test_the_query_scale_is_bit_exact(some_model: EfficientViT) -> None:
    """A power of two: float32 logits don't move at all."""
    images = _images(some_model.spec.image_size).float()
    folded = rewritten(some_model, (rewrites.fold_norms,)).float()
    scaled = rewritten(some_model, (rewrites.fold_norms, rewrites.fold_query_scale)).float()
    with torch.no_grad():
        assert torch.equal(folded(images), scaled(images))


@pytest.mark.parametrize(
    ("name", "size"),
    [
        *((name, 224) for name in MODELS),
        *((name, size) for name in ("m0", "m5") for size in (256, 384, 512)),
        ("m0", 64),
        ("m2", 96),
        ("m0", 160),
        ("m5", 160),
        ("m3", 240),
    ],
)
def test_all_rewrites_are_exact(name: str, size: int) -> None:
    model = _model(name, size)
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
    deployed = to_deploy(build(model_spec(name, square(size))))
    with _LargestRank() as mode:  # type: ignore[no-untyped-call]
        deployed(torch.zeros(2, 3, size, size))
    assert mode.rank == 4


@torch.no_grad()
@pytest.mark.parametrize(("name", "size"), [("m0", 128), ("m2", 96), ("m5", 64)])
def test_float32_loses_no_accuracy(name: str, size: int) -> None:
    """The deploy form's typical float32 error is within 1.5 x the trained form's."""
    model = _model(name, size)
    generator = torch.Generator().manual_seed(0)
    images = torch.cat([_images(square(size)).float(), torch.randn(10, 3, size, size, generator=generator)])
    right = copy.deepcopy(model).double()(images.double())

    def typical(logits: Tensor) -> float:
        return float((logits.double() - right).norm(dim=1).log().mean().exp())

    assert typical(to_deploy(model)(images)) <= 1.5 * typical(model(images))


def test_the_trained_form_is_left_as_it_was() -> None:
    model = seeded(model_spec("m0", square(64)))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    deployed = to_deploy(model)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not any(isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d) for module in deployed.modules())
    assert {tensor.dtype for tensor in deployed.state_dict().values()} == {torch.float32}
    assert not any(parameter.requires_grad for parameter in deployed.parameters())


def test_weights_loaded_later_are_not_stale() -> None:
    """Both public implementations gather the attention biases once, at `.eval()`."""
    model = seeded(model_spec("m0", square(64))).eval()
    images = _images(square(64)).float()
    with torch.no_grad():
        model(images)
        model.load_state_dict(seeded(model_spec("m0", square(64)), 1).state_dict())
        assert torch.equal(model(images), seeded(model_spec("m0", square(64)), 1)(images))


def test_bias_matrices_are_symmetric() -> None:
    deployed = to_deploy(_model("m0", 224))
    matrices = [m for module in deployed.modules() if isinstance(module, StaticAttention) for m in module.bias]
    assert len(matrices) == 24
    assert all(torch.equal(matrix, matrix.T) for matrix in matrices)
