"""Constants are written in place, through views, only where that is allowed; what nobody wrote equals nothing."""

import pytest
import torch
from torch import nn

from runtimes.evaluator.field.operators import FieldTensor
from runtimes.evaluator.field.residues import Residues
from runtimes.evaluator.field.tensor import Field, NoMeaning
from runtimes.evaluator.field.writing import Writing


def _field() -> Field:
    return Field(Residues(3), 1, uniform=True)


def test_a_write_through_a_view_is_one_to_the_whole() -> None:
    field = _field()
    constant = field.constant(torch.zeros(4, 1, 3, 3))
    expected = torch.zeros(4, 1, 3, 3)
    kept = constant.clone()
    with Writing(field):
        constant[:, 0, 1, 1] += 1
        constant[1:3] = 2
    expected[:, 0, 1, 1] += 1
    expected[1:3] = 2
    assert torch.equal(constant, field.constant(expected))
    assert torch.equal(kept, field.constant(torch.zeros(4, 1, 3, 3)))


def test_outside_nothing_is_written() -> None:
    field = _field()
    with pytest.raises(NoMeaning):
        field.constant(torch.zeros(3)).add_(1)
    images = field.images((1, 3))
    with Writing(field), pytest.raises(NoMeaning):
        images.add_(1)


@torch.no_grad()
def test_a_new_parameter_equals_nothing_until_it_is_written() -> None:
    field = _field()
    value = field.constant(torch.ones(3, 2))
    with Writing(field):
        layer = nn.Linear(2, 3)
        assert isinstance(layer.weight, FieldTensor)
        assert not torch.equal(layer.weight, layer.weight)
        layer.weight.copy_(value)
        assert torch.equal(layer.weight, value)
