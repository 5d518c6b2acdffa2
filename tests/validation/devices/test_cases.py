"""Judging what a device computed: which inputs it gets, what it may deviate, and that nothing bad slips through."""

import dataclasses
import io
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from efficientvit.errors import BadGoldenSet
from efficientvit.images.preprocessing import Preprocessing, to_uint8
from efficientvit.size import square
from runtimes.artifact import Format
from runtimes.precision import Dtype, Precision
from runtimes.runtime import Attestation
from tests.references import with_logits
from validation.devices.cases import (
    Case,
    answers_of,
    at_batches,
    budget_of,
    cases_of,
    deviations,
    errors,
    kinds_of,
    runs_of,
    scales_of,
)
from validation.devices.jpeg import JPEG_FACTOR, Picture, picture
from validation.devices.units import FACTORS, EngineUnit, Unit, factor_of, precision_note, unit_budgets
from validation.inputs.golden_set import GoldenSet, Kind
from validation.inputs.synthetic import synthetic
from validation.metrics import root_mean_square, scale_of
from validation.reference.reference import Expected, Reference

SIDE, CLASSES = 32, 6
FP16 = Precision(Dtype.FP16, Dtype.FP16, Dtype.FP16)
INT8 = Precision(Dtype.INT8, Dtype.INT8, Dtype.INT8)


def reference_of(golden: GoldenSet, **changes: Any) -> Reference:
    logits = np.random.default_rng(0).standard_normal((len(golden), CLASSES))
    expected = Expected(
        precision=FP16,
        right=logits,
        structure=logits,
        floors={kind: 1e-3 * (1 + index) for index, kind in enumerate(Kind)},
        structure_floors=dict.fromkeys(Kind, 1e-6),
    )
    fields: dict[str, Any] = {
        "golden": golden,
        "precision": FP16,
        "outputs": {"logits": expected},
        "judged": np.ones(len(golden), dtype=bool),
        "constants": {},
    }
    return Reference(**{**fields, **changes})


@pytest.fixture(scope="module")
def reference() -> Reference:
    return reference_of(synthetic(Preprocessing(image_size=square(SIDE))))


def test_only_what_the_device_can_be_given_becomes_a_case(reference: Reference) -> None:
    every = cases_of(reference, pixels_only=False)
    assert set(kinds_of(every)) == set(reference.golden.unique_kinds) - {Kind.AMPLIFIED}
    pixels = cases_of(reference, pixels_only=True)
    assert {case.name for case in every} - {case.name for case in pixels} == {f"noise-{index}" for index in range(4)}
    assert [reference.golden.names[case.row] for case in every] == [case.name for case in every]


def test_what_is_not_judged_is_no_case(reference: Reference) -> None:
    judged = np.array([name != "natural-1" for name in reference.golden.names])
    cases = cases_of(dataclasses.replace(reference, judged=judged), pixels_only=False)
    assert "natural-1" not in {case.name for case in cases}


def test_probes_are_a_quarter_of_every_kind_that_is_large_enough(reference: Reference) -> None:
    cases = cases_of(reference, pixels_only=False)
    probes = {kind: sum(case.probe for case in cases if case.kind is kind) for kind in kinds_of(cases)}
    assert probes == {Kind.NATURAL: 1, Kind.NOISE: 1, Kind.FLAT: 1, Kind.PATTERN: 1, Kind.IMPULSE: 0}


def test_a_set_without_a_single_case_is_refused(reference: Reference) -> None:
    noise = reference_of(reference.golden.of_kind(Kind.NOISE))
    with pytest.raises(BadGoldenSet, match="nothing that a device could be judged on"):
        cases_of(noise, pixels_only=True)


CASES = (Case("a", Kind.PHOTO, 0, probe=False), Case("b", Kind.PHOTO, 1, probe=True), Case("c", Kind.FLAT, 2, False))
BUDGET = {Kind.PHOTO: 0.01, Kind.FLAT: 0.02}


