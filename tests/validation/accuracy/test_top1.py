"""Accuracy on labeled images: the paired interval, the rule, and who is counted how."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from efficientvit.errors import StageFailed
from efficientvit.images.preprocessing import Preprocessing
from efficientvit.size import square
from efficientvit.spec import model_spec
from runtimes.artifact import Artifact, Format
from runtimes.runtime import Array, Evidence
from tests.runtimes.fake import FakeRuntime, Script, missing_row, not_a_number, reversed_batch
from validation.accuracy.top1 import Accuracy, AccuracyTest, Flip, _at_least, paired_interval
from validation.budgets import ACCURACY_POINTS
from validation.gates.accuracy import accuracy_gate
from validation.inputs.labeled_images import LabeledImages, labeled_images

CLASSES, EACH, SIZE = 7, 3, 16


def _brute_force_score(lost: int, gained: int, images: int, drop: float) -> float:
    """The score statistic by its definition: the likelihood maximized under lost - gained = drop, on a grid."""
    least = max(0.0, -drop)
    gains = np.linspace(least, (1 - drop) / 2, 2_000_001)[1:-1]
    losses, rest = gains + drop, 1 - 2 * gains - drop
    with np.errstate(divide="ignore", invalid="ignore"):
        likelihood = (images - lost - gained) * np.log(rest)
        likelihood += (lost * np.log(losses) if lost else 0) + (gained * np.log(gains) if gained else 0)
    best = gains[np.nanargmax(likelihood)]
    variance = images * (2 * best + drop - drop**2)
    return float((lost - gained - images * drop) / np.sqrt(variance))


@pytest.mark.parametrize(("lost", "gained", "images"), [(3, 0, 20), (12, 8, 140), (5, 9, 60), (30, 10, 700), (1, 1, 9)])
def test_the_interval_is_where_the_score_is_a_quantile(lost: int, gained: int, images: int) -> None:
    low, high = paired_interval(lost, gained, images)
    assert low < (lost - gained) / images < high
    assert _brute_force_score(lost, gained, images, low) == pytest.approx(1.645, abs=2e-3)
    assert _brute_force_score(lost, gained, images, high) == pytest.approx(-1.645, abs=2e-3)


def test_the_interval_mirrors_and_holds_at_the_edges() -> None:
    low, high = paired_interval(7, 2, 50)
    assert paired_interval(2, 7, 50) == pytest.approx((-high, -low))
    assert paired_interval(0, 0, 100) == pytest.approx((-2.7055 / 102.7055, 2.7055 / 102.7055), abs=1e-4)
    assert paired_interval(5, 0, 5)[1] == 1.0
    assert paired_interval(0, 5, 5)[0] == -1.0


def _found(lost: int, gained: int, images: int, budget: float = ACCURACY_POINTS) -> Accuracy:
    both = images - lost - gained
    flips = tuple(Flip(f"{number}.png", 0, 1, False) for number in range(lost))
    return Accuracy(
        "eval", images, "label", (), both + lost, both + gained, None, None, both, flips, gained, budget,
        Evidence.NATIVE,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("lost", "gained", "images", "passes", "warns"),
    [
        (0, 0, 20, True, True),  # so few images rule out nothing
        (1, 0, 20, True, True),  # a harmless flip or two
        (2, 0, 20, True, True),
        (2, 0, 10, True, True),
        (3, 0, 20, False, False),  # 15 points gone and nothing won
        (6, 1, 50, False, False),
        (14, 11, 700, True, True),
        (30, 10, 700, False, False),  # 2.9 points
        (0, 0, 2000, True, False),
        (150, 150, 50_000, True, False),
        (600, 100, 50_000, False, False),  # 1 point
    ],
)
def test_the_rule(lost: int, gained: int, images: int, passes: bool, warns: bool) -> None:
    gate = accuracy_gate(_found(lost, gained, images))
    assert gate.passed is passes
    assert (gate.warning is not None) is warns
    assert f"{lost} lost, {gained} gained of {images} images" in gate.detail


def test_the_budget_moves_it() -> None:
    assert not accuracy_gate(_found(30, 10, 700)).passed
    assert accuracy_gate(_found(30, 10, 700, budget=2.0)).passed


@pytest.mark.parametrize(("images", "churn"), [(50, 0.05), (200, 0.05), (1000, 0.03)])
def test_noise_alone_is_rejected_about_once_in_twenty_times(images: int, churn: float) -> None:
    """Artifacts that lose exactly the budget, and win and lose `churn` beside: the worst that may pass."""
    rng = np.random.default_rng(images)
    drop = ACCURACY_POINTS / 100
    drawn = rng.multinomial(images, [churn + drop, churn, 1 - 2 * churn - drop], size=1000)
    rejected = sum(
        100 * paired_interval(int(lost), int(gained), images)[0] > ACCURACY_POINTS for lost, gained, _ in drawn
    )
    assert 10 <= rejected <= 70


class _Means(nn.Module):
    """Class k's logit is how near the image is to gray level k."""

    def forward(self, images: Tensor) -> Tensor:
        levels = torch.linspace(-2, 2, CLASSES, dtype=images.dtype)
        return -((images.mean(dim=(1, 2, 3))[:, None] - levels) ** 2)


@pytest.fixture
def images(tmp_path: Path) -> LabeledImages:
    """Flat images, a gray level a class, in folders by index."""
    for label in range(CLASSES):
        for number in range(EACH):
            path = tmp_path / str(label) / f"{number}.png"
            path.parent.mkdir(exist_ok=True)
            level = int(np.clip(115 + 57 * (label * 4 / 6 - 2) + number, 0, 255))
            Image.new("RGB", (SIZE, SIZE), (level, level, level)).save(path)
    return labeled_images(tmp_path, Preprocessing(image_size=square(SIZE)), CLASSES)


