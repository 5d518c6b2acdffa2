"""PyTorch under another precision's rules."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from runtimes.precision import Dtype, Precision
from validation.reference.emulation import evaluate, rounded, with_rounded_weights
from validation.reference.model import ReferenceModel

NARROW = {Dtype.FP16: torch.float16, Dtype.BF16: torch.bfloat16}


@pytest.mark.parametrize("dtype", [Dtype.FP32, Dtype.FP16, Dtype.BF16])
@pytest.mark.parametrize("carrier", [torch.float32, torch.float64])
def test_rounding_keeps_the_type_and_is_idempotent(dtype: Dtype, carrier: torch.dtype) -> None:
    values = torch.randn(1000, dtype=carrier, generator=torch.Generator().manual_seed(0))
    once = rounded(values, dtype)
    assert once.dtype == carrier
    assert torch.equal(rounded(once, dtype), once)
    unit = {Dtype.FP32: 2.0**-24, Dtype.FP16: 2.0**-11, Dtype.BF16: 2.0**-8}[dtype]
    assert ((once - values).abs() <= unit * values.abs() + 2.0**-25).all()


def test_float16_overflows_and_keeps_subnormals() -> None:
    assert rounded(torch.tensor([65519.0, 65520.0]), Dtype.FP16).tolist() == [65504.0, float("inf")]
    assert rounded(torch.tensor([2.0**-24]), Dtype.FP16).item() == 2.0**-24


def test_rounded_weights_are_a_copy() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    before = copy.deepcopy(model.state_dict())
    result = with_rounded_weights(model, Precision(Dtype.FP16, Dtype.FP16, Dtype.FP16))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(torch.equal(t, rounded(t, Dtype.FP16)) for t in result.parameters())
    assert not torch.equal(result.state_dict()["0.weight"], before["0.weight"])
    assert result.state_dict()["1.num_batches_tracked"].dtype == torch.int64


@pytest.mark.parametrize("dtype", [Dtype.FP16, Dtype.BF16])
def test_every_intermediate_is_rounded(dtype: Dtype) -> None:
    class Sums(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x + 1000.0) - 1000.0

    y = evaluate(Sums(), torch.full((1, 1), 0.3), dtype)
    value = torch.tensor(0.3).to(NARROW[dtype])
    assert y.item() == ((value + 1000) - 1000).item()
    assert evaluate(Sums(), torch.full((1, 1), 0.3)).item() == pytest.approx(0.3, abs=1e-4)


def test_parts_are_put_together_in_order(model_reference: ReferenceModel) -> None:
    images = model_reference.images[:11].double()
    whole = model_reference.exact(images).detach()
    assert torch.allclose(evaluate(model_reference.exact, images), whole, rtol=1e-12, atol=1e-12)


def test_noise_by_precision(model_reference: ReferenceModel) -> None:
    """The coarser the format, the larger the error."""
    from validation.metrics import relative_error

    def error(dtype: Dtype) -> float:
        stored = with_rounded_weights(model_reference.deploy, Precision(dtype, dtype, dtype))
        y = evaluate(stored, model_reference.images[:4], dtype)
        return float(np.median(relative_error(y.double().numpy(), model_reference.logits[:4])))

    assert 100 * error(Dtype.FP32) < error(Dtype.FP16) < error(Dtype.BF16)
