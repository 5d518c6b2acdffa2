"""The gates of the first stage."""

import copy

import numpy as np
import pytest
import torch

from efficientvit.deploy import rewrites
from efficientvit.images.preprocessing import Preprocessing
from efficientvit.model import EfficientViT
from efficientvit.size import square
from efficientvit.spec import model_spec
from efficientvit.weights.seeded import seeded
from runtimes.precision import Precision
from validation.gates.rewrite import EXACT, FLOOR_RATIO, proof_gates, rewrite_gates
from validation.inputs.synthetic import synthetic
from validation.reference.emulation import evaluations
from validation.reference.model import ReferenceModel


def test_the_healthy_rewrites_pass(model_reference: ReferenceModel) -> None:
    structure, precision = rewrite_gates(model_reference)
    assert (structure.gate, precision.gate) == ("structure", "precision")
    assert structure.passed
    assert precision.passed
    assert 0 < structure.worst <= EXACT
    assert precision.floor is not None
    assert precision.budget == FLOOR_RATIO * precision.floor


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_what_is_no_number_fails(
    poison: float, model_reference: ReferenceModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    @torch.no_grad()
    def poisoned(model: EfficientViT) -> EfficientViT:
        result = rewrites.rewritten(model)
        result.head.get_submodule("linear").get_parameter("bias")[3] = poison
        return result

    monkeypatch.setattr(model_reference, "rewritten", poisoned(model_reference.trained))
    structure, _ = rewrite_gates(model_reference)
    assert not structure.passed


@torch.no_grad()
def test_a_deploy_form_that_costs_accuracy_fails() -> None:
    """Exact in float64, coarser in float32: constants that were rounded on the way to the artifact."""
    reference = ReferenceModel(seeded(model_spec("m0", square(64))), synthetic(Preprocessing(image_size=square(64))))
    for parameter in reference.deploy.parameters():
        parameter.copy_(parameter * (1 + 2.0**-19))
    reference._single = reference.split(evaluations(reference.deploy, reference.images, Precision()))
    structure, precision = rewrite_gates(reference)
    assert structure.passed
    assert not precision.passed


@pytest.mark.parametrize("count", [0, 20])
def test_no_judged_image_is_no_pass(count: int, model_reference: ReferenceModel) -> None:
    none = ReferenceModel.__new__(ReferenceModel)
    none.__dict__.update({key: value for key, value in vars(model_reference).items() if key != "float32_costs"})
    none.judged = np.arange(len(model_reference.golden)) < count
    assert all(gate.passed for gate in rewrite_gates(none)) is bool(count)


def test_a_rewrite_that_no_image_tells_is_named(
    model_reference: ReferenceModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Off by far less than the samples' budget, in one channel."""
    assert all(gate.passed for gate in proof_gates(model_reference))

    @torch.no_grad()
    def drop_key_bias(model: EfficientViT) -> EfficientViT:
        model = rewrites.drop_key_bias(model)
        model.get_submodule("head.linear").get_parameter("bias")[0] += 2.0**-60
        return model

    wrong = tuple(drop_key_bias if step is rewrites.drop_key_bias else step for step in rewrites.REWRITES)
    monkeypatch.setattr(rewrites, "REWRITES", wrong)
    identity, constants = proof_gates(model_reference)
    assert (identity.worst, identity.passed) == (1, False)
    assert "rewrite 'drop_key_bias'" in identity.detail
    assert constants.passed


def test_a_constant_that_was_rounded_twice_is_named(
    model_reference: ReferenceModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy = copy.deepcopy(model_reference.deploy)
    with torch.no_grad():
        deploy.get_submodule("stem.conv2").get_parameter("weight")[0].mul_(1 + 2.0**-20)
    monkeypatch.setattr(model_reference, "deploy", deploy)
    identity, constants = proof_gates(model_reference)
    assert identity.passed
    assert "'stem.conv2.weight'" in constants.detail
    assert not constants.passed
