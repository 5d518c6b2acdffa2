"""A manifest is validated before anything in it is believed."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, cast

import pytest

from export.folder.exported import BadFolder, read_manifest
from export.folder.manifest import Manifest
from export.records import Positive, Record, says
from export.targets.onnx.target import TARGET as ONNX
from export.targets.registry import BUILT_IN
from export.targets.target import Section, Target
from runtimes.precision import Precision
from tests.manifests import manifest, stage


def whole() -> dict[str, Any]:
    made = stage("simplify", {"format": "onnx", "sha256": "0" * 64}, Precision())
    return manifest(64, 10, Precision(), stages=[made])


def _written(folder: Path, text: str) -> Path:
    (folder / "manifest.json").write_text(text)
    return folder


def test_a_whole_one_is_read(tmp_path: Path) -> None:
    assert isinstance(read_manifest(_written(tmp_path, json.dumps(whole()))), Manifest)


def test_one_of_an_earlier_version_lacks_what_was_added_since(tmp_path: Path) -> None:
    document = whole()
    for added in ("blame", "accuracy", "calibration", "tensorrt", "devices"):
        document.pop(added, None)
    del document["stages"][0]["verdict"]["gates"]["identity"]
    assert read_manifest(_written(tmp_path, json.dumps(document))).devices == []


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (("unknown",), 1, "unknown"),
        (("model", "license"), "MIT", "model"),
        (("stages", 0, "verdict", "gates", "vibes"), None, "stages[0].verdict.gates"),
        (("preprocessing", "interpolation"), "guess", "preprocessing.interpolation"),
        (("exit_code",), 9, "exit_code"),
    ],
)
def test_what_the_schema_does_not_know_is_refused_by_its_place(
    path: tuple[str | int, ...], value: object, says: str, tmp_path: Path
) -> None:
    document: Any = whole()
    inner = document
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    with pytest.raises(BadFolder) as raised:
        read_manifest(_written(tmp_path, json.dumps(document)))
    assert says in str(raised.value)


class Part(Record, frozen=True, kw_only=True):
    """In a section."""

    count: Annotated[Positive, says("How many.")]


class OwnSection(Record, frozen=True, kw_only=True):
    """Of a target that is new."""

    parts: Annotated[list[Part], says("Each.")]


@pytest.fixture
def new(monkeypatch: pytest.MonkeyPatch) -> None:
    """A built-in target with a section of its own, and one without."""
    own = Section(OwnSection, lambda _: OwnSection(parts=[Part(count=1)]))
    monkeypatch.setitem(cast(dict[str, Target], BUILT_IN), "new", replace(ONNX, name="new", section=lambda: own))


def test_the_section_of_a_new_target_is_read_as_the_target_declares_it(new: None, tmp_path: Path) -> None:
    document = {**whole(), "new": {"parts": [{"count": 1}, {"count": 2}]}}
    assert isinstance(read_manifest(_written(tmp_path, json.dumps(document))), Manifest)


@pytest.mark.parametrize(
    ("name", "section", "says"),
    [
        ("new", {"parts": [{"count": 1}, {"count": 0}]}, "new.parts[1].count"),
        ("new", {}, "'parts' is a required property"),
        ("onnx", {"parts": []}, "'onnx' was unexpected"),
    ],
)
def test_a_section_that_its_target_does_not_write_is_refused(
    new: None, name: str, section: dict[str, Any], says: str, tmp_path: Path
) -> None:
    with pytest.raises(BadFolder) as raised:
        read_manifest(_written(tmp_path, json.dumps({**whole(), name: section})))
    assert says in str(raised.value)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
def test_a_number_that_json_does_not_have_is_refused(number: str, tmp_path: Path) -> None:
    text = json.dumps(whole()).replace('"float32_floor": ', f'"float32_floor": {number}, "x": ')
    assert number in text
    with pytest.raises(BadFolder):
        read_manifest(_written(tmp_path, text))


def test_one_nested_a_hundred_thousand_deep_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadFolder, match="not a folder that an export made") as raised:
        read_manifest(_written(tmp_path, "[" * 100_000))
    assert "nested too deeply" in str(raised.value)
