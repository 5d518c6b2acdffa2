"""The device kit: complete, bound to the folder by digest, the same bytes twice, and without the probes' answers."""

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from efficientvit.errors import ArtifactChanged, BadOption, BadOutput, NothingToShip
from export.device_kit.folder import open_for_kit
from export.device_kit.formats import has_kit
from export.device_kit.kit import carry, kit_of, write_kit
from export.folder.exported import BadFolder
from runtimes.artifact import Format, digest
from runtimes.precision import Dtype, Precision
from tests.manifests import stage
from validation.inputs.golden_set import Kind
from validation.reference import file

CLASSES, FLOOR = 12, 1e-3


def record_of(folder: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / "kit" / "data" / "kit.json").read_text())
    return record


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_kit_is_complete_and_every_file_is_under_a_digest(folder: Path) -> None:
    kit, record = folder / "kit", record_of(folder)
    assert {"README.md", "Package.swift", "check_on_mac.py", "kit_common.py", "kit_mac.py", "swift", "data"} == {
        path.name for path in kit.iterdir()
    }
    data = kit / "data"
    found = {name: hashlib.sha256(content).hexdigest() for name, content in contents(data).items()}
    package = {name for name in found if name.startswith("model.mlpackage/")}
    assert {name: value for name, value in found.items() if name not in {*package, "kit.json"}} == record["files"]
    manifest = json.loads((folder / "manifest.json").read_text())
    assert record["package"]["sha256"] == manifest["stages"][-1]["artifact"]["sha256"]
    assert digest(data / "model.mlpackage") == record["package"]["sha256"]


@pytest.mark.parametrize(
    ("section", "field", "value", "says"),
    [
        ("model", "feed", "image", "expected: tensor and logits, as such an artifact has"),
        ("model", "answers", "topk:5", "got:      tensor and topk:5"),
        ("coreml", "input", "tensor", "expected: one of tensors"),
    ],
)
def test_a_manifest_that_says_another_input_or_output_is_refused(
    section: str, field: str, value: str, says: str, folder: Path
) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest[section][field] = value
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises((ArtifactChanged, BadFolder)) as refused:
        open_for_kit(folder)
    assert says in str(refused.value)


def test_the_cases_are_the_judged_images_of_eight_bits(folder: Path) -> None:
    reference, record = file.load(folder / "evidence"), record_of(folder)
    names = {case["name"] for case in record["cases"]}
    usable = {member.name for member in reference.golden.members if member.has_pixels}
    assert names == usable - {"flat-black"}  # the fixture's one that is not judged
    for case in record["cases"]:
        row = reference.golden.names.index(case["name"])
        raw = (folder / "kit" / "data" / case["input"]).read_bytes()
        assert np.array_equal(np.frombuffer(raw, np.uint8).reshape(64, 64, 3), reference.golden.members[row].data)
        if case["logits"]:
            logits = np.frombuffer((folder / "kit" / "data" / case["logits"]).read_bytes(), "<f4")
            assert np.array_equal(logits, reference.logits[row].astype(np.float32))


def test_a_tensor_input_takes_noise_too_but_nothing_amplified(make: Any, tmp_path: Path) -> None:
    folder = make(tmp_path / "tensor", images=False)
    write_kit(folder)
    record, golden = record_of(folder), file.load(folder / "evidence").golden
    assert record["input"]["shape"] == [1, 3, 64, 64]
    kinds = Counter(case["kind"] for case in record["cases"])
    assert kinds["noise"] == 4
    assert "amplified" not in kinds
    first = record["cases"][0]
    raw = np.frombuffer((folder / "kit" / "data" / first["input"]).read_bytes(), "<f4").reshape(3, 64, 64)
    assert np.array_equal(raw, golden.images[golden.names.index(first["name"])])


