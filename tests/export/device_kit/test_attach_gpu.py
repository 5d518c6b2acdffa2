"""The kit of an engine and `vit-export attach`: the same checks as of Core ML's, and what only an engine can claim."""

import base64
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from click.testing import CliRunner

from efficientvit.errors import ArtifactChanged, Refused, VitExportError
from export.cli.kit import attach as attach_command
from export.cli.kit import kit as kit_command
from export.device_kit.attach import attach
from export.device_kit.device_report import BadReport
from export.device_kit.folder import open_for_kit
from export.device_kit.kit import carry, kit_of, write_kit
from export.folder.schema import manifest_schema
from runtimes.artifact import digest
from runtimes.precision import Dtype, Precision
from tests.device_reports import Report, edit, timed
from validation.inputs.golden_set import Kind
from validation.reference import file

INT8 = Precision(Dtype.INT8, Dtype.INT8, Dtype.INT8)
SCHEMA = manifest_schema()
DEVICES = {"$schema": SCHEMA["$schema"], "$defs": SCHEMA["$defs"], **SCHEMA["properties"]["devices"]}


@pytest.fixture
def reported(engine_folder: Path, healthy_gpu_report: str) -> Path:
    """What a healthy host reports of both products, RTX timed by a graph."""
    path = timed(engine_folder, healthy_gpu_report, 0, "temperature.gpu 40")
    edit(path, lambda report: report["units"][0]["engine"].update(launch="graph"))
    return path


def record_of(folder: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / "kit" / "data" / "kit.json").read_text())
    return record


def devices_of(folder: Path) -> list[dict[str, Any]]:
    devices: list[dict[str, Any]] = json.loads((folder / "manifest.json").read_text())["devices"]
    jsonschema.validate(devices, DEVICES)
    return devices


def encoded(logits: Any) -> str:
    return base64.b64encode(np.asarray(logits, "<f4").tobytes()).decode()


def decoded(text: str) -> Any:
    return np.frombuffer(base64.b64decode(text), "<f4").copy()


# ---- the kit ---------------------------------------------------------------------------------------------------------


def test_a_kit_is_complete_and_every_file_is_under_a_digest(engine_folder: Path) -> None:
    kit, record = engine_folder / "kit", record_of(engine_folder)
    scripts = {"check_on_gpu.py", "kit_common.py", "kit_cuda.py", "kit_engine.py"}
    assert {path.name for path in kit.iterdir()} == {"README.md", "data", *scripts}
    data = kit / "data"
    found = {path.relative_to(data).as_posix() for path in data.rglob("*") if path.is_file()}
    assert found == {"kit.json", "model.engine", "model.onnx", *record["files"]}
    assert digest(data / "model.engine") == record["package"]["sha256"]
    engine = record["engine"]
    assert engine["sha256"] == hashlib.sha256((data / "model.engine").read_bytes()).hexdigest()
    assert engine["units"]["RTX"] == {"product": "tensorrt-rtx", "module": "tensorrt_rtx", "shipped": True}
    assert engine["units"]["ENTERPRISE"] == {"product": "tensorrt", "module": "tensorrt", "shipped": False}


def test_the_inputs_are_normalized_tensors_of_every_ordinary_kind(engine_folder: Path) -> None:
    record, golden = record_of(engine_folder), file.load(engine_folder / "evidence").golden
    assert {case["kind"] for case in record["cases"]} == set(Kind) - {Kind.AMPLIFIED, Kind.PHOTO}
    for case in record["cases"]:
        raw = np.frombuffer((engine_folder / "kit" / "data" / case["input"]).read_bytes(), "<f4").reshape(3, 64, 64)
        assert np.array_equal(raw, golden.images[golden.names.index(case["name"])])


def test_each_product_has_a_budget_of_its_own_and_the_note_says_whence(engine_folder: Path) -> None:
    record = record_of(engine_folder)
    assert list(record["budgets"]) == ["RTX", "ENTERPRISE"]
    assert all(set(budget.values()) == {4e-3} for budget in record["budgets"].values())
    assert "provisional" in record["note"]
    assert record["quality_budget"] is None


