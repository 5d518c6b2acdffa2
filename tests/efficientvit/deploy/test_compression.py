"""What compressed weights decode to."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from efficientvit.deploy.compression import (
    LEAST_ELEMENTS,
    addends,
    affine,
    compressible,
    int8,
    palette,
    palettized,
    quantizable,
)
from efficientvit.deploy.rewrites import to_deploy
from efficientvit.model import build
from efficientvit.size import square
from efficientvit.spec import model_spec


def _weight(seed: int, shape: tuple[int, ...] = (16, 24, 1, 1)) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float16)


def test_only_large_dense_weights_are_compressed() -> None:
    model = to_deploy(build(model_spec("m0", square(64))))
    names = list(compressible(model))
    assert names
    modules = dict(model.named_modules())
    for name in names:
        owner = modules[name.removesuffix(".weight")]
        assert isinstance(owner, torch.nn.Linear) or (isinstance(owner, torch.nn.Conv2d) and owner.groups == 1)
        assert model.get_parameter(name).numel() >= LEAST_ELEMENTS
    share = sum(model.get_parameter(name).numel() for name in names) / sum(p.numel() for p in model.parameters())
    assert share > 0.8


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**31), st.sampled_from([8, 6, 4]))
def test_a_palette_is_the_nearest_entry_for_every_weight(seed: int, bits: int) -> None:
    weight = _weight(seed)
    entries, indices = palette(weight, bits)
    assert len(entries) <= 2**bits
    assert np.all(np.diff(entries) > 0)
    assert indices.shape == weight.shape
    chosen = np.abs(entries[indices].astype(np.float64) - weight)
    best = np.abs(entries.astype(np.float64)[:, None] - weight.reshape(1, -1)).min(axis=0).reshape(weight.shape)
    assert np.array_equal(chosen, best)
    assert np.array_equal(palettized(weight, bits), entries[indices])


@pytest.mark.parametrize("bits", [8, 6, 4])
def test_a_palette_of_few_values_is_exact(bits: int) -> None:
    weight = np.tile(np.array([-0.5, 0.0, 0.25, 1.0], np.float16), 64).reshape(4, 64)
    assert np.array_equal(palettized(weight, bits), weight)


def test_a_larger_palette_is_a_smaller_error() -> None:
    weight = _weight(0, (64, 64))
    errors = [float(np.square(palettized(weight, bits).astype(np.float64) - weight).mean()) for bits in (4, 6, 8)]
    assert errors[0] > 8 * errors[1] > 64 * errors[2]


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**31))
def test_int8_has_a_scale_for_each_channel(seed: int) -> None:
    weight = _weight(seed) * np.logspace(-2, 2, 16).astype(np.float16).reshape(16, 1, 1, 1)
    decoded = int8(weight)
    step = np.abs(weight).max(axis=(1, 2, 3), keepdims=True).astype(np.float64) / 127
    assert (np.abs(decoded.astype(np.float64) - weight) <= 0.51 * step + np.abs(weight) * 2.0**-10).all()
    assert all(len(np.unique(row)) <= 255 for row in decoded.reshape(16, -1))


def test_a_channel_of_zeros_stays_zero() -> None:
    weight = _weight(0)
    weight[3] = 0
    assert not int8(weight)[3].any()


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**31), st.sampled_from([-3.0, 0.0, 3.0]))
def test_a_constant_among_unsigned_activations_is_what_onnx_runtime_makes_of_it(seed: int, middle: float) -> None:
    from onnx import TensorProto
    from onnxruntime.quantization.quant_utils import quantize_data

    value = (np.random.default_rng(seed).standard_normal((7, 7)) + middle).astype(np.float32)
    zero, scale, integers = quantize_data(value, TensorProto.UINT8, symmetric=False)
    stored, own_scale, own_zero = affine(value)
    assert (own_scale, own_zero) == (scale, zero)
    assert own_scale.dtype == np.float32
    assert stored.dtype == own_zero.dtype == np.uint8
    assert np.array_equal(stored, integers.reshape(value.shape))


def test_a_constant_of_zeros_stays_zero() -> None:
    stored, scale, zero = affine(np.zeros((2, 2), np.float32))
    assert not stored.any()
    assert scale.item() == 1
    assert zero.item() == 0


def test_what_is_quantized_for_cpus_is_every_weight_and_every_attention_bias() -> None:
    deploy = to_deploy(build(model_spec("m0", square(128))))
    weights = {name for name in deploy.state_dict() if name.endswith(".weight")}
    assert set(quantizable(deploy, depthwise=True)) == weights
    assert set(quantizable(deploy)) < weights
    heads = [name for name in deploy.state_dict() if name.rsplit(".", 1)[-1].isdigit()]
    assert list(addends(deploy)) == heads
    assert len(heads) == 24
