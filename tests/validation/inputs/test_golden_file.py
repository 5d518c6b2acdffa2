"""Golden sets on disk."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from safetensors import safe_open

from efficientvit.errors import BadGoldenSet, BadOutput
from efficientvit.images.preprocessing import Preprocessing
from efficientvit.size import square
from validation.inputs.golden_file import load, save
from validation.inputs.golden_set import GoldenSet
from validation.inputs.synthetic import synthetic

SMALL = Preprocessing(square(64), background=(1, 2, 3))


@pytest.fixture
def golden() -> GoldenSet:
    made = synthetic(SMALL)
    return GoldenSet(made.members, SMALL, ("bad.txt",))


def parts(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    with safe_open(path, framework="numpy") as file:
        header = json.loads(file.metadata()["golden_set"])
        return header, {name: file.get_tensor(name) for name in ("pixels", "values")}


def rewrite(path: Path, header: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
    path.write_bytes(safetensors.numpy.save(tensors, {"golden_set": json.dumps(header)}))


def test_round_trip(golden: GoldenSet, tmp_path: Path) -> None:
    path = tmp_path / "golden.safetensors"
    save(golden, path)
    again = load(path)

    assert again.sha256 == golden.sha256
    assert again.names == golden.names
    assert again.kinds == golden.kinds
    assert again.preprocessing == SMALL
    assert again.skipped == ("bad.txt",)
    np.testing.assert_array_equal(again.images, golden.images)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("kind", ["flat", "noise"])
def test_a_set_of_only_pixels_or_only_values(golden: GoldenSet, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "golden.safetensors"
    save(golden.of_kind(kind), path)
    assert load(path).sha256 == golden.of_kind(kind).sha256


def test_the_same_set_gives_the_same_bytes(golden: GoldenSet, tmp_path: Path) -> None:
    for name in "ab":
        save(golden, tmp_path / name)
    save(load(tmp_path / "a"), tmp_path / "c")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == (tmp_path / "c").read_bytes()


def test_pixels_are_stored_as_bytes(golden: GoldenSet, tmp_path: Path) -> None:
    path = tmp_path / "golden.safetensors"
    save(golden, path)
    assert path.stat().st_size < 64 * 64 * 3 * (14 + 6 * 4) + 4000


@pytest.mark.parametrize("tensor", ["pixels", "values"])
def test_a_changed_image_is_noticed(golden: GoldenSet, tmp_path: Path, tensor: str) -> None:
    path = tmp_path / "golden.safetensors"
    save(golden, path)
    header, tensors = parts(path)
    tensors[tensor].view(np.uint8)[-1, -1, -1, -1] ^= 1
    rewrite(path, header, tensors)
    with pytest.raises(BadGoldenSet, match="not what it was"):
        load(path)


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("version", 2, "version 2"),
        ("sha256", "0" * 64, "not what it was"),
        ("preprocessing", {}, "golden set"),
        ("members", [["a", "flat"]], "no golden set"),
        ("members", [["a", "odd", "pixels"]], "no golden set"),
        ("members", [["a", "flat", "elsewhere"]], "no golden set"),
        ("members", [[str(i), "flat", "pixels"] for i in range(99)], "no golden set"),
        ("members", [["a", "flat", "pixels"]], "more images"),
        ("members", [], "no golden set"),
    ],
)
def test_headers_that_are_refused(golden: GoldenSet, tmp_path: Path, key: str, value: object, reason: str) -> None:
    path = tmp_path / "golden.safetensors"
    save(golden, path)
    header, tensors = parts(path)
    rewrite(path, header | {key: value}, tensors)
    with pytest.raises(BadGoldenSet, match=reason):
        load(path)


def test_files_that_are_no_golden_set(golden: GoldenSet, tmp_path: Path) -> None:
    path = tmp_path / "golden.safetensors"
    save(golden, path)
    content = path.read_bytes()
    (tmp_path / "cut").write_bytes(content[:-100])
    (tmp_path / "text").write_text("no image")
    (tmp_path / "weights").write_bytes(safetensors.numpy.save({"w": np.zeros(3)}))
    for name in ("cut", "text", "weights", "missing", "."):
        with pytest.raises(BadGoldenSet, match=str(tmp_path)):
            load(tmp_path / name)


def test_a_file_that_cannot_be_written_leaves_nothing(golden: GoldenSet, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    for path in (tmp_path / "missing" / "golden", tmp_path / "taken"):
        with pytest.raises(BadOutput, match=str(path)):
            save(golden, path)
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