@pytest.fixture
def right() -> Script:
    def run(batch: Array) -> NDArray[np.float32]:
        with torch.no_grad():
            return np.asarray(_Means()(torch.tensor(batch)).numpy(), np.float32)

    return run


def _artifact(tmp_path: Path, batch: int | None = 1) -> Artifact:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"the fake runtime doesn't read it")
    return Artifact.on_disk(path, Format.ONNX, model_spec("m0", square(64), CLASSES), made_by="simplify", batch=batch)


@pytest.mark.parametrize("batch", [1, 4, None])
def test_an_artifact_that_answers_as_the_reference_loses_nothing(
    images: LabeledImages, right: Script, tmp_path: Path, batch: int | None
) -> None:
    test = AccuracyTest(images, _Means().double())
    found = test.of(_artifact(tmp_path, batch), FakeRuntime(right), 1e-6)
    assert found.reference_top1 == found.artifact_top1 == CLASSES * EACH == found.agree
    assert found.reference_top5 == found.artifact_top5 == CLASSES * EACH
    assert (found.lost, found.gained, found.drop) == ((), 0, 0.0)


def test_a_mixed_up_batch_loses(images: LabeledImages, right: Script, tmp_path: Path) -> None:
    found = AccuracyTest(images, _Means().double()).of(_artifact(tmp_path, 8), FakeRuntime(reversed_batch(right)), 1e-6)
    assert found.drop > 50
    assert not accuracy_gate(found).passed


def test_no_number_is_nobodys_class(images: LabeledImages, right: Script, tmp_path: Path) -> None:
    test = AccuracyTest(images, _Means().double())
    found = test.of(_artifact(tmp_path), FakeRuntime(not_a_number(right, index=6)), 1.0)
    assert (found.artifact_top1, found.artifact_top5, found.agree) == (0, 0, 0)
    assert all(flip.given == -1 and flip.outside for flip in found.lost)


def test_what_the_budget_cannot_explain_comes_first(images: LabeledImages, right: Script, tmp_path: Path) -> None:
    """The last class is always a little too likely: its neighbors flip within the margin, the others stay."""

    def nudged(batch: Array) -> Array:
        logits = right(batch)
        logits[:, 6] += 1.0
        if batch.mean() < -1.5:  # the first class alone is far off
            logits[:, 6] += 100
        return logits

    found = AccuracyTest(images, _Means().double()).of(_artifact(tmp_path), FakeRuntime(nudged), 0.15)
    outside = [flip.outside for flip in found.lost]
    assert outside == sorted(outside, reverse=True)
    assert {flip.image.split("/")[0] for flip in found.lost if flip.outside} == {"0"}
    assert {flip.given for flip in found.lost} == {6}


def test_a_single_logit_says_no_or_yes(tmp_path: Path) -> None:
    """Folders 0 and 1, dark and bright; the answer is whether the logit is above 0."""

    class Brightness(torch.nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.mean(dim=(1, 2, 3))[:, None]

    for label, level in ((0, 40), (1, 220)):
        (tmp_path / str(label)).mkdir()
        for number in range(10):
            Image.new("RGB", (SIZE, SIZE), (level + number,) * 3).save(tmp_path / str(label) / f"{number}.png")
    path = tmp_path / "model.onnx"
    path.write_bytes(b"the fake runtime doesn't read it")
    artifact = Artifact.on_disk(path, Format.ONNX, model_spec("m0", square(64), 1), made_by="simplify", batch=1)
    test = AccuracyTest(labeled_images(tmp_path, Preprocessing(image_size=square(SIZE)), 2), Brightness().double())
    assert not test.guessed
    right = FakeRuntime(lambda batch: batch.mean(axis=(1, 2, 3))[:, None].astype(np.float32))
    assert test.of(artifact, right, 1e-6).agree == 20
    found = test.of(artifact, FakeRuntime(lambda batch: np.full((len(batch), 1), 1.0, np.float32)), 1e-6)
    assert (found.agree, {flip.given for flip in found.lost}, found.reference_top1) == (10, {1}, 20)


def test_logits_of_another_shape(images: LabeledImages, right: Script, tmp_path: Path) -> None:
    with pytest.raises(StageFailed, match="wrong shape"):
        AccuracyTest(images, _Means().double()).of(_artifact(tmp_path, 4), FakeRuntime(missing_row(right)), 0.1)


def test_progress_is_told(images: LabeledImages, right: Script, tmp_path: Path) -> None:
    said: list[str] = []
    AccuracyTest(images, _Means().double(), step=said.append).of(_artifact(tmp_path), FakeRuntime(right), 0.1)
    assert said[0] == "--eval: the reference, image 1 of 21"
    assert said[-1] == "--eval: model.onnx in fake, image 17 of 21"


@pytest.mark.parametrize("lost", [0, 1, 40])
def test_one_answer_that_is_no_number_is_enough(lost: int) -> None:
    """Whether the reference was right there or not: an overflow on a photo in five thousand must not ship."""
    gate = accuracy_gate(replace(_found(lost, lost, 5000), not_finite=1))
    assert not gate.passed
    assert "1 of 5000" in gate.detail


def test_so_many_hits_by_chance() -> None:
    assert _at_least(0, 100, 0.1) == pytest.approx(1.0)
    assert _at_least(2, 2, 0.5) == pytest.approx(0.25)
    assert _at_least(20, 100, 0.1) == pytest.approx(0.00198, rel=1e-2)
    assert _at_least(3, 5000, 1e-3) > 0.05 > _at_least(200, 5000, 1e-3)
