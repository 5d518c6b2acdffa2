"""`vit-export attach`: an honest report becomes part of the manifest, a forged, stale or foreign one of nothing."""

import base64
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from efficientvit.errors import ArtifactChanged, Refused, VitExportError
from export.cli.kit import attach as attach_command
from export.cli.kit import kit as kit_command
from export.device_kit.attach import attach
from export.device_kit.device_report import BadReport
from export.device_kit.kit import write_kit
from runtimes.artifact import digest
from tests.device_reports import Report, edit, timed


@pytest.fixture
def reported(folder: Path, healthy_report: str) -> Path:
    """What a healthy device reports of every unit, CPU_ONLY timed."""
    return timed(folder, healthy_report, 0)


def manifest_of(folder: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    return manifest


def encoded(logits: Any) -> str:
    return base64.b64encode(np.asarray(logits, "<f4").tobytes()).decode()


def decoded(text: str) -> Any:
    return np.frombuffer(base64.b64decode(text), "<f4").copy()


def test_an_honest_report_becomes_native_evidence(folder: Path, reported: Path) -> None:
    before = manifest_of(folder)
    attached = attach(folder, reported)
    assert int(attached.code) == 0
    after = manifest_of(folder)
    devices = after.pop("devices")
    before.pop("devices")
    assert after == before
    assert [entry["unit"] for entry in devices] == ["CPU_ONLY", "CPU_AND_GPU", "CPU_AND_NE", "ALL"]
    cpu = devices[0]
    assert (cpu["status"], cpu["evidence"]) == ("passed", "native")
    assert {kind["kind"] for kind in cpu["kinds"]} == {"natural", "flat", "pattern", "impulse"}
    assert all(0 < kind["worst"] <= kind["budget"] == 4e-3 for kind in cpu["kinds"])
    assert cpu["timing"]["median_ms"] == pytest.approx(0.9005, abs=1e-4)
    assert len(cpu["timing"]["samples_ns"]) == 100
    assert not cpu["timing"]["noisy"]
    assert devices[1]["timing"] == {"measured": False, "reason": "not asked for"}
    copy = folder / cpu["report"]["path"]
    assert copy.read_bytes() == reported.read_bytes()
    assert copy.parent == folder / "evidence" / "device-reports"


def test_attaching_twice_is_attaching_once(folder: Path, reported: Path) -> None:
    assert attach(folder, reported).again is False
    before = (folder / "manifest.json").read_bytes()
    assert attach(folder, reported).again is True
    assert (folder / "manifest.json").read_bytes() == before


def test_reports_of_two_devices_stand_side_by_side(folder: Path, reported: Path) -> None:
    attach(folder, reported)
    edit(reported, lambda report: report["device"].update(model="Mac99,1"))
    attach(folder, reported)
    attach(folder, reported)
    models = [entry["device"]["model"] for entry in manifest_of(folder)["devices"]]
    assert len(models) == 8
    assert models[4:] == ["Mac99,1"] * 4
    assert len(list((folder / "evidence" / "device-reports").iterdir())) == 2


def test_a_manifest_without_devices_gets_them(make: Any, tmp_path: Path, device: Any) -> None:
    old = make(tmp_path / "old")
    manifest = manifest_of(old)
    del manifest["devices"]
    (old / "manifest.json").write_text(json.dumps(manifest))
    write_kit(old)
    device.folder = old
    assert device.run("--no-time", "--unit", "ALL").returncode == 0
    attach(old, device.report)
    assert [entry["unit"] for entry in manifest_of(old)["devices"]] == ["ALL"]


@pytest.mark.parametrize(("behavior", "worst"), [("wrong", None), ("nan", "nan")])
def test_an_honest_rejection_is_recorded_and_exits_1(
    behavior: str, worst: str | None, folder: Path, device: Any
) -> None:
    device.unit = {"CPU_AND_NE": behavior}
    assert device.run("--no-time").returncode == 1
    attached = attach(folder, device.report)
    assert int(attached.code) == 1
    by_unit = {entry["unit"]: entry for entry in manifest_of(folder)["devices"]}
    engine = by_unit["CPU_AND_NE"]
    assert (engine["status"], engine["evidence"]) == ("rejected", "native")
    assert "nothing is timed" in engine["timing"]["reason"]
    assert by_unit["CPU_ONLY"]["status"] == "passed"
    natural = next(kind for kind in engine["kinds"] if kind["kind"] == "natural")
    assert natural["worst"] == worst if worst else natural["worst"] > natural["budget"]


def test_a_crash_is_recorded_without_evidence_and_exits_1(folder: Path, device: Any) -> None:
    device.unit = {"CPU_AND_NE": "abort"}
    assert device.run("--no-time").returncode == 4
    assert int(attach(folder, device.report).code) == 1
    engine = manifest_of(folder)["devices"][2]
    assert (engine["status"], engine["evidence"], engine["kinds"]) == ("crashed", None, [])
    assert "SIGKILL" in engine["reason"]


# ---- refused ---------------------------------------------------------------------------------------------------------


def _cases(report: Report, unit: int = 0) -> list[dict[str, str]]:
    cases: list[dict[str, str]] = report["units"][unit]["cases"]
    return cases


def _move(case: dict[str, str]) -> None:
    logits = decoded(case["logits"])
    logits[0] += 1
    case["logits"] = encoded(logits)


def _case(report: Report, name: str) -> dict[str, str]:
    return next(case for case in _cases(report) if case["name"] == name)


def _shift_all(report: Report) -> None:
    for case in _cases(report):
        _move(case)


def _as_rejected(report: Report) -> None:
    report["units"][0].update(status="rejected", reason="over its budget", timing=None)


def _rejected_but_timed(report: Report) -> None:
    _move(_cases(report)[0])
    report["units"][0].update(status="rejected", reason="over its budget")


def _crashed_with_results(report: Report) -> None:
    report["units"][0].update(status="crashed", reason="SIGKILL", timing=None)


FORGED: dict[str, tuple[Callable[[Report], object], str]] = {
    "a pass on wrong outputs": (_shift_all, "do not bear out"),
    "a pass on one wrong output": (lambda r: _move(_case(r, "natural-0")), "do not bear out"),
    "a pass on no numbers": (
        lambda r: _case(r, "natural-0").update(logits=encoded([np.nan] * 12)),
        "do not bear out",
    ),
    "a wrong probe": (lambda r: _move(_case(r, "natural-2")), "answers the kit does not hold"),
    "a probe of no numbers": (
        lambda r: _case(r, "natural-2").update(logits=encoded([np.inf] * 12)),
        "do not bear out",
    ),
    "a probe with another case's answer": (
        lambda r: _case(r, "natural-2").update(logits=_case(r, "natural-1")["logits"]),
        "answers the kit does not hold",
    ),
    "a rejection of right outputs": (_as_rejected, "do not bear out"),
    "a case left out": (lambda r: _cases(r).pop(), "other cases"),
    "a probe left out": (lambda r: _cases(r).remove(_case(r, "natural-2")), "other cases"),
    "a case twice": (lambda r: _cases(r).append(dict(_cases(r)[0])), "other cases"),
    "a case twice in place of another": (lambda r: _cases(r)[0].update(name="natural-1"), "other cases"),
    "an unknown case": (lambda r: _cases(r)[0].update(name="natural-9"), "other cases"),
    "too few logits": (lambda r: _cases(r)[0].update(logits=encoded([1.0] * 11)), "wrong length"),
    "no logits": (lambda r: _cases(r)[0].update(logits=""), "wrong length"),
    "a timing of a rejected unit": (_rejected_but_timed, "without having passed"),
    "a sample of 0 ns": (lambda r: r["units"][0]["timing"]["samples_ns"].append(0), "no kit measures"),
    "a negative sample": (lambda r: r["units"][0]["timing"]["samples_ns"].append(-5), "no kit measures"),
    "too few samples": (lambda r: r["units"][0]["timing"].update(samples_ns=[1000]), "no kit measures"),
    "no samples": (lambda r: r["units"][0]["timing"].update(samples_ns=[]), "no kit measures"),
    "no warm-up": (lambda r: r["units"][0]["timing"].update(warm_up_runs=0), "no kit measures"),
    "results of a crashed unit": (_crashed_with_results, "has results all the same"),
    "a unit twice": (lambda r: r["units"].append(r["units"][0]), "compute units"),
    "an unknown unit": (lambda r: r["units"][0].update(unit="TPU"), "compute units"),
    "no units": (lambda r: r["units"].clear(), "compute units"),
    "a picture that the kit has not": (
        lambda r: r["units"][0].update(jpeg={"status": "passed", "route": "vision", "logits": encoded([1.0] * 12)}),
        "the kit has none",
    ),
    "a foreign package": (lambda r: r.update(package_sha256="0" * 64), "foreign"),
    "another kit": (lambda r: r.update(kit_sha256="0" * 64), "stale"),
}


def assert_refused(folder: Path, path: Path, error: type[VitExportError], says: str) -> None:
    before = (folder / "manifest.json").read_bytes()
    with pytest.raises(error, match=says):
        attach(folder, path)
    assert (folder / "manifest.json").read_bytes() == before
    assert not (folder / "evidence" / "device-reports").exists()


@pytest.mark.parametrize("what", FORGED)
def test_a_report_that_does_not_hold_is_refused_and_changes_nothing(what: str, folder: Path, reported: Path) -> None:
    change, says = FORGED[what]
    edit(reported, change)
    assert_refused(folder, reported, Refused, says)


def test_the_kits_own_reference_is_no_output(folder: Path, reported: Path) -> None:
    data = folder / "kit" / "data"
    shown = {case["name"]: case["logits"] for case in json.loads((data / "kit.json").read_text())["cases"]}

    def copied(report: Report) -> None:
        for case in _cases(report):
            if shown[case["name"]]:
                case["logits"] = base64.b64encode((data / shown[case["name"]]).read_bytes()).decode()

    edit(reported, copied)
    assert_refused(folder, reported, Refused, "own reference")


def test_a_report_about_another_export_is_foreign(make: Any, tmp_path: Path, reported: Path) -> None:
    other = make(tmp_path / "other")
    weights = other / "ship" / "efficientvit_m0.mlpackage" / "Data" / "weights" / "weight.bin"
    weights.write_bytes(b"other weights")
    manifest = manifest_of(other)
    manifest["stages"][-1]["artifact"]["sha256"] = digest(other / "ship" / "efficientvit_m0.mlpackage")
    (other / "manifest.json").write_text(json.dumps(manifest))
    write_kit(other)
    assert_refused(other, reported, Refused, "foreign")


def test_a_package_that_changed_since_is_told(folder: Path, reported: Path) -> None:
    (folder / "ship" / "efficientvit_m0.mlpackage" / "Manifest.json").write_text("{ }")
    assert_refused(folder, reported, ArtifactChanged, "is not the file that stage 'coreml' made")


def test_a_reference_with_generous_floors_is_told(folder: Path, reported: Path, make: Any, tmp_path: Path) -> None:
    generous = make(tmp_path / "generous", images=False)
    shutil.copyfile(generous / "evidence/reference.safetensors", folder / "evidence/reference.safetensors")
    assert_refused(folder, reported, ArtifactChanged, "reference")


@pytest.mark.parametrize("what", ["gone", "with generous budgets"])
def test_without_the_kit_that_was_run_nothing_is_attached(what: str, folder: Path, reported: Path) -> None:
    path = folder / "kit" / "data" / "kit.json"
    if what == "gone":
        path.unlink()
    else:
        edit(path, lambda kit: kit["budgets"]["CPU_ONLY"].update(natural=10.0))
    assert_refused(folder, reported, ArtifactChanged, "not the kit")


def _as_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


MALFORMED: dict[str, Callable[[Path], object]] = {
    "missing": lambda path: path.unlink(),
    "a folder": _as_folder,
    "no JSON": lambda path: path.write_text("{"),
    "no text": lambda path: path.write_bytes(b"\xff\xfe\xfd"),
    "nested without end": lambda path: path.write_text("[" * 200_000),
    "a list": lambda path: path.write_text("[]"),
    "another schema": lambda path: edit(path, lambda r: r.update(schema=2)),
    "a field too many": lambda path: edit(path, lambda r: r.update(verdict="passed")),
    "a field missing": lambda path: edit(path, lambda r: r.pop("device")),
    "a status of its own": lambda path: edit(path, lambda r: r["units"][0].update(status="verified")),
    "a number for a name": lambda path: edit(path, lambda r: r["device"].update(model=7)),
    "a truth for a number": lambda path: edit(path, lambda r: r["units"][0]["timing"].update(warm_up_runs=True)),
    "half a nanosecond": lambda path: edit(path, lambda r: r["units"][0]["timing"].update(samples_ns=[1.5] * 40)),
    "NaN as a number": lambda path: path.write_text(path.read_text().replace("900000", "NaN", 1)),
    "no base64": lambda path: edit(path, lambda r: _cases(r)[0].update(logits="!!!!")),
    "three bytes of a float": lambda path: edit(path, lambda r: _cases(r)[0].update(logits="AAAA")),
    "a plan that does not add up": lambda path: edit(
        path, lambda r: r["units"][0].update(compute_plan={"operations": 3, "preferred": {"CPU": 1}})
    ),
}


@pytest.mark.parametrize("what", MALFORMED)
def test_a_file_that_is_no_report_is_bad_input(what: str, folder: Path, reported: Path) -> None:
    MALFORMED[what](reported)
    assert_refused(folder, reported, BadReport, "device report|cannot be decoded")


# ---- the picture -----------------------------------------------------------------------------------------------------


@pytest.fixture
def pictured(folder: Path, device: Any) -> Path:
    """A report with a right picture on CPU_ONLY."""

    def coarse(pixels: Any) -> Any:
        cells = pixels.reshape(len(pixels), 4, 16, 4, 16, 3).mean(axis=(2, 4)).reshape(len(pixels), -1) / 255
        return (cells - 0.5) @ np.random.default_rng(3).standard_normal((cells.shape[1], 12))

    write_kit(folder, logits_of=coarse)
    assert device.run("--no-time", "--unit", "CPU_ONLY").returncode == 0
    logits = np.frombuffer((folder / "kit/data/picture.logits").read_bytes(), "<f4")
    picture = {"status": "passed", "route": "vision", "logits": encoded(logits * 1.001)}
    edit(device.report, lambda report: report["units"][0].update(jpeg=picture))
    kept: Path = device.report
    return kept


def test_a_picture_through_the_devices_resizer_is_recorded(folder: Path, pictured: Path) -> None:
    assert int(attach(folder, pictured).code) == 0
    jpeg = manifest_of(folder)["devices"][0]["jpeg"]
    assert jpeg["passed"]
    assert jpeg["route"] == "vision"
    assert 0 < jpeg["error"] < jpeg["budget"]


def test_a_rejected_picture_is_recorded_and_exits_1(folder: Path, pictured: Path) -> None:
    def rejected(report: Report) -> None:
        jpeg = report["units"][0]["jpeg"]
        jpeg.update(status="rejected", logits=encoded(decoded(jpeg["logits"])[::-1]))

    edit(pictured, rejected)
    assert int(attach(folder, pictured).code) == 1
    assert manifest_of(folder)["devices"][0]["jpeg"]["passed"] is False


def test_a_picture_that_claims_too_much_is_refused(folder: Path, pictured: Path) -> None:
    def forged(report: Report) -> None:
        jpeg = report["units"][0]["jpeg"]
        jpeg.update(logits=encoded(decoded(jpeg["logits"])[::-1]))

    edit(pictured, forged)
    assert_refused(folder, pictured, Refused, "of its picture")


# ---- the commands ----------------------------------------------------------------------------------------------------


def test_the_command_shows_what_it_attached(folder: Path, reported: Path) -> None:
    ran = CliRunner().invoke(attach_command, [str(folder), str(reported)])
    assert ran.exit_code == 0, ran.output
    assert "CPU_AND_NE   passed" in ran.output
    assert "0.900 ms median" in ran.output
    assert "x budget on" in ran.output


def test_the_command_speaks_json(folder: Path, reported: Path) -> None:
    ran = CliRunner().invoke(attach_command, [str(folder), str(reported), "--json"])
    found = json.loads(ran.output)
    assert (ran.exit_code, found["exit_code"], found["again"]) == (0, 0, False)
    assert found["devices"] == manifest_of(folder)["devices"]


def test_a_rejection_and_a_crash_can_be_read_off_the_command(folder: Path, device: Any) -> None:
    device.unit = {"CPU_AND_NE": "nan", "ALL": "abort"}
    device.run("--no-time")
    ran = CliRunner().invoke(attach_command, [str(folder), str(device.report)])
    assert ran.exit_code == 1
    assert "rejected" in ran.output
    assert ": nan" in ran.output
    assert "SIGKILL" in ran.output


def test_the_kit_command_makes_a_kit_and_copies_it(make: Any, tmp_path: Path) -> None:
    folder = make(tmp_path / "fresh")
    ran = CliRunner().invoke(kit_command, [str(folder), "-o", str(tmp_path / "stick")])
    assert ran.exit_code == 0, ran.output
    assert (folder / "kit/data/kit.json").read_bytes() == (tmp_path / "stick/data/kit.json").read_bytes()
    assert "README.md" in ran.output


@pytest.mark.parametrize("command", [kit_command, attach_command])
def test_help_says_what_comes_next(command: Any) -> None:
    assert "device" in CliRunner().invoke(command, ["--help"]).output
