"""Quantizers in exact arithmetic: what is the same quantizer, and which identities hold."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from runtimes.evaluator.field.operators import FieldTensor
from runtimes.evaluator.field.residues import Residues
from runtimes.evaluator.field.tensor import Field, NoMeaning
from runtimes.evaluator.quantization import dequantize, fake_quantize, quantize

RESIDUES = Residues(5)
Program = Callable[[Tensor], Tensor]


def number(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def pair(x: Tensor, scale: float = 0.25, zero: int = 3, back: float | None = None) -> Tensor:
    """Quantized to uint8 and dequantized."""
    point = torch.tensor(zero, dtype=torch.uint8)
    q = quantize(x, number(scale), point, 0, 255)
    return dequantize(q, number(scale if back is None else back), point)


def fake(x: Tensor, low: float = -128.0, high: float = 127.0, back: float = 1.0) -> Tensor:
    """By limits."""
    return fake_quantize(x, number(low), number(high), number(low * back), number(high * back), 256)


def equal(a: Program, b: Program) -> bool:
    with torch.inference_mode():
        first, second = (program(Field(RESIDUES, 2, uniform=True).images((2, 4, 4, 6))) for program in (a, b))
    assert isinstance(first, FieldTensor)
    assert isinstance(second, FieldTensor)
    return RESIDUES.equal(first.residues, second.residues)


@pytest.mark.parametrize(("a", "b"), [
    (lambda x: pair(pair(x)), pair),
    (lambda x: pair(pair(x).mT.reshape(2, 6, 16)), lambda x: pair(x).mT.reshape(2, 6, 16)),
    (lambda x: pair(torch.cat([pair(part) for part in pair(x).split(2, 1)], 1)), pair),
    (lambda x: pair(torch.nn.functional.pad(pair(x), (1, 2))), lambda x: torch.nn.functional.pad(pair(x), (1, 2))),
    (lambda x: pair(torch.nn.functional.pad(x, (1, 2))), lambda x: torch.nn.functional.pad(pair(x), (1, 2))),
    (lambda x: pair(x, back=0.5), lambda x: 2 * pair(x)),
    (lambda x: fake(fake(x)), fake),
    (lambda x: fake(x, low=0), lambda x: fake(x.relu(), low=0)),
    (lambda x: fake(x, low=0).relu(), lambda x: fake(x, low=0)),
], ids=["twice", "moved", "split", "padded behind", "padded before", "back by twice the scale", "a range twice",
        "a range from zero up holds a ReLU", "what it gives needs none"])  # fmt: skip
def test_equal(a: Program, b: Program) -> None:
    assert equal(a, b)


@pytest.mark.parametrize(("a", "b"), [
    (pair, lambda x: x),
    (pair, lambda x: pair(x, scale=0.26)),
    (pair, lambda x: pair(x, zero=4)),
    (pair, lambda x: pair(x, back=0.26)),
    (lambda x: pair(pair(x, scale=0.26)), lambda x: pair(x, scale=0.26)),
    (lambda x: pair(pair(x, back=0.5)), lambda x: pair(x, back=0.5)),
    (lambda x: pair(x, zero=0), lambda x: pair(x.relu(), zero=0)),
    (fake, lambda x: fake(x, high=128.0)),
    (fake, lambda x: fake(x, back=0.5)),
    (fake, lambda x: fake(x.relu())),
], ids=["none", "scale", "zero point", "back", "two scales", "back by another, then again",
        "a ReLU left to a zero point", "limit", "other limits back", "a ReLU before a symmetric range"])  # fmt: skip
def test_different(a: Program, b: Program) -> None:
    assert not equal(a, b)


def test_scales_by_channel_are_of_weights_alone() -> None:
    images = Field(RESIDUES, 2, uniform=True).images((2, 4))
    with pytest.raises(NoMeaning, match="more than one scale"):
        quantize(images, torch.ones(4), None, -128, 127, 1)


def test_a_scale_is_positive() -> None:
    with pytest.raises(NoMeaning, match="scale"):
        pair(Field(RESIDUES, 2, uniform=True).images((2, 4)), scale=-1.0)
