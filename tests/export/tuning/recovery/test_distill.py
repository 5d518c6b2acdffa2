"""Fine-tuning for int8: what the roundings are, and that what is learned can be made again."""

from itertools import count

import numpy as np
import pytest
import torch

from efficientvit.model import EfficientViT
from efficientvit.size import square
from efficientvit.spec import model_spec
from efficientvit.weights.seeded import seeded
from export.tuning.recovery.distill import Recovery, recover
from export.tuning.recovery.fake_quantize import LEVELS, Range, ranges, rounded_form
from runtimes.runtime import Array


@pytest.fixture(scope="module")
def given() -> EfficientViT:
    return seeded(model_spec("m0", square(64))).eval()


@pytest.fixture(scope="module")
def images() -> Array:
    return np.random.default_rng(0).standard_normal((24, 3, 64, 64)).astype(np.float32)


def _recovered(given: EfficientViT, images: Array, steps: int) -> Recovery:
    return recover(given, images, seconds=1e9, steps=steps)


def test_without_its_roundings_the_rounded_form_computes_the_same(given: EfficientViT, images: Array) -> None:
    rounded, some = rounded_form(given), torch.tensor(images[:4])
    assert rounded.state_dict().keys() == given.state_dict().keys()
    with torch.no_grad():
        right, seeing = given(some), rounded(some)  # weights are rounded already
        for each in ranges(rounded):
            each.seeing = False
        found = rounded(some)
    spread = (right - right.mean(1, keepdim=True)).norm()
    assert 0 < (seeing - right).norm() / spread < 0.1
    assert (seeing - right).norm() < (found - right).norm() < 0.5 * spread


def test_a_range_rounds_to_256_values_and_lets_gradients_through() -> None:
    it = Range(equalized=False)
    x = torch.linspace(-1, 3, 2048).reshape(2, 1, 32, 32).requires_grad_()
    assert it(x) is x
    it.seeing = False
    y = it(x)
    assert len(y.unique()) == LEVELS + 1
    assert float((y - x).detach().abs().max()) <= 4 / LEVELS / 2 + 1e-6
    y.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad.flatten()[1:-1], torch.ones(x.numel() - 2))  # the ends are ties


def test_an_equalized_range_is_finer_in_small_channels() -> None:
    x = torch.stack([torch.linspace(-1, 1, 64), torch.linspace(-1, 1, 64) / 4]).reshape(1, 2, 8, 8)
    errors = []
    for equalized in (False, True):
        it = Range(equalized=equalized)
        it(x)
        it.seeing = False
        errors.append((it(x) - x).abs().amax((0, 2, 3)))
    assert errors[1][1] < errors[0][1] / 2
    assert errors[1][0] <= 2 / LEVELS


def test_what_is_learned_is_nearer_on_images_held_out_and_the_same_again(given: EfficientViT, images: Array) -> None:
    before = {name: value.clone() for name, value in given.state_dict().items()}
    first, second = _recovered(given, images, 20), _recovered(given, images, 20)
    assert first.images == 21
    assert first.steps == 20
    assert first.best > 0
    assert first.after < first.before
    for name, value in first.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name]), name
    assert any(not torch.equal(value, before[name]) for name, value in first.model.state_dict().items())
    for name, value in given.state_dict().items():  # the one that was given is as it was
        assert torch.equal(value, before[name]), name
    statistics = {name for name in before if "running" in name}
    assert all(torch.equal(first.model.state_dict()[name], before[name]) for name in statistics)


def test_time_ends_it_and_no_step_is_no_gain(given: EfficientViT, images: Array) -> None:
    seconds = count()
    found = recover(given, images, seconds=4, clock=lambda: float(next(seconds)))
    assert found.steps == 3
    assert found.best == 0
    assert found.after == found.before
    for name, value in found.model.state_dict().items():
        assert torch.equal(value, given.state_dict()[name]), name
