"""What artifacts are compared with: float64 answers, floors by kind, and which images are judged."""

import copy

import numpy as np
import pytest
import torch

from efficientvit.digests import digests
from efficientvit.images.preprocessing import Preprocessing
from efficientvit.size import square
from efficientvit.spec import model_spec
from efficientvit.weights.seeded import seeded
from runtimes.precision import Dtype, Precision
from validation.inputs.golden_set import Kind
from validation.inputs.synthetic import synthetic
from validation.metrics import relative_error
from validation.reference.constants import deploy_constants
from validation.reference.floors import WELL_CONDITIONED, ordinary
from validation.reference.model import ReferenceModel

HALF = Precision(Dtype.FP16, Dtype.FP16, Dtype.FP16)


def test_the_answers_are_the_trained_forms_in_float64(model_reference: ReferenceModel) -> None:
    model = copy.deepcopy(model_reference.trained).double()
    with torch.no_grad():
        right = model(model_reference.images.double()).numpy()
    assert relative_error(model_reference.logits, right).max() <= 1e-13
    # Constants rounded to float32: as far off as float32 is.
    rows = [kind is not Kind.AMPLIFIED for kind in model_reference.golden.kinds]
    assert relative_error(model_reference.at(Precision()).classifier.structure, right)[rows].max() <= 1e-6


def test_every_kind_has_a_floor_of_its_own(model_reference: ReferenceModel) -> None:
    single, half = (model_reference.at(precision).classifier for precision in (Precision(), HALF))
    assert set(single.floors) == set(single.structure_floors) == set(model_reference.golden.unique_kinds)
    assert all(2e-7 <= floor <= 3 * WELL_CONDITIONED for floor in single.floors.values())
    assert all(half.floors[kind] > 50 * single.floors[kind] for kind in ordinary(single.floors))
    # Rounded weights in float32 arithmetic, against the same weights: nothing of fp16 is left.
    floors, others = single.structure_floors, half.structure_floors
    assert all(others[kind] <= 5 * floors[kind] for kind in ordinary(floors))


def test_measured_once(model_reference: ReferenceModel) -> None:
    assert model_reference.at(HALF) is model_reference.at(HALF)


def test_amplified_images_are_amplified(model_reference: ReferenceModel) -> None:
    unit = synthetic(Preprocessing(image_size=square(64))).of_kind(Kind.AMPLIFIED).images
    mine = model_reference.golden.of_kind(Kind.AMPLIFIED).images
    factor = float(np.abs(mine).max() / np.abs(unit).max())
    assert factor in (pytest.approx(10), pytest.approx(5), pytest.approx(3), pytest.approx(2))


@torch.no_grad()
def test_a_chaotic_image_is_listed_and_opens_no_gate() -> None:
    """Logits that all but cancel on one image: float32 knows nothing of them there."""
    model = seeded(model_spec("m0", square(64)))
    golden = synthetic(Preprocessing(image_size=square(64)))
    # On the third image, the head is left with what float32 rounds away.
    features: list[torch.Tensor] = []
    exact = copy.deepcopy(model).double()
    hook = exact.head.get_submodule("linear").register_forward_pre_hook(lambda _, args: features.append(args[0]))
    exact(torch.tensor(golden.images[2:3]).double())
    hook.remove()
    linear = model.head.get_submodule("linear")
    assert isinstance(linear, torch.nn.Linear)
    direction = features[0][0] / features[0][0].norm()
    linear.weight -= (linear.weight.double() @ direction)[:, None] * direction
    linear.bias.zero_()
    reference = ReferenceModel(model, golden)
    at = reference.at(Precision())
    assert reference.not_judged == (golden.names[2],)
    assert 2 not in at.rows(golden.kinds[2])
    assert max(at.classifier.floors.values()) <= 3 * WELL_CONDITIONED


def test_constants_as_they_are_stored(model_reference: ReferenceModel) -> None:
    tensors = dict(deploy_constants(model_reference.deploy, Dtype.FP16))
    assert {value.dtype for value in tensors.values()} == {np.dtype(np.float16)}
    assert tensors.keys() == model_reference.deploy.state_dict().keys()
    assert model_reference.at(HALF).constants == digests(tensors.items())
    assert model_reference.at(HALF).constants != model_reference.at(Precision()).constants
