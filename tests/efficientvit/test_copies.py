"""What `copied` gives is what `copy.deepcopy` does."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn

from efficientvit.copies import copied
from efficientvit.deploy.rewrites import to_deploy
from efficientvit.model import EfficientViT, build
from efficientvit.size import square
from efficientvit.spec import model_spec

IMAGES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def _trained() -> EfficientViT:
    return build(model_spec("m0", square(64), 3)).eval()


def _deploy() -> EfficientViT:
    return to_deploy(_trained())


def _settings(module: nn.Module) -> list[tuple[str, type, dict[str, object]]]:
    own = ("_parameters", "_buffers", "_modules")
    return [
        (name, type(part), {key: value for key, value in vars(part).items() if key not in own})
        for name, part in module.named_modules(remove_duplicate=False)
    ]


@pytest.mark.parametrize("make", [_trained, _deploy])
def test_it_is_the_same_and_shares_nothing(make: Callable[[], EfficientViT]) -> None:
    model = make()
    result, meant = copied(model), copy.deepcopy(model)
    assert _settings(result) == _settings(meant)
    assert result.training is meant.training
    tensors, own = dict(result.state_dict(keep_vars=True)), dict(model.state_dict(keep_vars=True))
    assert list(tensors) == list(own)
    for name, tensor in tensors.items():
        assert torch.equal(tensor, own[name])
        assert type(tensor) is type(own[name])
        assert tensor.requires_grad == own[name].requires_grad
        assert tensor.data_ptr() != own[name].data_ptr()
    before = model(IMAGES)
    with torch.no_grad():
        for tensor in result.parameters():
            tensor.zero_()
    result.train()
    result.register_forward_hook(lambda *_: None)
    assert torch.equal(model(IMAGES), before)
    assert _settings(model) == _settings(meant)


def test_what_a_model_has_twice_its_copy_has_twice() -> None:
    shared = nn.Linear(3, 3)
    model = nn.Sequential(shared, nn.ReLU(), shared, nn.Linear(3, 3))
    assert isinstance(model[3], nn.Linear)
    model[3].weight = shared.weight
    result = copied(model)
    assert result[0] is result[2] is not shared
    assert isinstance(result[0], nn.Linear)
    assert isinstance(result[3], nn.Linear)
    assert result[0].weight is result[3].weight is not shared.weight


def test_hooks_and_settings_that_can_be_changed_are_copied() -> None:
    model = nn.ReLU()
    model.register_forward_hook(lambda _, __, found: found + 1)
    setattr(model, "notes", ["a", ("b", [1])])  # noqa: B010
    result = copied(model)
    assert torch.equal(result(torch.zeros(2)), torch.ones(2))
    assert list(result._forward_hooks) == list(model._forward_hooks)
    assert result._forward_hooks is not model._forward_hooks
    assert result.notes == model.notes
    assert isinstance(result.notes, list)
    assert isinstance(model.notes, list)
    assert result.notes[1][1] is not model.notes[1][1]


def test_a_module_that_copies_itself_does_so() -> None:
    class Own(nn.Module):
        def __deepcopy__(self, memo: dict[int, object]) -> str:
            return "its own way"

    class Reduced(nn.Module):
        def __reduce__(self) -> tuple[object, tuple[object, ...]]:
            return nn.ReLU, ()

    result = copied(nn.ModuleList([nn.ReLU(), Reduced()]))
    assert [type(each) for each in result] == [nn.ReLU, nn.ReLU]
    assert copied(Own()) == "its own way"  # type: ignore[comparison-overlap]


def test_what_the_memo_has_is_taken_from_it() -> None:
    model = nn.Linear(2, 2)
    weight = nn.Parameter(torch.ones(2, 2))
    result = copied(model, {id(model.weight): weight})
    assert result.weight is weight
    assert result.bias is not model.bias
    assert copied(model, {id(model): result}) is result