def test_a_probes_answer_is_nowhere_in_the_kit_at_any_batch(make_gpu: Any, tmp_path: Path) -> None:
    folder = make_gpu(tmp_path / "dynamic", batch=None)
    write_kit(folder)
    record, reference = record_of(folder), file.load(folder / "evidence")
    everything = b"".join(path.read_bytes() for path in (folder / "kit").rglob("*") if path.is_file())
    probes = [case["name"] for case in record["cases"] if case["logits"] is None]
    alone = [name for name in probes if " in a batch of 4" not in name]
    assert sorted(probes) == sorted([*alone, *(f"{name} in a batch of 4" for name in alone)])
    for name in alone:
        right = reference.logits[reference.golden.names.index(name)]
        assert right.astype("<f4").tobytes() not in everything


@pytest.mark.parametrize("batch", [1, 3, None])
def test_the_same_folder_gives_the_same_bytes(batch: int | None, make_gpu: Any, tmp_path: Path) -> None:
    first, second = (make_gpu(tmp_path / name / "engine", batch=batch) for name in ("first", "second"))
    contents = []
    for folder in (first, second):
        kit = write_kit(folder)
        contents.append({path.relative_to(kit): path.read_bytes() for path in kit.rglob("*") if path.is_file()})
        assert kit_of(open_for_kit(folder)).record == record_of(folder)
    assert contents[0] == contents[1]


def test_what_a_run_left_is_not_carried_along(engine_folder: Path, tmp_path: Path) -> None:
    (engine_folder / "kit" / "rebuilt-RTX.engine").write_bytes(b"built elsewhere")
    out = carry(engine_folder, tmp_path / "stick")
    assert (out / "data" / "model.engine").is_file()
    assert not (out / "rebuilt-RTX.engine").exists()


def test_the_readme_speaks_of_this_engine(engine_folder: Path) -> None:
    text = (engine_folder / "kit" / "README.md").read_text()
    assert "efficientvit_m0.engine" in text
    assert "tensorrt-rtx 0.test, for 89" in text
    assert "has not been run on a GPU" in text
    assert "@" not in text.replace("@MODEL@", "")


# ---- attach ----------------------------------------------------------------------------------------------------------


def test_an_honest_report_becomes_native_evidence_of_each_product(engine_folder: Path, reported: Path) -> None:
    assert int(attach(engine_folder, reported).code) == 0
    rtx, enterprise = devices_of(engine_folder)
    assert (rtx["unit"], rtx["status"], rtx["evidence"]) == ("RTX", "passed", "native")
    assert (enterprise["unit"], enterprise["status"], enterprise["evidence"]) == ("ENTERPRISE", "passed", "native")
    assert (rtx["engine"]["origin"], enterprise["engine"]["origin"]) == ("shipped", "rebuilt")
    assert rtx["timing"]["median_ms"] == pytest.approx(0.9005, abs=1e-4)
    assert rtx["timing"]["batch"] == 1
    assert enterprise["timing"] == {"measured": False, "reason": "not asked for"}
    assert all(0 < kind["worst"] <= kind["budget"] == 4e-3 for kind in rtx["kinds"])
    assert attach(engine_folder, reported).again


def test_a_batch_is_timed_as_one(make_gpu: Any, tmp_path: Path, gpu_host: Any) -> None:
    gpu_host.folder, gpu_host.batches = make_gpu(tmp_path / "dynamic", batch=None), (1, 4)
    write_kit(gpu_host.folder)
    assert gpu_host.run("--unit", "RTX").returncode == 0
    assert int(attach(gpu_host.folder, gpu_host.report).code) == 0
    (entry,) = devices_of(gpu_host.folder)
    assert entry["timing"]["batch"] == 4
    assert {kind["images"] for kind in entry["kinds"]} == {
        10,
        8,
        4,
    }  # natural, noise and pattern; flat and impulse: 2x2


@pytest.mark.parametrize("behavior", ["wrong", "nan"])
def test_an_honest_rejection_is_recorded_and_exits_1(behavior: str, engine_folder: Path, gpu_host: Any) -> None:
    gpu_host.unit = {"ENTERPRISE": behavior}
    assert gpu_host.run("--no-time").returncode == 1
    assert int(attach(engine_folder, gpu_host.report).code) == 1
    by_unit = {entry["unit"]: entry for entry in devices_of(engine_folder)}
    assert by_unit["RTX"]["status"] == "passed"
    assert (by_unit["ENTERPRISE"]["status"], by_unit["ENTERPRISE"]["evidence"]) == ("rejected", "native")


