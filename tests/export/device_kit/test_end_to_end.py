"""From a real export to the manifest: the kit's own script on stand-ins that answer what a real evaluator computed.

What an engine or a package would answer on a device is not in it, and nothing of it is a device's word: the evaluators
read the shipped files, the parser and the builder are TensorRT's own, and what runs an engine is a stand-in.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from export.device_kit.attach import attach
from export.folder.exported import Exported, open_exported
from runtimes.coreml.evaluated import MilEvaluator
from runtimes.runtime import Mode
from runtimes.tensorrt.evaluated import TrtNetwork
from tests.device_reports import edit
from validation.metrics import relative_error, root_mean_square

COREML, FP16 = "m0-64-coreml-fp16-untrained", "m0-64-tensorrt-fp16-untrained"
INT8 = "m0-64-tensorrt-int8-sm89-untrained"


def _copied(exported: Any, slug: str, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported.out / slug, tmp_path / slug))


def _by_the_network(exported: Exported) -> Any:
    """(n, classes) of the parsed network, every tensor rounded to its type."""
    with TrtNetwork().open(exported.artifact, Mode.SHIPPED) as session:
        return np.concatenate([session(image[None])["logits"] for image in exported.reference.golden.images])


def _devices(folder: Path) -> dict[str, Any]:
    devices = json.loads((folder / "manifest.json").read_text())["devices"]
    return {entry["unit"]: entry for entry in devices}


def _worst(exported: Exported, logits: Any, entry: dict[str, Any]) -> None:
    """What the manifest says of each kind is what comes of the evaluator's logits."""
    reference = exported.reference
    error = relative_error(logits.astype(np.float64), reference.classifier.executed)
    for kind in entry["kinds"]:
        row = reference.golden.names.index(kind["worst_image"])
        assert kind["worst"] == pytest.approx(error[row], rel=1e-6)
        assert kind["worst"] <= kind["budget"]


def test_a_core_ml_package_goes_from_the_export_through_the_kit_into_the_manifest(
    exported: Any, tmp_path: Path, device: Any, command: Any
) -> None:
    device.folder, device.noise = _copied(exported, COREML, tmp_path), 0.0
    package = open_exported(device.folder)
    reference = package.reference
    logits = np.full(reference.logits.shape, np.nan)
    with MilEvaluator().open(package.artifact, Mode.SHIPPED) as session:
        for row, member in enumerate(reference.golden.members):
            if member.has_pixels:
                logits[row] = session(member.data[None])["logits"][0]
    device.logits = logits
    ran = device.run("--no-time")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert int(attach(device.folder, device.report).code) == 0
    devices = _devices(device.folder)
    assert {entry["status"] for entry in devices.values()} == {"passed"}
    assert len(devices) == 4
    _worst(package, logits, devices["CPU_AND_NE"])
    _native_until_a_unit_fails(device, command, tmp_path)


def _native_until_a_unit_fails(device: Any, command: Any, tmp_path: Path) -> None:
    """What `verify` says on a host that has no Core ML."""
    junit = tmp_path / "verify.xml"
    ran = command("verify", str(device.folder), "--require", "native", "--junit", str(junit), "--json")
    assert ran.code == 0, ran.err
    found = json.loads(ran.out)
    assert (found["status"], found["evidence"], len(found["devices"])) == ("verified", "native", 4)
    edit(device.report, _crashed)
    attach(device.folder, device.report)
    ran = command("verify", str(device.folder), "--junit", str(junit), "--json")
    assert ran.code == 1
    assert json.loads(ran.out)["status"] == "rejected"
    assert ": rejected" in ran.err
    assert "EXC_BAD_ACCESS" in ran.err
    assert "EXC_BAD_ACCESS" in junit.read_text()


def _crashed(report: dict[str, Any]) -> None:
    report["units"][1].update(status="crashed", reason="EXC_BAD_ACCESS", cases=[], jpeg=None, compute_plan=None)


def test_an_engine_goes_from_the_export_through_the_kit_into_the_manifest(
    exported: Any, tmp_path: Path, gpu_host: Any
) -> None:
    gpu_host.folder, gpu_host.noise, gpu_host.real = _copied(exported, FP16, tmp_path), 0.0, True
    engine = open_exported(gpu_host.folder)
    gpu_host.logits = logits = _by_the_network(engine)
    ran = gpu_host.run("--no-time")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert int(attach(gpu_host.folder, gpu_host.report).code) == 0
    devices = _devices(gpu_host.folder)
    assert {unit: entry["engine"]["origin"] for unit, entry in devices.items()} == {
        "RTX": "shipped", "ENTERPRISE": "rebuilt",
    }  # fmt: skip
    rebuilt = (gpu_host.folder / "kit" / "rebuilt-ENTERPRISE.engine").read_bytes()
    assert len(rebuilt) > 1 << 20, "TensorRT's own builder made it"
    for entry in devices.values():
        _worst(engine, logits, entry)


def test_a_network_that_lost_a_bias_does_not_pass_the_kits_budgets(
    exported: Any, tmp_path: Path, gpu_host: Any
) -> None:
    gpu_host.folder, gpu_host.noise = _copied(exported, FP16, tmp_path), 0.0
    engine = open_exported(gpu_host.folder)
    path = engine.artifact.path.with_suffix(".onnx")
    intact = path.read_bytes()
    model = onnx.load(path)
    (bias,) = [tensor for tensor in model.graph.initializer if tensor.name == "head.linear.bias"]
    bias.CopyFrom(onnx.numpy_helper.from_array(np.zeros_like(onnx.numpy_helper.to_array(bias)), bias.name))
    onnx.save(model, path)
    gpu_host.logits = _by_the_network(engine)
    path.write_bytes(intact)
    assert gpu_host.run("--unit", "RTX").returncode == 1
    assert int(attach(gpu_host.folder, gpu_host.report).code) == 1
    entry = _devices(gpu_host.folder)["RTX"]
    assert (entry["status"], entry["timing"]["measured"]) == ("rejected", False)


def test_an_int8_engine_goes_the_same_way_and_is_held_to_the_quality_budget(
    exported_int8: Any, tmp_path: Path, gpu_host: Any
) -> None:
    gpu_host.folder, gpu_host.noise = _copied(exported_int8, INT8, tmp_path), 0.0
    engine = open_exported(gpu_host.folder)
    gpu_host.logits = logits = _by_the_network(engine)
    ran = gpu_host.run("--no-time", "--unit", "RTX")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert int(attach(gpu_host.folder, gpu_host.report).code) == 0
    entry = _devices(gpu_host.folder)["RTX"]
    names = engine.reference.golden.names
    rows = [names.index(case["name"]) for case in json.loads(gpu_host.report.read_text())["units"][0]["cases"]]
    pooled = root_mean_square(relative_error(logits[rows].astype(np.float64), engine.reference.logits[rows]))
    assert entry["quality"]["error"] == pytest.approx(pooled, rel=1e-6)
    assert entry["quality"]["budget"] == engine.reference.classifier.quality_budget
