"""The family's shapes and sizes; attention against a loop over tokens, and windows against cutting them out by hand."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from efficientvit.model import CascadedGroupAttention, WindowAttention, bias_index, build
from efficientvit.size import square
from efficientvit.spec import KEY_DIM, MODELS, model_spec


@pytest.fixture(autouse=True)
def seeded_torch() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.mark.parametrize("name", MODELS)
def test_parameters_are_the_papers(name: str) -> None:
    with torch.device("meta"):
        model = build(model_spec(name))
    assert sum(parameter.numel() for parameter in model.parameters()) == MODELS[name].parameters


@pytest.mark.parametrize(("name", "size", "classes"), [("m0", 64, 10), ("m1", 80, 2), ("m5", 112, 1000)])
def test_any_size_and_class_count(name: str, size: int, classes: int) -> None:
    spec = model_spec(name, square(size), classes)
    model = build(spec)
    with torch.no_grad():
        assert model(torch.zeros(2, 3, size, size)).shape == (2, classes)
        features = model.stem(torch.zeros(1, 3, size, size))
        for stage, grid, channels in zip(
            (model.stage1, model.stage2, model.stage3), spec.grids, spec.dims, strict=True
        ):
            features = stage(features)
            assert features.shape == (1, channels, grid.height, grid.width)


def test_layers_by_the_paper() -> None:
    with torch.device("meta"):
        model = build(model_spec("m5"))
    attentions = [module for module in model.modules() if isinstance(module, CascadedGroupAttention)]
    assert [attention.heads for attention in attentions] == [3, *[3] * 3, *[4] * 4]
    assert [attention.window for attention in attentions] == [7, *[7] * 3, *[4] * 4]
    kernels = [conv.get_submodule("conv").get_parameter("weight").shape[-1] for conv in attentions[-1].q_depthwise]
    assert kernels == [7, 5, 3, 3]


def test_built_for_evaluation() -> None:
    model = build(model_spec("m0", square(64)))
    assert not any(module.training for module in model.modules())
    images = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(model(images)[1:2], model(images[1:2]), atol=1e-5)


@torch.no_grad()
def _random(module: nn.Module) -> nn.Module:
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5)
        elif tensor.is_floating_point():
            tensor.normal_()
    return module.double().eval()


@pytest.mark.parametrize("window", [1, 2, 7])
def test_the_bias_table_has_one_entry_for_each_pair_of_absolute_offsets(window: int) -> None:
    index = bias_index(window)
    tokens = [(y, x) for y in range(window) for x in range(window)]
    for i, (y, x) in enumerate(tokens):
        for j, (v, u) in enumerate(tokens):
            assert index[i, j] == abs(y - v) * window + abs(x - u)
    assert torch.equal(index, index.T)


@torch.no_grad()
def test_attention_by_the_definition() -> None:
    """For each head, query and key by themselves: no matrix product, no transposition."""
    window, heads, channels = 3, 2, 8
    module = _random(CascadedGroupAttention(channels, heads, window, (5, 3)))
    assert isinstance(module, CascadedGroupAttention)
    x = torch.randn(1, channels, window, window, dtype=torch.float64)
    outputs: list[Tensor] = []
    for head in range(heads):
        fed = x[:, head * 4 : head * 4 + 4] + (outputs[-1] if outputs else 0)
        qkv = module.qkv[head](fed)
        q, k, v = qkv[:, :KEY_DIM], qkv[:, KEY_DIM : 2 * KEY_DIM], qkv[:, 2 * KEY_DIM :]
        q = module.q_depthwise[head](q)
        out = torch.zeros_like(v)
        for y in range(window):
            for u in range(window):
                scores = torch.stack(
                    [
                        (q[0, :, y, u] @ k[0, :, b, a]) / 4 + module.bias[head, abs(y - b) * window + abs(u - a)]
                        for b in range(window)
                        for a in range(window)
                    ]
                )
                weights = scores.softmax(0).reshape(window, window)
                out[0, :, y, u] = (v[0] * weights).sum((1, 2))
        outputs.append(out)
    expected = module.project(functional.relu(torch.cat(outputs, 1)))
    assert torch.allclose(module(x), expected, rtol=1e-12, atol=1e-12)


@torch.no_grad()
@pytest.mark.parametrize("grid", [7, 8, 14, 15])
def test_windows_are_cut_row_by_row_and_padded_with_zeros(grid: int) -> None:
    window = 7
    module = _random(WindowAttention(8, 2, square(grid), window, (3, 3)))
    assert isinstance(module, WindowAttention)
    x = torch.randn(2, 8, grid, grid, dtype=torch.float64)
    count = -(-grid // window)
    expected = torch.zeros_like(x)
    for i in range(count):
        for j in range(count):
            cell = torch.zeros(2, 8, window, window, dtype=torch.float64)
            part = x[:, :, i * window : (i + 1) * window, j * window : (j + 1) * window]
            height, width = part.shape[2:]
            cell[:, :, :height, :width] = part
            y = module.attention(cell)
            expected[:, :, i * window : i * window + height, j * window : j * window + width] = y[:, :, :height, :width]
    assert torch.allclose(module(x), expected, rtol=1e-12, atol=1e-12)


def test_no_bias_is_remembered() -> None:
    """Changed weights are used by the very next call."""
    module = _random(CascadedGroupAttention(8, 2, 2, (3, 3)))
    assert isinstance(module, CascadedGroupAttention)
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((1, 8, 2, 2)))
    with torch.no_grad():
        before = module(x)
        module.bias[0, 1] += 1
        assert not torch.equal(module(x), before)
