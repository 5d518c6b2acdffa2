"""The script that runs on the Mac, run here on the stand-in: what passes, what is rejected, and what is never timed."""

import base64
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from export.device_kit.device_report import device_report_schema
from export.device_kit.kit import write_kit

pytestmark = pytest.mark.usefixtures("brief")

SCHEMA = device_report_schema()
UNITS = ["CPU_ONLY", "CPU_AND_GPU", "CPU_AND_NE", "ALL"]


def units_of(device: Any) -> dict[str, Any]:
    report = json.loads(device.report.read_text())
    jsonschema.validate(report, SCHEMA)
    return {unit["unit"]: unit for unit in report["units"]}


def cases_of(device: Any) -> int:
    return len(json.loads((device.folder / "kit" / "data" / "kit.json").read_text())["cases"])


def test_a_healthy_unit_passes_and_is_then_timed(device: Any) -> None:
    ran = device.run("--unit", "CPU_ONLY")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    unit = units_of(device)["CPU_ONLY"]
    assert (unit["status"], unit["reason"], len(unit["cases"])) == ("passed", None, cases_of(device))
    samples = unit["timing"]["samples_ns"]
    assert len(samples) >= 30
    assert min(samples) > 0
    assert len(device.predictions) == cases_of(device) + unit["timing"]["warm_up_runs"] + len(samples)
    assert "CPU_ONLY     PASSED" in ran.stdout
    assert "ms median" in ran.stdout


def test_every_unit_runs_and_the_report_is_bound_to_package_and_kit(device: Any) -> None:
    ran = device.run("--no-time")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert list(units_of(device)) == UNITS
    assert sorted(set(device.predictions)) == sorted(UNITS)
    assert len(device.predictions) == len(UNITS) * cases_of(device)
    report = json.loads(device.report.read_text())
    kit_json = (device.folder / "kit" / "data" / "kit.json").read_bytes()
    assert report["kit_sha256"] == hashlib.sha256(kit_json).hexdigest()
    manifest = json.loads((device.folder / "manifest.json").read_text())
    assert report["package_sha256"] == manifest["stages"][-1]["artifact"]["sha256"]
    assert report["device"]["model"]


@pytest.mark.parametrize(("behavior", "says"), [("wrong", ">"), ("nan", "nan >")])
def test_a_unit_over_its_budget_is_rejected_and_not_timed(behavior: str, says: str, device: Any) -> None:
    device.unit = {"CPU_AND_NE": behavior}
    ran = device.run("--unit", "CPU_AND_NE")
    assert ran.returncode == 1, ran.stdout + ran.stderr
    unit = units_of(device)["CPU_AND_NE"]
    assert unit["status"] == "rejected"
    assert says in unit["reason"]
    assert unit["timing"] is None
    # Not one prediction more than the check itself needs.
    assert len(device.predictions) == cases_of(device)
    assert "not timed" in ran.stdout


def test_noise_above_the_budget_is_rejected(device: Any) -> None:
    device.noise = 5e-3  # the budget is four floors of 1e-3
    assert device.run("--unit", "ALL", "--no-time").returncode == 1


@pytest.mark.parametrize(("behavior", "says"), [("abort", "SIGKILL"), ("short", "11 logits, where 12 are expected")])
def test_a_unit_that_ends_its_process_takes_no_other_with_it(behavior: str, says: str, device: Any) -> None:
    device.unit = {"CPU_AND_NE": behavior}
    ran = device.run("--no-time")
    assert ran.returncode == 4, ran.stdout + ran.stderr
    units = units_of(device)
    assert {name: unit["status"] for name, unit in units.items()} == {
        **dict.fromkeys(UNITS, "passed"), "CPU_AND_NE": "crashed",
    }  # fmt: skip
    assert says in units["CPU_AND_NE"]["reason"]
    assert units["CPU_AND_NE"]["cases"] == []


@pytest.mark.parametrize("name", ["golden/000.bin", "golden/001.logits", "model.mlpackage/Data/weights/weight.bin"])
def test_a_kit_that_was_changed_runs_nothing(name: str, device: Any) -> None:
    path = device.folder / "kit" / "data" / name
    content = bytearray(path.read_bytes())
    content[5] ^= 1
    path.write_bytes(content)
    ran = device.run("--unit", "CPU_ONLY")
    assert ran.returncode == 1
    unit = units_of(device)["CPU_ONLY"]
    assert unit["status"] == "refused"
    assert name.split("/Data", maxsplit=1)[0] in unit["reason"]
    assert device.predictions == []


def test_the_finders_files_are_no_change(device: Any) -> None:
    (device.folder / "kit" / "data" / "model.mlpackage" / ".DS_Store").write_bytes(b"\0")
    assert device.run("--unit", "CPU_ONLY", "--no-time").returncode == 0


def test_without_a_kit_there_is_nothing_to_run(device: Any) -> None:
    (device.folder / "kit" / "data" / "kit.json").write_text("{")
    script = str(device.folder / "kit" / "check_on_mac.py")
    ran = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False, timeout=60)
    assert (ran.returncode, device.report.exists()) == (2, False)
    assert "no kit" in ran.stderr


def test_a_tensor_goes_in_as_float32(make: Any, tmp_path: Path, device: Any) -> None:
    device.folder = make(tmp_path / "tensor", images=False)
    write_kit(device.folder)
    assert device.run("--unit", "CPU_ONLY", "--no-time").returncode == 0
    kinds = {case["kind"] for case in json.loads((device.folder / "kit/data/kit.json").read_text())["cases"]}
    assert "noise" in kinds
    assert "amplified" not in kinds


def test_the_raw_outputs_are_those_of_the_package(device: Any) -> None:
    device.noise = 0.0
    assert device.run("--unit", "CPU_ONLY", "--no-time").returncode == 0
    kit = json.loads((device.folder / "kit" / "data" / "kit.json").read_text())
    shown = {case["name"]: case["logits"] for case in kit["cases"] if case["logits"]}
    for case in units_of(device)["CPU_ONLY"]["cases"]:
        if case["name"] in shown:
            right = np.frombuffer((device.folder / "kit" / "data" / shown[case["name"]]).read_bytes(), "<f4")
            assert np.array_equal(np.frombuffer(base64.b64decode(case["logits"]), "<f4"), right)