def test_about_a_quarter_are_probes_whose_answers_stay_at_home(folder: Path) -> None:
    cases = record_of(folder)["cases"]
    probes = [case for case in cases if case["logits"] is None]
    assert 0.15 < len(probes) / len(cases) < 0.35
    assert {case["kind"] for case in probes} == {"natural", "pattern"}
    reference = file.load(folder / "evidence")
    everything = b"".join(contents(folder / "kit").values())
    for case in probes:
        right = reference.logits[reference.golden.names.index(case["name"])]
        assert right.astype("<f4").tobytes() not in everything
        assert right.astype("<f8").tobytes() not in everything


def test_budgets_are_multiples_of_the_folders_floors_for_each_unit(folder: Path) -> None:
    budgets = record_of(folder)["budgets"]
    assert list(budgets) == ["CPU_ONLY", "CPU_AND_GPU", "CPU_AND_NE", "ALL"]
    for kinds in budgets.values():
        assert set(kinds) == {"natural", "flat", "pattern", "impulse"}
        assert set(kinds.values()) == {4 * FLOOR}
    assert record_of(folder)["note"] is None


def test_a_float32_package_says_what_that_means(make: Any, tmp_path: Path) -> None:
    folder = make(tmp_path / "single", precision=Precision(Dtype.FP32, Dtype.FP32, Dtype.FP32))
    write_kit(folder)
    assert "Neural Engine computes in fp16 only" in record_of(folder)["note"]


def test_the_same_folder_gives_the_same_bytes(folder: Path, make: Any, tmp_path: Path) -> None:
    other = make(tmp_path / "other" / "m0-coreml-fp16")
    write_kit(other)
    assert contents(folder / "kit") == contents(other / "kit")
    before = contents(folder / "kit")
    write_kit(folder)
    assert contents(folder / "kit") == before


def test_the_readme_speaks_of_this_model(folder: Path) -> None:
    text = (folder / "kit" / "README.md").read_text()
    assert "efficientvit_m0.mlpackage" in text
    assert "not been run" in text
    assert not [
        word for word in ("@MODEL@", "@SIDE@", "@RESIZE@", "@SHA256@", "@INPUT@", "@INTERPOLATION@") if word in text
    ]


def test_a_failed_write_leaves_the_old_kit(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(folder / "kit")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("export.device_kit.kit.shutil.copytree", full)
    with pytest.raises(BadOutput, match="cannot write"):
        write_kit(folder)
    assert contents(folder / "kit") == before
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"artifact": None, "status": "rejected"}, NothingToShip),
        ({"model": {"batch": 8}}, BadOption),
        (
            {"stages": [stage("coreml", {"format": "coreml", "sha256": "0" * 64}, Precision())]},
            ArtifactChanged,
        ),
        ({"golden": {"sha256": "0" * 64}}, ArtifactChanged),
    ],
)
def test_a_folder_that_has_nothing_for_a_device_gets_no_kit(
    changes: dict[str, Any], error: type[Exception], make: Any, tmp_path: Path
) -> None:
    folder = make(tmp_path / "bad", **changes)
    with pytest.raises(error):
        write_kit(folder)
    assert not (folder / "kit").exists()


def test_another_format_gets_no_kit(make: Any, tmp_path: Path) -> None:
    folder = make(tmp_path / "onnx")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["stages"][-1]["artifact"]["format"] = "onnx"
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BadOption, match="is no Core ML package"):
        write_kit(folder)


@pytest.mark.parametrize(("file_format", "batch", "expected"), [
    (Format.COREML, 1, True), (Format.COREML, 8, False), (Format.ENGINE, 1, True), (Format.ENGINE, 8, True),
    (Format.ENGINE, None, True), (Format.ONNX, 1, False), (Format.NETWORK, 1, False),
])  # fmt: skip
def test_which_artifacts_have_a_kit(file_format: Format, batch: int | None, expected: bool) -> None:
    assert has_kit(file_format, batch) is expected


# ---- the picture -----------------------------------------------------------------------------------------------------


def tiny_logits(pixels: NDArray[np.uint8]) -> NDArray[np.floating]:
    """A model that sees coarse structure and color: means over a grid, mixed by fixed weights."""
    cells = pixels.reshape(len(pixels), 4, 16, 4, 16, 3).mean(axis=(2, 4)).reshape(len(pixels), -1) / 255
    weights = np.random.default_rng(3).standard_normal((cells.shape[1], CLASSES))
    mixed: NDArray[np.floating] = (cells - 0.5) @ weights
    return mixed


