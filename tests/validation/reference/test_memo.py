"""An evaluation is remembered only for exactly the model, the images and the arithmetic that it is of."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from efficientvit.model import build
from efficientvit.size import square
from efficientvit.spec import model_spec
from runtimes.precision import Dtype, Precision
from validation.reference.emulation import evaluate, evaluations
from validation.reference.memo import fingerprint, remembering


class _Kept:
    def __init__(self) -> None:
        self.arrays: dict[str, NDArray[np.float64]] = {}
        self.hits = 0

    def find(self, key: str) -> NDArray[np.float64] | None:
        self.hits += key in self.arrays
        return self.arrays.get(key)

    def keep(self, key: str, values: NDArray[np.float64]) -> None:
        self.arrays[key] = values

    def alone(self, _: str) -> AbstractContextManager[None]:
        return nullcontext()


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return build(model_spec("m0", square(64))).eval()


IMAGES = torch.linspace(-1, 1, 2 * 3 * 64 * 64).reshape(2, 3, 64, 64)


def test_what_is_remembered_is_what_was_evaluated(model: nn.Module) -> None:
    kept = _Kept()
    plain = evaluate(model, IMAGES)
    with remembering(kept):
        first, second = evaluate(model, IMAGES), evaluate(model, IMAGES)
        rounded = evaluate(model, IMAGES, Dtype.FP16)
    assert kept.hits == 1
    assert first.dtype == torch.float32
    assert torch.equal(first, plain)
    assert torch.equal(second, plain)
    assert not torch.equal(rounded, plain)
    with remembering(None):
        evaluate(model, IMAGES)
    assert kept.hits == 1


def test_evaluations_that_belong_together_are_remembered_as_one(model: nn.Module) -> None:
    kept, single, half = _Kept(), Precision(), Precision(Dtype.FP16, Dtype.FP16, Dtype.FP16)
    plain = evaluations(model, IMAGES, single)
    with remembering(kept):
        runs = [evaluations(model, IMAGES, single) for _ in range(2)]
        fewer, rounded = evaluations(model, IMAGES, single, 2), evaluations(model, IMAGES, half)
    assert kept.hits == 1
    assert all(np.array_equal(run, plain) for run in runs)
    assert np.array_equal(fewer, plain[:2])
    assert not np.array_equal(rounded, plain)


def test_what_another_process_computes_meanwhile_is_waited_for(model: nn.Module) -> None:
    right = np.full((2, 1000), 7.0)

    class Shared(_Kept):
        def alone(self, key: str) -> AbstractContextManager[None]:
            self.keep(key, right)  # while this process waited
            return nullcontext()

    with remembering(Shared()):
        assert np.array_equal(evaluate(model, IMAGES), right)


def _weight(model: nn.Module) -> None:
    next(model.parameters()).data[0] *= 1 + 2**-20


def _buffer(model: nn.Module) -> None:
    next(model.buffers())[0] += 1e-6


def _setting(model: nn.Module) -> None:
    norm = next(module for module in model.modules() if isinstance(module, nn.BatchNorm2d))
    norm.eps *= 2


def _mode(model: nn.Module) -> None:
    model.train()


def _module(model: nn.Module) -> None:
    name, _ = next((name, module) for name, module in model.named_modules() if isinstance(module, nn.ReLU))
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, nn.Hardswish())


@pytest.mark.parametrize("change", [_weight, _buffer, _setting, _mode, _module])
def test_whatever_changes_the_model_changes_its_fingerprint(
    model: nn.Module, change: Callable[[nn.Module], None]
) -> None:
    before = fingerprint("", model, (IMAGES,))
    assert before is not None
    change(model)
    assert fingerprint("", model, (IMAGES,)) != before


def test_other_images_and_another_purpose_are_other_keys(model: nn.Module) -> None:
    before = fingerprint("", model, (IMAGES,))
    assert fingerprint("", model, (IMAGES + 1e-6,)) != before
    assert fingerprint("", model, (IMAGES.double(),)) != before
    assert fingerprint("else", model, (IMAGES,)) != before


def test_a_module_whose_forward_was_replaced_is_not_remembered(model: nn.Module) -> None:
    model.forward = lambda x: x.sum((1, 2, 3))[:, None]
    assert fingerprint("", model, (IMAGES,)) is None


class _Kind(nn.Module):
    """`size`: anything."""

    def __init__(self, size: object) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def test_one_module_in_two_places_is_told_from_another() -> None:
    a, b = _Kind(1), _Kind(2)
    first, second = nn.Sequential(a, b, a), nn.Sequential(a, b, b)
    assert fingerprint("", first, (IMAGES,)) != fingerprint("", second, (IMAGES,))


@pytest.mark.parametrize(
    ("one", "other"),
    [(1, 1.0), ((1, {"a"}), (1, {"b"})), ([torch.ones(2)], [torch.zeros(2)]), (np.ones(2000), np.eye(2000)[0])],
)
def test_a_setting_is_part_of_the_key_in_full(one: object, other: object) -> None:
    first, second = (fingerprint("", _Kind(setting), (IMAGES,)) for setting in (one, other))
    assert None not in (first, second)
    assert first != second
    assert first == fingerprint("", _Kind(one), (IMAGES,))


@pytest.mark.parametrize("setting", [lambda x: x, (i for i in range(2))])
def test_a_setting_without_bytes_is_not_remembered(setting: object) -> None:
    assert fingerprint("", _Kind(setting), (IMAGES,)) is None


def test_pytorch_s_own_settings_are_part_of_it(model: nn.Module) -> None:
    before = fingerprint("", model, (IMAGES,))
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        assert fingerprint("", model, (IMAGES,)) not in (before, None)
    finally:
        torch.set_float32_matmul_precision(precision)
    with torch.autocast("cpu"):
        assert fingerprint("", model, (IMAGES,)) is None
    assert fingerprint("", model.bfloat16(), (IMAGES,)) is None


def test_what_a_hook_may_change_is_not_remembered(model: nn.Module) -> None:
    handle = model.register_forward_hook(lambda *_: None)
    assert fingerprint("", model, (IMAGES,)) is None
    handle.remove()
    assert fingerprint("", model, (IMAGES,)) is not None