def test_a_crash_is_recorded_without_evidence_and_exits_1(engine_folder: Path, gpu_host: Any) -> None:
    gpu_host.unit = {"ENTERPRISE": "unbuildable"}
    assert gpu_host.run("--no-time").returncode == 4
    assert int(attach(engine_folder, gpu_host.report).code) == 1
    entry = devices_of(engine_folder)[1]
    assert (entry["status"], entry["evidence"], entry["engine"]) == ("crashed", None, None)


def _cases(report: Report, unit: int = 0) -> list[dict[str, str]]:
    cases: list[dict[str, str]] = report["units"][unit]["cases"]
    return cases


def _move(report: Report, name: str) -> None:
    case = next(case for case in _cases(report) if case["name"] == name)
    logits = decoded(case["logits"])
    logits[0] += 1
    case["logits"] = encoded(logits)


def _rejected_but_timed(report: Report) -> None:
    _move(report, "natural-0")
    report["units"][0].update(status="rejected", reason="over its budget")


def _engine(report: Report, unit: int, **changes: Any) -> None:
    report["units"][unit]["engine"].update(changes)


FORGED: dict[str, tuple[Callable[[Report], object], str]] = {
    "a pass on a wrong output": (lambda r: _move(r, "natural-0"), "do not bear out"),
    "a wrong probe": (lambda r: _move(r, "natural-2"), "answers the kit does not hold"),
    "a timing of a rejected unit": (_rejected_but_timed, "without having passed"),
    "no engine": (lambda r: r["units"][0].update(engine=None), "does not say which engine ran"),
    "another engine as the shipped one": (lambda r: _engine(r, 0, sha256="0" * 64), "ran another"),
    "a rebuilt engine as the shipped one": (lambda r: _engine(r, 1, origin="shipped"), "ran another"),
    "RTX's engine as enterprise's": (lambda r: _engine(r, 1, product="tensorrt-rtx"), "another product's engine"),
    "a timing without a launch": (lambda r: _engine(r, 0, launch=None), "how it was launched"),
    "a Core ML unit": (lambda r: r["units"][0].update(unit="ALL"), "compute units"),
    "results of a crashed unit": (
        lambda r: r["units"][0].update(status="crashed", reason="SIGKILL", timing=None),
        "has results all the same",
    ),
    "a foreign engine": (lambda r: r.update(package_sha256="0" * 64), "foreign"),
    "another kit": (lambda r: r.update(kit_sha256="0" * 64), "stale"),
}


def assert_refused(folder: Path, path: Path, error: type[VitExportError], says: str) -> None:
    before = (folder / "manifest.json").read_bytes()
    with pytest.raises(error, match=says):
        attach(folder, path)
    assert (folder / "manifest.json").read_bytes() == before
    assert not (folder / "evidence" / "device-reports").exists()


@pytest.mark.parametrize("what", FORGED)
def test_a_report_that_does_not_hold_is_refused_and_changes_nothing(
    what: str, engine_folder: Path, reported: Path
) -> None:
    change, says = FORGED[what]
    edit(reported, change)
    assert_refused(engine_folder, reported, Refused, says)


MALFORMED: dict[str, Callable[[Report], object]] = {
    "an engine of nowhere": lambda r: _engine(r, 0, origin="found"),
    "a launch of its own": lambda r: _engine(r, 0, launch="rocket"),
    "a version that is a number": lambda r: _engine(r, 0, version=10),
    "an engine without a GPU": lambda r: r["units"][0]["engine"].pop("gpu"),
    "a field too many": lambda r: _engine(r, 0, speed="high"),
}


@pytest.mark.parametrize("what", MALFORMED)
def test_a_file_that_is_no_report_is_bad_input(what: str, engine_folder: Path, reported: Path) -> None:
    edit(reported, MALFORMED[what])
    assert_refused(engine_folder, reported, BadReport, "device report")


