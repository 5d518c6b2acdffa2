"""The kit of a Core AI asset and `vit-export attach`: the checks of every kit, and what only Core AI can claim."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from click.testing import CliRunner

from efficientvit.errors import ArtifactChanged, BadOption, Refused
from export.cli.kit import attach as attach_command
from export.cli.kit import kit as kit_command
from export.device_kit.attach import attach
from export.device_kit.device_report import BadReport
from export.device_kit.folder import open_for_kit
from export.device_kit.formats import has_kit
from export.device_kit.kit import kit_of, write_kit
from export.folder.schema import manifest_schema
from runtimes.artifact import Format, digest
from runtimes.precision import Dtype, Precision
from tests.coreai_assets import needs_coreai
from tests.device_reports import Report, edit, timed
from validation.devices.units import CoreAiUnit

pytestmark = needs_coreai

UNITS = ["default", "cpuOnly", "gpu", "neuralEngine"]
SCHEMA = manifest_schema()
DEVICES = {"$schema": SCHEMA["$schema"], "$defs": SCHEMA["$defs"], **SCHEMA["properties"]["devices"]}
INTERPRETED = {"runtime": "package", "allowed": ["CPU"], "preferred": None}


@pytest.fixture
def reported(folder: Path, healthy_report: str) -> Path:
    """What a healthy Mac reports of every unit, cpuOnly timed."""
    return timed(folder, healthy_report, 1)


def devices_of(folder: Path) -> dict[str, Any]:
    """The manifest's entries, by unit."""
    devices = json.loads((folder / "manifest.json").read_text())["devices"]
    jsonschema.validate(devices, DEVICES)
    return {entry["unit"]: entry for entry in devices}


def test_an_honest_report_becomes_native_evidence_of_each_unit(folder: Path, reported: Path) -> None:
    assert int(attach(folder, reported).code) == 0
    devices = devices_of(folder)
    assert list(devices) == UNITS
    assert {(entry["status"], entry["evidence"]) for entry in devices.values()} == {("passed", "native")}
    for entry in devices.values():
        assert {kind["kind"] for kind in entry["kinds"]} == {"natural", "noise", "flat", "pattern", "impulse"}
        assert all(0 < kind["worst"] <= kind["budget"] == 4e-3 for kind in entry["kinds"])
    assert devices["gpu"]["specialization"]["preferred"] == "GPU"
    assert devices["cpuOnly"]["timing"]["median_ms"] == pytest.approx(0.9005, abs=1e-4)
    assert devices["gpu"]["timing"] == {"measured": False, "reason": "not asked for"}
    assert attach(folder, reported).again


def test_what_coreai_core_computed_off_a_mac_is_no_devices_word(linux: Any) -> None:
    """From Apple's runtime through the kit's script into the manifest, with nothing in between that is not shipped."""
    assert linux.run().returncode == 0
    ran = CliRunner().invoke(attach_command, [str(linux.folder), str(linux.report)])
    assert ran.exit_code == 0
    assert "vendor evidence: coreai-core's interpreter on the CPU, no device" in ran.output
    (entry,) = devices_of(linux.folder).values()
    assert (entry["unit"], entry["status"], entry["evidence"]) == ("cpuOnly", "passed", "vendor")
    assert entry["specialization"] == INTERPRETED
    assert not entry["timing"]["measured"]
    worst = max(kind["worst"] for kind in entry["kinds"])
    assert worst == pytest.approx(1e-5, rel=0.5), "what the reference is off by"


@pytest.mark.parametrize(
    ("behavior", "status", "evidence"), [("wrong", "rejected", "native"), ("abort", "crashed", None)]
)
def test_what_a_unit_did_wrong_is_recorded_and_exits_1(
    behavior: str, status: str, evidence: str | None, host: Any
) -> None:
    host.unit = {"neuralEngine": behavior}
    host.run("--no-time", "--unit", "default", "--unit", "neuralEngine")
    assert int(attach(host.folder, host.report).code) == 1
    devices = devices_of(host.folder)
    assert devices["default"]["status"] == "passed"
    assert (devices["neuralEngine"]["status"], devices["neuralEngine"]["evidence"]) == (status, evidence)


def test_the_command_shows_what_was_allowed(folder: Path, reported: Path) -> None:
    shown = CliRunner().invoke(attach_command, [str(folder), str(reported)]).output
    assert "Neural Engine preferred; CPU, GPU, Neural Engine allowed" in shown
    assert "0.900 ms median" in shown


# ---- refused ---------------------------------------------------------------------------------------------------------


def _unit(report: Report, name: str) -> dict[str, Any]:
    return next(unit for unit in report["units"] if unit["unit"] == name)


def _move(report: Report) -> None:
    case = _unit(report, "gpu")["cases"][0]
    logits = np.frombuffer(base64.b64decode(case["logits"]), "<f4") + np.float32(1)
    case["logits"] = base64.b64encode(logits.tobytes()).decode()


def _swapped(report: Report) -> None:
    default, gpu = _unit(report, "default"), _unit(report, "gpu")
    default["specialization"], gpu["specialization"] = gpu["specialization"], default["specialization"]


