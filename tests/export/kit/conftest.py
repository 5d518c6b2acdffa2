"""A small export made by hand, its kit, and a device that runs the kit's own script on the stand-in for coremltools."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from efficientvit.preprocess import Preprocessing
from export.kit import write_kit
from export.manifest import write_json
from runtimes.artifact import Dtype, Precision, digest
from validation import reference_file
from validation.golden import Kind
from validation.golden_synthetic import synthetic
from validation.reference import Reference

STANDIN = Path(__file__).parent / "standin"
SIDE, CLASSES, FLOOR = 64, 12, 1e-3
FP16 = Precision(Dtype.FP16, Dtype.FP16, Dtype.FP16)


def make_export(folder: Path, *, images: bool = True, precision: Precision = FP16, **changes: Any) -> Path:
    """A folder as an export leaves it; `changes` go into the manifest."""
    golden = synthetic(Preprocessing(image_size=SIDE))
    stream = np.random.default_rng(7)
    logits = stream.standard_normal((len(golden), CLASSES))
    judged = np.ones(len(golden), dtype=bool)
    judged[golden.names.index("flat-black")] = False
    reference = Reference(
        golden=golden,
        precision=precision,
        logits=logits,
        structure=logits,
        judged=judged,
        floors=dict.fromkeys(Kind, FLOOR),
        structure_floors=dict.fromkeys(Kind, 1e-6),
        constants={},
        image_input=images,
    )
    package = folder / "ship" / "efficientvit_m0.mlpackage"
    (package / "Data" / "weights").mkdir(parents=True)
    (package / "Manifest.json").write_text("{}\n")
    (package / "Data" / "weights" / "weight.bin").write_bytes(stream.bytes(1000))
    (folder / "evidence").mkdir()
    reference_file.save(reference, folder / "evidence")
    settings = package.with_name("runtime-settings.json")
    write_json(settings, {"compute_units": "ALL"})
    write_json(
        folder / "manifest.json",
        {
            "schema": 1,
            "vit_export": "0.0.test",
            "status": "not_run",
            "model": {
                "name": "m0",
                "image_size": SIDE,
                "classes": CLASSES,
                "batch": 1,
                "inputs": [{"name": "image"}],
                "outputs": [{"name": "logits"}],
            },
            "golden": {"sha256": golden.sha256},
            "reference": {
                "path": "evidence/reference.safetensors",
                "sha256": digest(folder / "evidence" / "reference.safetensors"),
            },
            "precision": {
                "weights": precision.weights,
                "activations": precision.activations,
                "execution": precision.execution,
            },
            "settings": {"shipped": {"path": "ship/runtime-settings.json", "sha256": digest(settings)}},
            "stages": [
                {
                    "name": "coreml",
                    "artifact": {"format": "coreml", "sha256": digest(package), "source_sha256": None},
                }
            ],
            "artifact": "ship/efficientvit_m0.mlpackage",
            "coreml": {
                "input": "image" if images else "tensor",
                "labels": None,
                "metadata": {},
                "neural_engine": None,
            },
            "devices": [],
            **changes,
        },
    )
    return folder


@pytest.fixture
def make() -> Callable[..., Path]:
    return make_export


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An export that takes images, with its kit."""
    made = make_export(tmp_path / "m0-coreml-fp16")
    write_kit(made)
    return made


@dataclass
class Device:
    """A Mac that is none: runs a kit's script with the stand-in, in the way that `unit` and `noise` say."""

    folder: Path
    scratch: Path
    noise: float = FLOOR
    unit: dict[str, str] = field(default_factory=dict)

    @property
    def report(self) -> Path:
        return self.folder / "kit" / "device-report.json"

    @property
    def predictions(self) -> list[str]:
        """The compute unit of every prediction so far."""
        return (self.scratch / "log").read_text().split()

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        data = self.folder / "kit" / "data"
        cases = json.loads((data / "kit.json").read_text())["cases"]
        reference = reference_file.load(self.folder / "evidence")
        rows = [reference.golden.names.index(case["name"]) for case in cases]
        digests = [hashlib.sha256((data / case["input"]).read_bytes()).hexdigest() for case in cases]
        np.savez(self.scratch / "table.npz", digests=np.array(digests), logits=reference.logits[rows])
        plan = {
            "noise": self.noise,
            "unit": self.unit,
            "wrong": digests[0],
            "log": str(self.scratch / "log"),
            "table": str(self.scratch / "table.npz"),
        }
        (self.scratch / "log").touch()
        (self.scratch / "plan.json").write_text(json.dumps(plan))
        return subprocess.run(
            [sys.executable, str(self.folder / "kit" / "check_on_mac.py"), *arguments],
            env={**os.environ, "PYTHONPATH": str(STANDIN), "STANDIN": str(self.scratch / "plan.json")},
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip


@pytest.fixture
def device(folder: Path, tmp_path: Path) -> Device:
    scratch = tmp_path / "device"
    scratch.mkdir()
    return Device(folder, scratch)


@pytest.fixture(scope="session")
def healthy_report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of every unit, not timed. The kit is the same bytes wherever it is made, so it is any such folder's report."""
    base = tmp_path_factory.mktemp("healthy")
    made = make_export(base / "m0-coreml-fp16")
    write_kit(made)
    healthy = Device(made, base)
    assert healthy.run("--no-time").returncode == 0
    return healthy.report.read_text()
