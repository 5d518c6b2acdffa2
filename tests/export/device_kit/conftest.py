"""Small exports made by hand, their kits, and devices that run the kits' own scripts on stand-ins."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from efficientvit.images.preprocessing import Preprocessing
from efficientvit.size import square
from export.device_kit.kit import write_kit
from export.folder.layout import write_json
from runtimes.artifact import digest
from runtimes.precision import Dtype, Precision
from tests.manifests import changed, manifest, port
from tests.manifests import stage as stage_record
from tests.timed_briefly import kits_time_briefly
from validation.inputs.golden_set import Kind
from validation.inputs.synthetic import synthetic
from validation.reference import file
from validation.reference.reference import Expected, Reference

HERE = Path(__file__).parent
SIDE, CLASSES, FLOOR = 64, 12, 1e-3
FP16 = Precision(Dtype.FP16, Dtype.FP16, Dtype.FP16)
INT8 = Precision(Dtype.INT8, Dtype.INT8, Dtype.INT8)
BUILT_WITH = {"product": "tensorrt-rtx", "version": "0.test", "sm": "89", "tf32": "off"}


def reference_of(
    precision: Precision,
    *,
    images: bool,
    quality_budget: float | None = None,
    answers: Callable[[Any], Any] | None = None,
) -> Reference:
    """`answers`: of the golden images, (n, classes); drawn by lot where it is None."""
    golden = synthetic(Preprocessing(image_size=square(SIDE)))
    drawn = np.random.default_rng(7).standard_normal((len(golden), CLASSES))
    logits = drawn if answers is None else answers(golden.images)
    judged = np.ones(len(golden), dtype=bool)
    judged[golden.names.index("flat-black")] = False
    expected = Expected(
        precision=precision,
        right=logits,
        structure=logits,
        floors=dict.fromkeys(Kind, FLOOR),
        structure_floors=dict.fromkeys(Kind, 1e-6),
        quality_budget=quality_budget,
    )
    return Reference(
        golden=golden,
        precision=precision,
        outputs={"logits": expected},
        judged=judged,
        constants={},
        image_input=images,
    )


def written(
    folder: Path, reference: Reference, artifact: Path, settings: dict[str, Any], stage: str, changes: dict[str, Any]
) -> Path:
    """The evidence and the manifest around an artifact that lies in `folder/ship`; `changes` go into the manifest."""
    (folder / "evidence").mkdir()
    file.save(reference, folder / "evidence")
    shipped = artifact.with_name("runtime-settings.json")
    write_json(shipped, settings)
    precision = reference.precision
    record = manifest(
        SIDE,
        CLASSES,
        precision,
        golden={
            "sha256": reference.golden.sha256,
            "images": len(reference.golden),
            "kinds": {},
            "not_judged": [],
            "skipped": [],
            "path": "evidence/golden.safetensors",
        },
        reference={
            "path": "evidence/reference.safetensors",
            "sha256": digest(folder / "evidence" / "reference.safetensors"),
        },
        settings={
            "shipped": {"path": "ship/runtime-settings.json", "sha256": digest(shipped)},
            "effective": None,
            "defaults": None,
        },
        stages=[stage_record(stage, {"format": stage, "sha256": digest(artifact)}, precision)],
        artifact=f"ship/{artifact.name}",
    )
    write_json(folder / "manifest.json", changed(record, changes))
    return folder


def make_export(folder: Path, *, images: bool = True, precision: Precision = FP16, **changes: Any) -> Path:
    """A Core ML folder as an export leaves it."""
    package = folder / "ship" / "efficientvit_m0.mlpackage"
    (package / "Data" / "weights").mkdir(parents=True)
    (package / "Manifest.json").write_text("{}\n")
    (package / "Data" / "weights" / "weight.bin").write_bytes(np.random.default_rng(8).bytes(1000))
    coreml: dict[str, Any] = {
        "input": "image" if images else "tensor",
        "labels": None,
        "ios": 16,
        "metadata": {},
        "neural_engine": None,
    }
    reference = reference_of(precision, images=images)
    return written(folder, reference, package, {"compute_units": "ALL"}, "coreml", {"coreml": coreml, **changes})


def make_engine(
    folder: Path,
    *,
    batch: int | None = 1,
    precision: Precision = FP16,
    quality_budget: float | None = None,
    product: str = "tensorrt-rtx",
    **changes: Any,
) -> Path:
    """A TensorRT folder as an export leaves it; `batch` None: a dynamic one, with the profile 1 4 16."""
    engine = folder / "ship" / "efficientvit_m0.engine"
    engine.parent.mkdir(parents=True)
    engine.write_bytes(b"an engine of " + product.encode())
    engine.with_suffix(".onnx").write_bytes(b"a typed ONNX file")
    model = {
        "name": "m0",
        "image_size": SIDE,
        "classes": CLASSES,
        "batch": "dynamic" if batch is None else batch,
        "inputs": [port("image", batch or "batch", 3, SIDE, SIDE)],
        "outputs": [port("logits", batch or "batch", CLASSES)],
    }
    built_with = {**BUILT_WITH, "product": product}
    tensorrt = {"sm": [89], "profile": [1, 4, 16], "built_with": built_with}
    reference = reference_of(precision, images=False, quality_budget=quality_budget)
    changes = {"model": model, "tensorrt": tensorrt, **changes}
    return written(folder, reference, engine, built_with, "tensorrt", changes)


@pytest.fixture
def brief() -> Iterator[None]:
    """The kits of this test time briefly."""
    with kits_time_briefly():
        yield


@pytest.fixture
def make() -> Callable[..., Path]:
    return make_export


@pytest.fixture
def make_gpu() -> Callable[..., Path]:
    return make_engine


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An export that takes images, with its kit."""
    made = make_export(tmp_path / "m0-coreml-fp16")
    write_kit(made)
    return made


