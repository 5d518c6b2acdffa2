"""Golden sets: what they hold, their digest, and how they are cut and joined."""

from dataclasses import replace

import numpy as np
import pytest

from efficientvit.errors import BadGoldenSet, BadOption
from efficientvit.images.preprocessing import Preprocessing, normalize
from efficientvit.size import square
from validation.inputs.golden_set import GoldenImage, GoldenSet, Kind, merge
from validation.inputs.synthetic import synthetic

SMALL = Preprocessing(square(64))


def flat(name: str, value: int = 7, side: int = 64) -> GoldenImage:
    return GoldenImage(name, Kind.FLAT, np.full((side, side, 3), value, np.uint8))


def test_images_are_the_normalized_pixels_or_the_values() -> None:
    golden = synthetic(SMALL)

    assert golden.images.shape == (20, 3, 64, 64)
    assert golden.images.dtype == np.float32
    for member, image in zip(golden.members, golden.images, strict=True):
        expected = normalize(member.data, SMALL) if member.has_pixels else member.data
        np.testing.assert_array_equal(image, expected)


def test_it_cannot_be_changed_after_it_was_hashed() -> None:
    mine = np.zeros((64, 64, 3), np.uint8)
    golden = GoldenSet((GoldenImage("black", Kind.FLAT, mine),), SMALL)
    before = golden.sha256

    mine[0, 0] = 255

    assert golden.sha256 == before
    for array in (golden.images, golden.members[0].data):
        with pytest.raises(ValueError, match="read-only"):
            array[0, 0] = 1


def test_cutting_by_kind() -> None:
    golden = synthetic(SMALL)

    assert golden.unique_kinds == ("natural", "noise", "flat", "pattern", "impulse", "amplified")
    assert golden.of_kind("noise").names == ("noise-0", "noise-1", "noise-2", "noise-3")
    assert golden.of_kind(Kind.IMPULSE, Kind.FLAT).unique_kinds == ("flat", "impulse")
    assert len(golden.ordinary()) == 18
    assert "amplified" not in golden.ordinary().kinds
    with pytest.raises(BadGoldenSet, match="photo"):
        golden.of_kind("photo")


def test_pixels() -> None:
    golden = synthetic(SMALL)

    chosen = golden.with_pixels()

    assert set(chosen.unique_kinds) == {"natural", "flat", "pattern", "impulse"}
    np.testing.assert_array_equal(normalize(chosen.pixels, SMALL), chosen.images)
    with pytest.raises(BadGoldenSet, match="noise-0"):
        _ = golden.pixels


def test_amplifying() -> None:
    golden = synthetic(SMALL)

    amplified = golden.amplified(8)

    np.testing.assert_array_equal(amplified.of_kind("amplified").images, 8 * golden.of_kind("amplified").images)
    assert amplified.ordinary().sha256 == golden.ordinary().sha256
    assert amplified.images.dtype == np.float32
    for factor in (0, -1, 10.1, float("nan"), float("inf")):
        with pytest.raises(BadOption, match="above 0, at most 10"):
            golden.amplified(factor)


def test_the_digest_covers_pixels_names_kinds_order_and_preprocessing() -> None:
    first, second = flat("a"), flat("b", 8)
    touched = np.array(first.data)
    touched[63, 63, 2] ^= 1
    sets = [
        GoldenSet((first, second), SMALL),
        GoldenSet((second, first), SMALL),
        GoldenSet((replace(first, data=touched), second), SMALL),
        GoldenSet((replace(first, name="c"), second), SMALL),
        GoldenSet((replace(first, kind=Kind.PATTERN), second), SMALL),
        GoldenSet((first, second), replace(SMALL, interpolation="bilinear")),
        GoldenSet((first,), SMALL),
    ]

    assert len({golden.sha256 for golden in sets}) == len(sets)
    assert GoldenSet((flat("a"), flat("b", 8)), SMALL, ("notes.txt",)).sha256 == sets[0].sha256


def test_the_digest_is_the_documented_one() -> None:
    import hashlib

    golden = GoldenSet((flat("a", 3, side=1),), Preprocessing(square(1)))
    line = (
        '{"members":[["a","flat","uint8",[1,1,3]]],"preprocessing":{"background":[255,255,255],"crop":"center",'
        '"image_size":1,"interpolation":"bicubic","mean":[0.485,0.456,0.406],"resize":1,"std":[0.229,0.224,0.225]}}\n'
    )
    assert golden.sha256 == hashlib.sha256(line.encode() + b"\3\3\3").hexdigest()


def test_merging() -> None:
    a, b = GoldenSet((flat("a"),), SMALL, ("x.txt",)), GoldenSet((flat("b", 8),), SMALL, ("y.txt",))

    both = merge(a, b)

    assert both.names == ("a", "b")
    assert both.skipped == ("x.txt", "y.txt")
    with pytest.raises(BadGoldenSet, match="one name"):
        merge(a, a)
    with pytest.raises(BadGoldenSet, match="preprocessed differently"):
        merge(a, GoldenSet((flat("b"),), replace(SMALL, resize=square(64))))


@pytest.mark.parametrize(
    "data",
    [
        np.zeros((64, 64), np.uint8),
        np.zeros((3, 64, 64), np.uint8),
        np.zeros((64, 60, 4), np.uint8),
        np.zeros((64, 64, 3), np.float32),
        np.zeros((3, 64, 64), np.float64),
        np.full((3, 64, 64), np.nan, np.float32),
        np.zeros((0, 0, 3), np.uint8),
    ],
)
def test_data_that_is_no_golden_image(data: np.ndarray) -> None:
    with pytest.raises(BadGoldenSet, match="'odd'"):
        GoldenImage("odd", Kind.NOISE, data)


def test_sets_that_are_refused() -> None:
    with pytest.raises(BadGoldenSet, match="at least one"):
        GoldenSet((), SMALL)
    with pytest.raises(BadGoldenSet, match="'a' is of another size"):
        GoldenSet((flat("a", side=32),), SMALL)
