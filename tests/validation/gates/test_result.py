"""The gates on made-up logits: what passes, what doesn't, and that NaN never does."""

from dataclasses import replace

import numpy as np
import pytest

from runtimes.precision import Dtype, Precision
from tests.references import with_logits
from validation.gates.constants import Audit, constants_gate
from validation.gates.precision import precision_gate
from validation.gates.structure import structure_gate
from validation.golden_run import Outputs, agreement
from validation.inputs.golden_set import Kind
from validation.metrics import relative_error
from validation.reference.model import ReferenceModel
from validation.reference.reference import Reference


@pytest.fixture(scope="module")
def reference(model_reference: ReferenceModel) -> Reference:
    return model_reference.at(Precision())


def _outputs(reference: Reference, logits: np.ndarray | None = None) -> Outputs:
    return Outputs(1, {"logits": (reference.logits if logits is None else logits).astype(np.float32)})


def test_the_right_answer_passes(reference: Reference) -> None:
    assert precision_gate(reference, [_outputs(reference)]).passed
    assert structure_gate(reference, [_outputs(reference, reference.classifier.structure)]).passed


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_one_value_that_is_no_number_fails(reference: Reference, poison: float) -> None:
    logits = reference.logits.copy()
    logits[reference.rows(Kind.NOISE)[0], 3] = poison
    result = precision_gate(reference, [_outputs(reference, logits)])
    assert not result.passed
    assert result.kind is Kind.NOISE


def test_each_kind_has_its_own_budget(reference: Reference) -> None:
    """An error that one kind's budget would allow fails on another kind."""
    floors = reference.classifier.floors
    tight = min(floors, key=lambda kind: floors[kind])
    row = reference.rows(tight)[0]
    logits = reference.logits.copy()
    scale = np.linalg.norm(logits[row] - logits[row].mean())
    logits[row, 0] += 1.5 * reference.classifier.precision_budget(tight) * scale
    result = precision_gate(reference, [_outputs(reference, logits)])
    assert [kind.kind for kind in result.kinds if not kind.passed] == [tight]


def test_a_wrong_run_among_several_fails(reference: Reference) -> None:
    wrong = np.roll(reference.logits, 1, axis=0)
    assert not precision_gate(reference, [_outputs(reference), _outputs(reference, wrong)]).passed


def test_no_image_to_judge_is_no_pass(reference: Reference) -> None:
    none = with_logits(replace(reference, judged=np.zeros(len(reference.golden), bool)), floors={}, structure_floors={})
    assert not precision_gate(none, [_outputs(none)]).passed
    assert not structure_gate(none, [_outputs(none)]).passed


def test_amplified_images_are_judged_by_structure_alone(reference: Reference) -> None:
    logits = reference.logits.copy()
    logits[[kind is Kind.AMPLIFIED for kind in reference.golden.kinds]] = 0
    assert precision_gate(reference, [_outputs(reference, logits)]).passed
    assert (Kind.AMPLIFIED in reference.classifier.structure_floors) == bool(len(reference.rows(Kind.AMPLIFIED)))


def test_sixteen_bits_have_a_larger_floor_and_a_smaller_factor(model_reference: ReferenceModel) -> None:
    precisions = (Precision(), Precision(Dtype.FP16, Dtype.FP16, Dtype.FP16), Precision(weights=Dtype.FP16))
    single, half, weights_only = (model_reference.at(precision).classifier for precision in precisions)
    for kind in (Kind.NATURAL, Kind.NOISE):
        assert single.precision_budget(kind) == 4 * single.floors[kind]
        assert half.precision_budget(kind) == 2 * half.floors[kind]
        assert single.floors[kind] < weights_only.floors[kind] <= 1.5 * half.floors[kind]


def test_flips_inside_and_outside_the_margin(reference: Reference) -> None:
    logits = reference.logits.astype(np.float32)
    rows = np.concatenate([reference.rows(kind) for kind in reference.kinds])
    logits[rows[0]] = -logits[rows[0]]
    found = agreement(reference, Outputs(1, {"logits": logits}))
    assert found is not None
    assert (found.of, found.agree, found.outside_margin) == (len(rows), len(rows) - 1, 1)


def test_the_constants_gate_allows_nothing() -> None:
    assert constants_gate(Audit(3, (), ())).passed
    for audit in (Audit(3, ("a",), ()), Audit(3, (), ("b",))):
        result = constants_gate(audit)
        assert not result.passed
        assert result.gate == "constants"


def test_the_denominator_is_centered(reference: Reference) -> None:
    """A large constant added to all logits of the reference must not make errors look small."""
    wrong = reference.logits + 0.01
    assert relative_error(wrong + 1e6, reference.logits + 1e6).max() == pytest.approx(
        relative_error(wrong, reference.logits).max(), rel=1e-3
    )


@pytest.mark.parametrize("answer", [0.0, np.inf, np.nan])
def test_a_precision_that_overflows_has_no_budget(reference: Reference, answer: float) -> None:
    """Where PyTorch under fp16's rules gives infinity, nothing an artifact says can pass."""
    floors = {**reference.classifier.floors, Kind.PATTERN: float("inf")}
    logits = reference.logits.copy()
    logits[reference.rows(Kind.PATTERN)] = answer
    result = precision_gate(with_logits(reference, floors=floors), [_outputs(reference, logits)])
    assert not result.passed
    assert result.kind is Kind.PATTERN
    assert result.detail == "pattern: this precision itself overflows there"
    right = precision_gate(with_logits(reference, floors=floors), [_outputs(reference)])
    assert [kind.kind for kind in right.kinds if not kind.passed] == [Kind.PATTERN]
