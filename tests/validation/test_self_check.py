"""Weights on which parity could not fail are found out; ours are not among them."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from efficientvit.images.preprocessing import Preprocessing
from efficientvit.model import CascadedGroupAttention, ConvNorm, EfficientViT, Residual, build
from efficientvit.size import square
from efficientvit.spec import MODELS, model_spec
from efficientvit.weights.seeded import seeded
from runtimes.precision import Dtype, Precision
from validation.gates.precision import precision_gate
from validation.golden_run import Outputs
from validation.inputs.golden_set import Kind
from validation.inputs.synthetic import synthetic
from validation.metrics import relative_error
from validation.reference.model import ReferenceModel
from validation.self_check import SelfCheck, self_check, visibility

SIZE = 64
GOLDEN = synthetic(Preprocessing(image_size=square(SIZE)))


@torch.no_grad()
def fresh() -> EfficientViT:
    """As training starts: residual branches end in a scale of zero, attention biases are zero."""
    model = build(model_spec("m0", square(SIZE)))
    for module in model.modules():
        if isinstance(module, Residual):
            last = [child for child in module.branch.modules() if isinstance(child, ConvNorm)][-1]
            assert isinstance(last.norm, nn.BatchNorm2d)
            last.norm.weight.zero_()
        if isinstance(module, CascadedGroupAttention):
            module.bias.zero_()
    return model


def test_fresh_weights_are_vacuous() -> None:
    check = self_check(ReferenceModel(fresh(), GOLDEN))
    assert check.vacuous
    assert any("heads and biases could be lost unseen" in failure for failure in check.failures)
    assert check.least_visible == 0


@torch.no_grad()
def test_weights_that_ignore_the_image_are_vacuous() -> None:
    model = seeded(model_spec("m0", square(SIZE)))
    model.stem.get_submodule("conv1.norm").get_parameter("weight").mul_(1e-6)
    check = self_check(ReferenceModel(model, GOLDEN))
    assert any("hardly depend on the image" in failure for failure in check.failures)
    assert any("ignores its input" in failure for failure in check.unseen)


@torch.no_grad()
def test_one_dead_head_is_named() -> None:
    model = seeded(model_spec("m0", square(SIZE)))
    attention = model.stage1.get_submodule("block1.mixer.branch.attention")
    assert isinstance(attention, CascadedGroupAttention)
    attention.bias[2].zero_()
    check = self_check(ReferenceModel(model, GOLDEN))
    assert check.least_visible == 0
    assert check.least_visible_name == "stage1.block1.mixer.branch.attention.bias.2"
    assert check.by_samples
    assert not check.vacuous  # the proof of a program sees it


def _well_conditioned(check: SelfCheck) -> None:
    """More than a checkpoint must be: on our own weights small faults are to be seen."""
    assert check.by_samples == ()
    assert check.input_share >= 0.5
    assert check.distinct_top1 is not None
    assert check.distinct_top1 >= 0.5
    assert check.float32_floor <= 1e-5


@pytest.mark.parametrize(("name", "size"), [("m0", 224), *((name, 64) for name in list(MODELS)[1:-1]), ("m5", 224)])
def test_seeded_weights_pass(name: str, size: int) -> None:
    """M0 on all golden images, the others on one of each kind; the smallest and the largest at their own size."""
    every = synthetic(Preprocessing(image_size=square(size)))
    golden = every if name == "m0" else every.one_of_each_kind()
    check = self_check(ReferenceModel(seeded(model_spec(name, square(size))), golden))
    _well_conditioned(check)
    assert check.deploy_ratio <= 1.5
    assert check.sham_ratio > 10


@pytest.mark.parametrize("seed", range(1, 5))
def test_other_seeds_pass_too(seed: int) -> None:
    _well_conditioned(self_check(ReferenceModel(seeded(model_spec("m0", square(SIZE)), seed), GOLDEN)))


def test_visibility_is_what_a_loss_would_cost(model_reference: ReferenceModel) -> None:
    """To first order: dropping a tenth of a bias moves the logits by a tenth of its visibility, up to 3 times."""
    visible = visibility(model_reference)["logits"]
    images = model_reference.images[[0, 5, 10]].double()
    for name in ("stage2.block1.ffn1.branch.expand.norm.bias", "stem.conv3.norm.bias", "head.linear.bias"):
        model = copy.deepcopy(model_reference.exact)
        right = model(images).detach().numpy()
        with torch.no_grad():
            model.get_parameter(name).mul_(0.9)
            mine = model(images).numpy()
        cost = float((relative_error(mine, right) ** 2).mean() ** 0.5)
        assert 1 / 3 < cost / (0.1 * visible[name]) < 3


@torch.no_grad()
def test_visibility_agrees_with_really_losing_a_part(model_reference: ReferenceModel) -> None:
    """Whole biases and heads set to zero: within a factor of three of the first-order figure."""
    visible = visibility(model_reference)["logits"]
    images = model_reference.images[[0, 3, 6, 9, 12]].double()
    right = model_reference.exact(images).numpy()
    attention = "stage1.block1.mixer.branch.attention"
    for name in (f"{attention}.bias.1", f"{attention}.head.2", "stage2.block1.ffn1.branch.project.norm.bias"):
        model = copy.deepcopy(model_reference.exact)
        if name.startswith(attention):
            module = model.get_submodule(attention)
            assert isinstance(module, CascadedGroupAttention)
            columns = slice(2 * module.head_dim, 3 * module.head_dim)
            (module.bias[1] if ".bias." in name else module.project.conv.weight[:, columns]).zero_()
        else:
            model.get_parameter(name).zero_()
        cost = float((relative_error(model(images).numpy(), right) ** 2).mean() ** 0.5)
        assert visible[name] / 3 <= cost <= 3 * visible[name], name


def test_the_sham_is_measured_on_what_the_precision_gate_judges(model_reference: ReferenceModel) -> None:
    """A model on which only the amplified images tell the sham from an honest artifact lets it pass."""
    check = self_check(model_reference, [Precision(Dtype.FP16, Dtype.FP16, Dtype.FP16)])
    at = model_reference.at(Precision(Dtype.FP16, Dtype.FP16, Dtype.FP16))
    rows = [row for row, kind in enumerate(at.golden.kinds) if kind is not Kind.AMPLIFIED]
    sham = np.broadcast_to(at.logits[rows].mean(axis=0), at.logits.shape).astype(np.float32)
    result = precision_gate(at, [Outputs(1, {"logits": sham})])
    assert check.sham_ratio == pytest.approx(max(kind.worst / kind.budget for kind in result.kinds), rel=1e-3)


def test_lone_tokens_have_no_attention_to_lose(model_reference: ReferenceModel) -> None:
    assert model_reference.trained.spec.windows[2] == 1
    assert not [
        name for name in visibility(model_reference) if name.startswith("stage3") and ".attention.bias." in name
    ]
