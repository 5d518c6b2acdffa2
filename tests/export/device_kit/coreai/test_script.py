"""The script for the Mac, run in Apple's own runtime: what passes, what is rejected, and what is never timed."""

import hashlib
import json
from typing import Any

import jsonschema
import numpy as np
import pytest

from export.device_kit.device_report import device_report_schema
from runtimes.artifact import digest
from tests.coreai_assets import needs_coreai

pytestmark = [needs_coreai, pytest.mark.usefixtures("brief")]

SCHEMA = device_report_schema()
UNITS = ["default", "cpuOnly", "gpu", "neuralEngine"]


def cases_of(host: Any) -> int:
    return len(json.loads((host.folder / "kit" / "data" / "kit.json").read_text())["cases"])


def test_every_unit_runs_under_its_own_options_and_the_report_is_bound_to_asset_and_kit(host: Any) -> None:
    ran = host.run("--no-time")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    units = host.units()
    assert list(units) == UNITS
    assert {unit["status"] for unit in units.values()} == {"passed"}
    assert len(host.predictions) == len(UNITS) * cases_of(host)
    assert {unit: found["specialization"] for unit, found in units.items()} == {
        "default": {"runtime": "system", "allowed": ["CPU", "GPU", "Neural Engine"], "preferred": None},
        "cpuOnly": {"runtime": "system", "allowed": ["CPU"], "preferred": None},
        "gpu": {"runtime": "system", "allowed": ["CPU", "GPU", "Neural Engine"], "preferred": "GPU"},
        "neuralEngine": {
            "runtime": "system", "allowed": ["CPU", "GPU", "Neural Engine"], "preferred": "Neural Engine",
        },
    }  # fmt: skip
    report = json.loads(host.report.read_text())
    jsonschema.validate(report, SCHEMA)
    kit_json = (host.folder / "kit" / "data" / "kit.json").read_bytes()
    assert report["kit_sha256"] == hashlib.sha256(kit_json).hexdigest()
    assert report["package_sha256"] == digest(host.folder / "ship" / "efficientvit_m0.aimodel")
    assert report["tool"]["runtime"].endswith("Core AI of the system")
    assert "Neural Engine preferred; CPU, GPU, Neural Engine allowed" in ran.stdout


def test_a_healthy_unit_passes_and_is_then_timed(host: Any) -> None:
    ran = host.run("--unit", "gpu")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    unit = host.units()["gpu"]
    samples = unit["timing"]["samples_ns"]
    assert len(samples) >= 30
    assert min(samples) > 0
    assert len(host.predictions) == cases_of(host) + unit["timing"]["warm_up_runs"] + len(samples)


@pytest.mark.parametrize(("behavior", "says"), [("wrong", ">"), ("nan", "nan >")])
def test_a_unit_over_its_budget_is_rejected_and_not_timed(behavior: str, says: str, host: Any) -> None:
    host.unit = {"neuralEngine": behavior}
    ran = host.run("--unit", "neuralEngine")
    assert ran.returncode == 1, ran.stdout + ran.stderr
    unit = host.units()["neuralEngine"]
    assert (unit["status"], unit["timing"]) == ("rejected", None)
    assert says in unit["reason"]
    assert unit["specialization"]["preferred"] == "Neural Engine"
    assert len(host.predictions) == cases_of(host)


@pytest.mark.parametrize(("behavior", "says"), [("abort", "SIGABRT"), ("short", "11 logits, where 12 are expected")])
def test_a_unit_that_ends_its_process_takes_no_other_with_it(behavior: str, says: str, host: Any) -> None:
    host.unit = {"neuralEngine": behavior}
    ran = host.run("--no-time")
    assert ran.returncode == 4, ran.stdout + ran.stderr
    units = host.units()
    assert {name: unit["status"] for name, unit in units.items()} == {
        **dict.fromkeys(UNITS, "passed"), "neuralEngine": "crashed",
    }  # fmt: skip
    assert says in units["neuralEngine"]["reason"]


def test_what_core_ai_compiles_does_not_come_into_the_kit(host: Any) -> None:
    before = digest(host.folder / "kit" / "data" / "model.aimodel")
    assert host.run("--no-time", "--unit", "default", "--unit", "gpu").returncode == 0
    assert digest(host.folder / "kit" / "data" / "model.aimodel") == before


@pytest.mark.parametrize("name", ["golden/000.bin", "golden/001.logits", "model.aimodel/main.mlirb"])
def test_a_kit_that_was_changed_runs_nothing(name: str, host: Any) -> None:
    path = host.folder / "kit" / "data" / name
    content = bytearray(path.read_bytes())
    content[5] ^= 1
    path.write_bytes(content)
    ran = host.run("--unit", "cpuOnly")
    assert ran.returncode == 1
    unit = host.units()["cpuOnly"]
    assert unit["status"] == "refused"
    assert name.split("/main", maxsplit=1)[0] in unit["reason"]
    assert host.predictions == []


def test_a_mac_without_a_neural_engine_runs_the_other_units(host: Any) -> None:
    host.kinds = ("GPU", "CPU")
    ran = host.run("--no-time")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert list(host.units()) == UNITS[:3]
    assert "this Mac has no Neural Engine" in ran.stdout


def test_a_unit_that_was_asked_for_and_is_not_here_is_told(host: Any) -> None:
    host.kinds = ("CPU",)
    assert host.run("--no-time", "--unit", "gpu").returncode == 3
    assert not host.report.exists()


# ---- this host, with coreai-core as it is ----------------------------------------------------------------------------


def test_off_a_mac_the_cpu_is_checked_in_apples_interpreter_and_nothing_is_timed(linux: Any) -> None:
    ran = linux.run()
    assert ran.returncode == 0, ran.stdout + ran.stderr
    units = linux.units()
    assert list(units) == ["cpuOnly"]
    unit = units["cpuOnly"]
    assert (unit["status"], unit["timing"]) == ("passed", None)
    assert unit["specialization"] == {"runtime": "package", "allowed": ["CPU"], "preferred": None}
    assert ran.stdout.count("needs macOS 27") == 3
    assert json.loads(linux.report.read_text())["tool"]["runtime"].endswith("its interpreter on the CPU")


def test_off_a_mac_no_other_unit_is_run(linux: Any) -> None:
    assert linux.run("--unit", "neuralEngine").returncode == 3
    assert not linux.report.exists()


def test_off_a_mac_wrong_outputs_are_rejected_too(linux: Any) -> None:
    kit = linux.folder / "kit" / "data"
    record = json.loads((kit / "kit.json").read_text())
    shown = next(case for case in record["cases"] if case["logits"])
    logits = np.frombuffer((kit / shown["logits"]).read_bytes(), "<f4") * np.float32(1.1)
    (kit / shown["logits"]).write_bytes(logits.tobytes())
    record["files"][shown["logits"]] = hashlib.sha256(logits.tobytes()).hexdigest()
    (kit / "kit.json").write_text(json.dumps(record))
    assert linux.run().returncode == 1
    assert linux.units()["cpuOnly"]["status"] == "rejected"