def test_an_engine_in_a_core_ml_report_is_refused(folder: Path, healthy_report: str, healthy_gpu_report: str) -> None:
    report, other = json.loads(healthy_report), json.loads(healthy_gpu_report)
    report["units"][0]["engine"] = other["units"][0]["engine"]
    path = folder / "kit" / "device-report.json"
    path.write_text(json.dumps(report))
    assert_refused(folder, path, Refused, "speaks of an engine")


def test_an_engine_that_changed_since_is_told(engine_folder: Path, reported: Path) -> None:
    (engine_folder / "ship" / "efficientvit_m0.onnx").write_bytes(b"another ONNX file")
    assert_refused(engine_folder, reported, ArtifactChanged, "is not the file that stage")


# ---- int8 ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def int8_host(make_gpu: Any, tmp_path: Path, gpu_host: Any) -> Any:
    gpu_host.folder = make_gpu(tmp_path / "int8", precision=INT8, quality_budget=0.2)
    write_kit(gpu_host.folder)
    gpu_host.noise = 0.19
    assert gpu_host.run("--no-time", "--unit", "RTX").returncode == 0
    return gpu_host


def test_an_int8_engine_is_recorded_with_its_quality(int8_host: Any) -> None:
    assert int(attach(int8_host.folder, int8_host.report).code) == 0
    (entry,) = devices_of(int8_host.folder)
    assert entry["quality"] == {"error": pytest.approx(0.19, rel=1e-3), "budget": 0.2, "passed": True}


def _worse(host: Any, *, probes: bool) -> Callable[[Report], object]:
    """Errors of the probes, or of the others, a third larger; every single one is still allowed."""
    names = {case["name"] for case in record_of(host.folder)["cases"] if (case["logits"] is None) is probes}
    reference = file.load(host.folder / "evidence")

    def change(report: Report) -> None:
        for case in _cases(report):
            if case["name"] in names:
                right = reference.logits[reference.golden.names.index(case["name"])]
                case["logits"] = encoded(right + 1.3 * (decoded(case["logits"]) - right))

    return change


def test_probes_can_tip_the_scale_of_an_honest_int8_report(int8_host: Any) -> None:
    timing = {"samples_ns": [900_000] * 40, "warm_up_runs": 20, "thermal_before": None, "thermal_after": None}
    edit(int8_host.report, _worse(int8_host, probes=True))
    edit(int8_host.report, lambda report: report["units"][0].update(timing=timing))
    edit(int8_host.report, lambda report: _engine(report, 0, launch="graph"))
    assert int(attach(int8_host.folder, int8_host.report).code) == 1
    (entry,) = devices_of(int8_host.folder)
    assert (entry["status"], entry["evidence"], entry["timing"]["measured"]) == ("rejected", "native", False)
    assert "whose answers stayed here" in entry["reason"]
    assert entry["quality"]["passed"] is False


def test_an_int8_report_over_the_quality_budget_cannot_claim_a_pass(int8_host: Any) -> None:
    edit(int8_host.report, _worse(int8_host, probes=False))
    assert_refused(int8_host.folder, int8_host.report, Refused, "do not bear out")


def test_probes_that_were_made_up_are_a_lie_in_int8_too(int8_host: Any) -> None:
    probes = {case["name"] for case in record_of(int8_host.folder)["cases"] if case["logits"] is None}

    def made_up(report: Report) -> None:
        shown = [decoded(case["logits"]) for case in _cases(report) if case["name"] not in probes]
        for case in _cases(report):
            if case["name"] in probes:
                case["logits"] = encoded(np.mean(shown, axis=0))

    edit(int8_host.report, made_up)
    assert_refused(int8_host.folder, int8_host.report, Refused, "answers the kit does not hold")


# ---- the commands ----------------------------------------------------------------------------------------------------


def test_the_commands_speak_of_engines(engine_folder: Path, reported: Path) -> None:
    ran = CliRunner().invoke(attach_command, [str(engine_folder), str(reported)])
    assert ran.exit_code == 0, ran.output
    assert "shipped engine, tensorrt-rtx 0.rtx-standin, timed by graph launches" in ran.output
    assert "rebuilt engine, tensorrt 0.standin" in ran.output
    ran = CliRunner().invoke(kit_command, [str(engine_folder)])
    assert "a host with an NVIDIA GPU" in ran.output
