"""That equalization is proven, and that factors which are not taken back everywhere are not."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from efficientvit.deploy.equalization import Equalization, Group, equalize, groups
from efficientvit.deploy.rewrites import rewritten
from efficientvit.errors import VitExportError
from efficientvit.head import Head
from efficientvit.model import EfficientViT
from efficientvit.size import square
from efficientvit.spec import model_spec
from efficientvit.weights.seeded import seeded
from tests.efficientvit.deploy.test_equalization import drawn
from validation.proof.equalization import prove_exact, require_exact
from validation.reference.memo import remembering

Forms = tuple[EfficientViT, EfficientViT]


@pytest.fixture(scope="module")
def forms() -> Forms:
    """Trained, and deploy in float64; windows that do not divide the grid."""
    trained = seeded(model_spec("m0", square(128)))
    return trained, rewritten(trained)


@pytest.mark.parametrize(
    ("name", "size", "head"), [("m0", 224, "logits"), ("m1", 64, "logits"), ("m3", 96, "features")]
)
def test_any_factors_are_proven(name: str, size: int, head: str) -> None:
    trained = seeded(model_spec(name, square(size), head=Head.parse(head)))
    deploy = rewritten(trained)
    prove_exact(trained, deploy, drawn(deploy))


def _forgotten(which: Callable[[Group], torch.Tensor]) -> Callable[[EfficientViT, Equalization], EfficientViT]:
    def by(form: EfficientViT, equalization: Equalization) -> EfficientViT:
        there = {group.name: group for group in groups(form)}
        kept = [which(there[name]) for name, _ in equalization[:1]]
        before = [value.clone() for value in kept]
        equalize(form, equalization)
        for value, old in zip(kept, before, strict=True):
            value.copy_(old)
        return form

    return by


@pytest.mark.parametrize(
    ("group", "which"),
    [
        ("stem.conv1", lambda group: group.writers[0][0].bias),
        ("stage1.block1.depthwise1", lambda group: group.readers[-1][0].weight),
        ("stage1.block1.depthwise1", lambda group: group.readers[2][0].weight),
        ("stage1.block1.depthwise2", lambda group: group.writers[-1][0].weight),
        ("stage2.downsample.merge.project", lambda group: group.readers[0][0].weight),
    ],
    ids=["bias", "depthwise reader", "key", "branch", "next depthwise"],
)
def test_a_factor_that_is_forgotten_somewhere_is_told(
    group: str, which: Callable[[Group], torch.Tensor], forms: Forms
) -> None:
    trained, deploy = forms
    only = tuple(each for each in drawn(deploy) if each[0] == group)
    prove_exact(trained, deploy, only)
    with pytest.raises(VitExportError, match="not proven an identity"):
        prove_exact(trained, deploy, only, by=_forgotten(which))


def test_a_constant_that_is_rounded_twice_is_named(forms: Forms) -> None:
    trained, deploy = forms

    rounded = rewritten(trained)
    weight = rounded.get_parameter("stem.conv2.weight")
    weight.copy_(weight.float().double() * (1 + 2.0**-23))
    with pytest.raises(VitExportError, match=r"stem\.conv2\.weight"):
        prove_exact(trained, rounded, drawn(deploy))


class _Kept(dict[str, NDArray[np.float64]]):
    """A memo."""

    find, keep = dict.get, dict.__setitem__

    def alone(self, _: str) -> AbstractContextManager[None]:
        return nullcontext()


def test_what_was_proven_once_says_nothing_of_another_model(forms: Forms) -> None:
    trained, deploy = forms
    factors, memo = drawn(deploy), _Kept()
    with remembering(memo):
        require_exact(trained, deploy, factors)
        assert len(memo) == 1
        other = rewritten(trained)
        weight = other.get_parameter("stem.conv2.weight")
        weight.copy_(weight.float().double() * (1 + 2.0**-23))
        with pytest.raises(VitExportError, match=r"stem\.conv2\.weight"):
            require_exact(trained, other, factors)
    assert len(memo) == 1