def fine_logits(pixels: NDArray[np.uint8]) -> NDArray[np.floating]:
    """A model that sees nothing but single pixels: every resizer looks wrong to it."""
    flat = pixels.reshape(len(pixels), -1).astype(np.int64)
    seeds = flat @ np.random.default_rng(4).integers(1, 1 << 40, flat.shape[1])
    return np.stack([np.random.default_rng(abs(int(seed))).standard_normal(CLASSES) for seed in seeds])


def test_the_picture_has_a_budget_that_no_mistake_fits_into(folder: Path) -> None:
    write_kit(folder, logits_of=tiny_logits)
    record = record_of(folder)
    jpeg = record["jpeg"]
    assert (jpeg["width"], jpeg["height"]) == (183, 146)  # larger than the model's 64, and not square
    assert len(jpeg["wrong"]) == 3
    for unit, budget in jpeg["budgets"].items():
        assert budget == 2 * jpeg["floor"] + max(record["budgets"][unit].values())
        assert min(jpeg["wrong"].values()) > budget
    assert (folder / "kit" / "data" / jpeg["path"]).read_bytes()[:2] == b"\xff\xd8"
    assert len((folder / "kit" / "data" / jpeg["logits"]).read_bytes()) == 4 * CLASSES
    assert kit_of(open_for_kit(folder)).record == record


def test_there_is_no_picture_where_right_and_wrong_look_alike(folder: Path) -> None:
    write_kit(folder, logits_of=fine_logits)
    assert record_of(folder)["jpeg"] is None


def test_there_is_no_picture_for_a_tensor_input(make: Any, tmp_path: Path) -> None:
    folder = make(tmp_path / "tensor", images=False)
    write_kit(folder, logits_of=tiny_logits)
    assert record_of(folder)["jpeg"] is None


# ---- carried away ----------------------------------------------------------------------------------------------------


def test_a_carried_kit_is_the_folders_own(folder: Path, tmp_path: Path) -> None:
    (folder / "kit" / "device-report.json").write_text("{}")
    out = carry(folder, tmp_path / "stick")
    (folder / "kit" / "device-report.json").unlink()
    assert contents(out) == contents(folder / "kit")
    assert carry(folder, out) == out  # again


def test_a_folder_that_is_no_kit_is_not_overwritten(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("dear")
    with pytest.raises(BadOutput, match="no device kit"):
        carry(folder, tmp_path / "home")
    assert (tmp_path / "home" / "letter.txt").read_text() == "dear"


def _spoil_json(folder: Path) -> None:
    path = folder / "kit" / "data" / "kit.json"
    record = json.loads(path.read_text())
    record["budgets"]["CPU_ONLY"]["natural"] = 1e9
    path.write_text(json.dumps(record, indent=2) + "\n")


SPOILED: dict[str, Callable[[Path], object]] = {
    "generous budgets": _spoil_json,
    "no kit": lambda folder: shutil.rmtree(folder / "kit"),
    "another input": lambda folder: (folder / "kit" / "data" / "golden" / "000.bin").write_bytes(bytes(64 * 64 * 3)),
    "another package": lambda folder: (folder / "kit" / "data" / "model.mlpackage" / "more").write_text(""),
    "no JSON": lambda folder: (folder / "kit" / "data" / "kit.json").write_text("[]"),
}


@pytest.mark.parametrize("what", SPOILED)
def test_a_kit_that_is_not_the_folders_is_told(what: str, folder: Path, tmp_path: Path) -> None:
    SPOILED[what](folder)
    with pytest.raises(ArtifactChanged, match="not the kit"):
        carry(folder, tmp_path / "stick")
    assert not (tmp_path / "stick").exists()


def test_the_kinds_are_named_as_in_the_golden_set(folder: Path) -> None:
    assert {case["kind"] for case in record_of(folder)["cases"]} <= set(Kind)