def logits_with(relative: tuple[float, float, float]) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Outputs that are off by these relative errors, and what is right."""
    exact = np.array([[3.0, 1.0, 2.0], [0.0, 5.0, 1.0], [2.0, 2.0, 9.0]])
    exact = np.hstack([exact, np.repeat(exact.mean(axis=1, keepdims=True), 3, axis=1)])  # beyond a few logits
    norm = np.linalg.norm(exact - exact.mean(axis=1, keepdims=True), axis=1)
    outputs = exact.copy()
    outputs[:, 0] += np.array(relative) * norm
    return outputs.astype(np.float32), exact


def off(outputs: NDArray[np.float32], exact: NDArray[np.float64]) -> NDArray[np.float64]:
    return errors(outputs, exact, scale_of(exact))


def test_the_worst_case_of_a_kind_speaks_for_it() -> None:
    outputs, exact = logits_with((0.001, 0.005, 0.015))
    photo, flat = deviations(CASES, off(outputs, exact), BUDGET)
    assert (photo.kind, photo.worst_case, photo.cases, photo.passed) == (Kind.PHOTO, "b", 2, True)
    assert photo.worst == pytest.approx(0.005, rel=1e-3)
    assert (flat.worst_case, flat.passed) == ("c", True)


def test_a_kind_has_no_other_kinds_budget() -> None:
    outputs, exact = logits_with((0.001, 0.015, 0.015))  # within the budget of flat images, not of photos
    assert [one.passed for one in deviations(CASES, off(outputs, exact), BUDGET)] == [False, True]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("row", [0, 1])
def test_what_is_no_number_fails_and_is_the_worst(value: float, row: int) -> None:
    outputs, exact = logits_with((0.001, 0.5, 0.001))
    outputs[row, 1] = value
    photo, flat = deviations(CASES, off(outputs, exact), BUDGET)
    assert (photo.passed, photo.worst_case, flat.passed) == (False, CASES[row].name, True)
    assert not np.isfinite(photo.worst)
    assert not off(outputs, exact)[row] <= 1e9


def test_a_budget_that_is_infinite_admits_nothing() -> None:
    outputs, exact = logits_with((0.0, 0.0, 0.0))
    assert not any(one.passed for one in deviations(CASES, off(outputs, exact), dict.fromkeys(BUDGET, float("inf"))))


@pytest.mark.parametrize(("file_format", "units"), [(Format.COREML, Unit), (Format.ENGINE, EngineUnit)])
def test_every_unit_has_a_budget_of_its_own(file_format: Format, units: Any, reference: Reference) -> None:
    kinds, floors = (Kind.NATURAL, Kind.FLAT), reference.classifier.floors
    budgets = unit_budgets(file_format, reference, kinds)
    assert set(budgets) == set(units) == set(FACTORS[file_format])
    for unit, budget in budgets.items():
        assert budget == {kind: FACTORS[file_format][unit] * floors[kind] for kind in kinds}
    assert budget_of(floors, (Kind.FLAT,), 3) == {Kind.FLAT: 3 * floors[Kind.FLAT]}


def test_a_float32_package_is_explained(reference: Reference) -> None:
    assert precision_note(Format.COREML, reference) is None
    single = dataclasses.replace(reference, precision=Precision())
    assert "float32's budgets" in (precision_note(Format.COREML, single) or "")


@pytest.mark.parametrize("precision", [FP16, Precision(), INT8])
def test_an_engines_budgets_are_never_unexplained(precision: Precision, reference: Reference) -> None:
    note = precision_note(Format.ENGINE, dataclasses.replace(reference, precision=precision)) or ""
    assert ("provisional" in note) is not precision.quantized
    assert ("quality budget" in note) is precision.quantized
    assert ("TF32" in note) is (precision == Precision())


def test_a_quantized_image_may_not_cost_what_ignoring_it_costs(reference: Reference) -> None:
    quantized = with_logits(reference, precision=INT8, quality_budget=0.3)
    cases = cases_of(quantized, pixels_only=False)
    budgets = unit_budgets(Format.ENGINE, quantized, kinds_of(cases))
    rows = [case.row for case in cases]
    exact = quantized.logits[rows]
    ignoring = off(np.broadcast_to(exact.mean(axis=0), exact.shape).astype(np.float32), exact)
    for case, error in zip(cases, ignoring, strict=True):
        assert 0 < budgets["RTX"][case.kind] <= error * (1 + 1e-6)
    assert budgets["RTX"] == budgets["ENTERPRISE"]
    assert answers_of(quantized) is quantized.logits


def test_compressed_weights_are_compared_with_their_own_answers(reference: Reference) -> None:
    weights = Precision(Dtype.INT8, Dtype.FP16, Dtype.FP16)
    compressed = with_logits(reference, precision=weights, structure=reference.logits + 1)
    assert answers_of(compressed) is compressed.classifier.structure


@pytest.mark.parametrize("classes", [1, 2])
def test_few_classes_are_compared_by_how_far_they_move_and_at_least_by_the_spread(
    reference: Reference, classes: int
) -> None:
    """The norm of a single logit, centered, is zero; that of two may be, by chance."""
    few = with_logits(reference, precision=INT8, right=reference.logits[:, :classes])
    scales = scales_of(few)
    ordinary = few.logits[few.golden.ordinary_rows]
    away = np.linalg.norm(few.logits - ordinary.mean(axis=0), axis=1)
    spread = np.sqrt((np.linalg.norm(ordinary - ordinary.mean(axis=0), axis=1) ** 2).mean())
    assert spread > 0
    assert scales == pytest.approx(np.maximum(away, spread))


def test_one_number_that_is_none_spoils_the_whole() -> None:
    outputs, exact = logits_with((0.03, 0.04, 0.0))
    assert root_mean_square(off(outputs, exact)) == pytest.approx(0.05 / 3**0.5, rel=1e-3)
    outputs[1, 1] = np.nan
    assert not root_mean_square(off(outputs, exact)) <= 1e9


@pytest.mark.parametrize(("runtime", "settings", "factor"), [
    ("coreml", {"compute_units": "ALL"}, 4.0),
    ("tensorrt", {"product": "tensorrt-rtx"}, 4.0),
    ("tensorrt", {"product": "tensorrt"}, 4.0),
    ("onnxruntime", {}, None),
    ("trt-network", {"product": "tensorrt-rtx"}, None),
])  # fmt: skip
def test_only_what_ran_on_a_device_has_a_devices_factor(
    runtime: str, settings: dict[str, str], factor: float | None
) -> None:
    assert factor_of(Attestation(runtime, "1", Dtype.FP16, 0, "", settings)) == factor


# ---- batches ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 3, 8, 64])
def test_every_case_is_run_in_full_batches(size: int, reference: Reference) -> None:
    cases = at_batches(cases_of(reference, pixels_only=False), (size,))
    runs = runs_of(cases)
    assert {len(run) for run in runs} == {size}
    assert {index for run in runs for index in run} == set(range(len(cases)))
    if size <= len(cases):
        assert all(len(set(run)) == size for run in runs), "copies would hide a mixed-up batch"
    assert len(runs) == -(-len(cases) // size)


def test_a_batch_is_not_in_the_golden_sets_order(reference: Reference) -> None:
    cases = at_batches(cases_of(reference, pixels_only=False), (8,))
    first = runs_of(cases)[0]
    assert list(first) != sorted(first)


def test_several_batch_sizes_are_cases_of_their_own(reference: Reference) -> None:
    images = cases_of(reference, pixels_only=False)
    cases = at_batches(images, (1, 8))
    assert len({case.name for case in cases}) == len(cases) == 2 * len(images)
    assert cases[: len(images)] == images
    assert [case.row for case in cases[len(images) :]] == [case.row for case in images]
    assert all(case.probe == image.probe for case, image in zip(cases, (*images, *images), strict=True))
    runs = runs_of(cases)
    assert [len(run) for run in runs] == [1] * len(images) + [8] * -(-len(images) // 8)
    assert all(len({cases[index].batch for index in run}) == 1 for run in runs)


# ---- the picture -----------------------------------------------------------------------------------------------------


def coarse(pixels: NDArray[np.uint8]) -> NDArray[np.floating]:
    """Sees means over a grid of four by four, in color."""
    cells = pixels.reshape(len(pixels), 4, 8, 4, 8, 3).mean(axis=(2, 4)).reshape(len(pixels), -1) / 255
    logits: NDArray[np.floating] = (cells - 0.5) @ np.random.default_rng(3).standard_normal((cells.shape[1], CLASSES))
    return logits


def picture_of(reference: Reference, arithmetic: float = 0.0) -> Picture:
    made = picture(reference.golden, coarse, arithmetic)
    assert made is not None
    return made


def test_the_pictures_logits_are_those_of_the_contract(reference: Reference) -> None:
    made = picture_of(reference)
    with Image.open(io.BytesIO(made.jpeg)) as image:
        assert (image.format, image.size) == ("JPEG", made.size)
        rgb = np.array(image.convert("RGB"))
    assert min(made.size) > reference.golden.preprocessing.resize.height
    right = to_uint8(rgb, reference.golden.preprocessing)
    assert np.allclose(made.logits, coarse(right[None])[0], rtol=1e-12, atol=1e-12)


def test_every_plausible_resizer_is_within_and_every_mistake_outside(reference: Reference) -> None:
    made = picture_of(reference)
    assert 0 < made.floor < made.budget == JPEG_FACTOR * made.floor < min(made.wrong.values())
    assert [name.rpartition("(")[2] for name in made.wrong] == [".scaleFill)", ".centerCrop)", "blue and red swapped"]


def test_arithmetic_that_would_cover_a_mistake_leaves_no_picture(reference: Reference) -> None:
    assert picture(reference.golden, coarse, 10.0) is None


def test_what_the_contract_asks_for_is_no_mistake() -> None:
    squash = Preprocessing(image_size=square(SIDE), resize=square(SIDE), crop="squash")
    made = picture_of(reference_of(synthetic(squash)))
    assert not [name for name in made.wrong if "squeezed" in name]


def test_the_same_set_gives_the_same_picture(reference: Reference) -> None:
    first, second = picture_of(reference), picture_of(reference)
    assert first.jpeg == second.jpeg
    assert np.array_equal(first.logits, second.logits)