@pytest.fixture
def engine_folder(tmp_path: Path) -> Path:
    """An engine of batch 1, with its kit."""
    made = make_engine(tmp_path / "m0-tensorrt-fp16")
    write_kit(made)
    return made


@dataclass
class Device:
    """A Mac that is none: runs a kit's script with the stand-in, in the way that `unit` and `noise` say.

    `wrong`: the case, by its place in the kit, that a behavior may single out. `logits`: what the artifact answers to
    each golden image, in order; the reference's where it is None.
    """

    folder: Path
    scratch: Path
    noise: float = FLOOR
    unit: dict[str, str] = field(default_factory=dict)
    wrong: int = 0
    logits: Any = None

    script = "check_on_mac.py"
    standin = HERE / "standin"

    @property
    def report(self) -> Path:
        return self.folder / "kit" / "device-report.json"

    @property
    def predictions(self) -> list[str]:
        """The compute unit of every prediction so far."""
        return (self.scratch / "log").read_text().split()

    def more(self) -> dict[str, Any]:
        """What else the stand-in is told."""
        return {}

    def programs(self) -> Path:
        """A folder with stand-ins for the system's programs."""
        folder = self.scratch / "bin"
        folder.mkdir(exist_ok=True)
        return folder

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        data = self.folder / "kit" / "data"
        cases = json.loads((data / "kit.json").read_text())["cases"]
        reference = file.load(self.folder / "evidence")
        rows = [reference.golden.names.index(case["name"].split(" in a batch")[0]) for case in cases]
        digests = [hashlib.sha256((data / case["input"]).read_bytes()).hexdigest() for case in cases]
        logits = reference.logits if self.logits is None else self.logits
        np.savez(self.scratch / "table.npz", digests=np.array(digests), logits=logits[rows])
        plan = {
            "noise": self.noise,
            "unit": self.unit,
            "wrong": digests[self.wrong],
            "log": str(self.scratch / "log"),
            "table": str(self.scratch / "table.npz"),
            **self.more(),
        }
        (self.scratch / "log").touch()
        (self.scratch / "plan.json").write_text(json.dumps(plan))
        environment = {
            "PYTHONPATH": str(self.standin),
            "STANDIN": str(self.scratch / "plan.json"),
            "PATH": f"{self.programs()}{os.pathsep}{os.environ['PATH']}",
        }
        return subprocess.run(
            [sys.executable, str(self.folder / "kit" / self.script), *arguments],
            env={**os.environ, **environment},
            capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip


@dataclass
class GpuHost(Device):
    """A GPU host that is none. The fields are those of the plan, standin_gpu/fake_gpu.py."""

    batches: tuple[int, ...] = (1,)
    gpus: int = 1
    graph: str | None = None
    missing: tuple[str, ...] = ()
    real: bool = False

    script = "check_on_gpu.py"
    standin = HERE / "standin_gpu"

    @property
    def launches(self) -> list[tuple[str, int]]:
        """Unit and batch of every run so far."""
        lines = (self.scratch / "log").read_text().splitlines()
        return [(unit, int(batch)) for unit, batch in (line.split() for line in lines)]

    def more(self) -> dict[str, Any]:
        engine = (self.folder / "kit" / "data" / "model.engine").read_bytes()
        fields = {name: getattr(self, name) for name in ("batches", "gpus", "graph", "missing", "real")}
        return {**fields, "shipped": hashlib.sha256(engine).hexdigest()}


def scratch_of(tmp_path: Path) -> Path:
    scratch = tmp_path / "device"
    scratch.mkdir()
    return scratch


@pytest.fixture
def device(folder: Path, tmp_path: Path) -> Device:
    return Device(folder, scratch_of(tmp_path))


@pytest.fixture
def gpu_host(engine_folder: Path, tmp_path: Path) -> GpuHost:
    return GpuHost(engine_folder, scratch_of(tmp_path))


@pytest.fixture(scope="session")
def healthy_report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of every unit, not timed. The kit is the same bytes wherever it is made, so it is any such folder's report."""
    base = tmp_path_factory.mktemp("healthy")
    made = make_export(base / "m0-coreml-fp16")
    write_kit(made)
    healthy = Device(made, base)
    assert healthy.run("--no-time").returncode == 0
    return healthy.report.read_text()


@pytest.fixture(scope="session")
def healthy_gpu_report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The same of an engine: RTX's shipped, ENTERPRISE's rebuilt."""
    base = tmp_path_factory.mktemp("healthy-gpu")
    made = make_engine(base / "m0-tensorrt-fp16")
    write_kit(made)
    healthy = GpuHost(made, base)
    ran = healthy.run("--no-time")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return healthy.report.read_text()
