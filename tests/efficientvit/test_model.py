"""The family's shapes and sizes."""

import pytest
import torch

from efficientvit.attention import CascadedGroupAttention
from efficientvit.model import build
from efficientvit.spec import MODELS, model_spec


@pytest.mark.parametrize("name", MODELS)
def test_parameters_are_the_papers(name: str) -> None:
    with torch.device("meta"):
        model = build(model_spec(name))
    assert sum(parameter.numel() for parameter in model.parameters()) == MODELS[name].parameters


@pytest.mark.parametrize(("name", "size", "classes"), [("m0", 64, 10), ("m1", 80, 2), ("m5", 112, 1000)])
def test_any_size_and_class_count(name: str, size: int, classes: int) -> None:
    spec = model_spec(name, size, classes)
    model = build(spec)
    with torch.no_grad():
        assert model(torch.zeros(2, 3, size, size)).shape == (2, classes)
        features = model.stem(torch.zeros(1, 3, size, size))
        for stage, grid, channels in zip(
            (model.stage1, model.stage2, model.stage3), spec.grids, spec.dims, strict=True
        ):
            features = stage(features)
            assert features.shape == (1, channels, grid, grid)


def test_layers_by_the_paper() -> None:
    with torch.device("meta"):
        model = build(model_spec("m5"))
    attentions = [module for module in model.modules() if isinstance(module, CascadedGroupAttention)]
    assert [attention.heads for attention in attentions] == [3, *[3] * 3, *[4] * 4]
    assert [attention.window for attention in attentions] == [7, *[7] * 3, *[4] * 4]
    kernels = [conv.get_submodule("conv").get_parameter("weight").shape[-1] for conv in attentions[-1].q_depthwise]
    assert kernels == [7, 5, 3, 3]


def test_built_for_evaluation() -> None:
    model = build(model_spec("m0", 64))
    assert not any(module.training for module in model.modules())
    images = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(model(images)[1:2], model(images[1:2]), atol=1e-5)
