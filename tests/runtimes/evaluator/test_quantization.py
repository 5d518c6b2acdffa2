"""Quantizers, against what the formats' specifications say in numbers."""

import pytest
import torch

from runtimes.evaluator.evaluator import BadOperand
from runtimes.evaluator.quantization import dequantize, fake_quantize, holder, quantize


def test_half_goes_to_even_and_what_is_beyond_saturates() -> None:
    x = torch.tensor([-1000.0, -0.5, 0.5, 1.5, 2.5, 1000.0])
    assert quantize(x, torch.tensor(1.0), None, -128, 127).tolist() == [-128, 0, 0, 2, 2, 127]


def test_the_zero_point_is_added_after_rounding() -> None:
    q = quantize(torch.tensor([0.5, 1.5]), torch.tensor(1.0), torch.tensor(3, dtype=torch.uint8), 0, 255)
    assert q.tolist() == [3, 5]
    assert q.dtype is torch.uint8


def test_scales_along_an_axis() -> None:
    x, scale, zero = torch.ones(1, 2, 3), torch.tensor([0.5, 0.25]), torch.tensor([-1, 1], dtype=torch.int8)
    q = quantize(x, scale, zero, -128, 127, 1)
    assert q.tolist() == [[[1, 1, 1], [5, 5, 5]]]
    assert torch.equal(dequantize(q, scale, zero, 1), x)


def test_scales_that_do_not_fit_the_axis_are_refused() -> None:
    with pytest.raises(BadOperand, match="axis 2"):
        quantize(torch.ones(1, 2, 3), torch.ones(2), None, -128, 127, 2)


def test_a_zero_point_far_from_the_integer_does_not_overflow() -> None:
    q, zero = torch.tensor([-128], dtype=torch.int8), torch.tensor(127, dtype=torch.int8)
    assert dequantize(q, torch.tensor(1.0), zero).tolist() == [-255.0]


def test_fake_quantize_by_its_specification() -> None:
    low, high = torch.tensor(-1.0), torch.tensor(2.0)
    x = torch.tensor([-3.0, -1.0, -0.4, 0.6, 2.0, 7.0])
    assert fake_quantize(x, low, high, low * 10, high * 10, 4).tolist() == [-10.0, -10.0, 0.0, 10.0, 20.0, 20.0]


def test_integers_that_no_type_holds_are_refused() -> None:
    assert holder(-8, 7) is torch.int8
    assert holder(0, 65535) is torch.int32
    with pytest.raises(BadOperand, match="integers"):
        holder(0, 2**40)