FORGED: dict[str, tuple[Callable[[Report], object], str]] = {
    "a pass on wrong outputs": (_move, "do not bear out"),
    "no word of the runtime": (lambda r: _unit(r, "gpu").pop("specialization"), "which Core AI ran"),
    "the interpreter as the GPU": (lambda r: _unit(r, "gpu").update(specialization=INTERPRETED), "interpreter"),
    "the interpreter, timed": (lambda r: _unit(r, "cpuOnly").update(specialization=INTERPRETED), "interpreter"),
    "a CPU alone that might use more": (
        lambda r: _unit(r, "cpuOnly")["specialization"].update(allowed=["CPU", "GPU"]), "options",
    ),
    "a GPU that was not preferred": (
        lambda r: _unit(r, "gpu")["specialization"].update(preferred=None), "options",
    ),
    "two units' options swapped": (_swapped, "options"),
    "options of a unit that crashed": (
        lambda r: _unit(r, "gpu").update(status="crashed", reason="SIGABRT", cases=[]), "has results all the same",
    ),
    "an engine": (
        lambda r: _unit(r, "gpu").update(engine={
            "product": "tensorrt", "version": "1", "sha256": "0" * 64, "origin": "shipped", "reason": None, "gpu": "G",
            "compute_capability": "8.9", "driver": None, "cuda": "torch", "launch": None, "launch_reason": None,
        }), "speaks of an engine",
    ),
    "a unit of Core ML's": (lambda r: _unit(r, "gpu").update(unit="CPU_AND_GPU"), "compute units"),
    "another asset": (lambda r: r.update(package_sha256="0" * 64), "foreign"),
    "another kit": (lambda r: r.update(kit_sha256="0" * 64), "stale"),
}  # fmt: skip


def unchanged(folder: Path, report: Path, error: type[Exception], says: str) -> None:
    """`attach` refuses, and writes nothing."""
    before = (folder / "manifest.json").read_bytes()
    with pytest.raises(error, match=says):
        attach(folder, report)
    assert (folder / "manifest.json").read_bytes() == before
    assert not (folder / "evidence" / "device-reports").exists()


@pytest.mark.parametrize("what", FORGED)
def test_a_report_that_does_not_hold_is_refused_and_changes_nothing(what: str, folder: Path, reported: Path) -> None:
    change, says = FORGED[what]
    edit(reported, change)
    unchanged(folder, reported, Refused, says)


def test_a_runtime_of_its_own_is_no_report(folder: Path, reported: Path) -> None:
    edit(reported, lambda report: _unit(report, "gpu")["specialization"].update(runtime="mine"))
    unchanged(folder, reported, BadReport, "device report")


def test_an_asset_that_was_changed_is_told(folder: Path, reported: Path) -> None:
    compiled = folder / "kit" / "data" / "model.aimodel" / "main-h17.odix"
    compiled.write_bytes(b"compiled")
    unchanged(folder, reported, ArtifactChanged, "not the kit")
    compiled.unlink()
    with (folder / "ship" / "efficientvit_m0.aimodel" / "main.mlirb").open("ab") as program:
        program.write(b"more")
    unchanged(folder, reported, ArtifactChanged, "is not the file that stage 'coreai' made")


# ---- the kit ---------------------------------------------------------------------------------------------------------


def test_the_kit_holds_the_asset_the_script_and_a_swift_package(folder: Path) -> None:
    kit = folder / "kit"
    assert {path.name for path in kit.iterdir()} == {
        "README.md", "Package.swift", "check_coreai_on_mac.py", "kit_common.py", "kit_mac.py", "swift", "data",
    }  # fmt: skip
    sources = {path.relative_to(kit / "swift").as_posix() for path in (kit / "swift").rglob("*.swift")}
    assert {
        "Sources/DeviceKit/DeviceCheck.swift", "Sources/DeviceKit/LoadedModel.swift", "Sources/device-check/main.swift",
        "Tests/DeviceKitTests/AssetTests.swift", "Tests/DeviceKitTests/DeviceKitTests.swift",
    } <= sources  # fmt: skip
    assert digest(kit / "data" / "model.aimodel") == digest(folder / "ship" / "efficientvit_m0.aimodel")
    text = (kit / "README.md").read_text()
    assert "@" not in text.replace("@main", "")
    assert "efficientvit_m0.aimodel" in text
    assert "not been run" in text


def test_every_unit_has_a_budget_of_its_own(folder: Path) -> None:
    record = json.loads((folder / "kit" / "data" / "kit.json").read_text())
    assert list(record["budgets"]) == list(CoreAiUnit) == UNITS
    assert record["input"]["kind"] == "tensor"
    assert record["jpeg"] is None
    assert kit_of(open_for_kit(folder)).kit_json == (folder / "kit" / "data" / "kit.json").read_bytes()


def test_a_float32_assets_kit_says_what_the_neural_engine_may_not_do(make_coreai: Any, tmp_path: Path) -> None:
    made = make_coreai(tmp_path / "m0", precision=Precision(Dtype.FP32, Dtype.FP32, Dtype.FP32))
    write_kit(made)
    assert "a float32 asset" in json.loads((made / "kit" / "data" / "kit.json").read_text())["note"]


def test_an_asset_of_two_images_has_no_kit(folder: Path) -> None:
    assert has_kit(Format.COREAI, 1)
    assert not has_kit(Format.COREAI, 2)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["model"]["batch"] = 2
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BadOption, match="another number of images"):
        open_for_kit(folder)


def test_the_command_carries_it_to_a_mac(folder: Path, tmp_path: Path) -> None:
    ran = CliRunner().invoke(kit_command, [str(folder), "-o", str(tmp_path / "stick")])
    assert (ran.exit_code, (tmp_path / "stick" / "check_coreai_on_mac.py").is_file()) == (0, True)
    assert "on a Mac or an iPhone" in ran.output
