"""A small Core AI export made by hand, its kit, and hosts that run the kit's own script in Apple's own runtime."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.device_kit.kit import write_kit
from runtimes.precision import Precision
from tests.coreai_assets import saved
from tests.export.device_kit.conftest import CLASSES, FP16, SIDE, Device, reference_of, scratch_of, written

KINDS = ("CPU", "GPU", "Neural Engine")
MAKE = Callable[..., Path]
OFF = 1e-5

LINEAR = f"""
  coreai.graph @main(%x: tensor<1x3x{SIDE}x{SIDE}xf32> {{coreai.name = "image"}}) -> (tensor<1x{CLASSES}xf32> \
{{coreai.name = "logits"}}) {{
    %weight = coreai.constant dense_resource<weight> : tensor<{CLASSES}x3x{SIDE}x{SIDE}xf32>
    %one = coreai.constant dense<1> : tensor<2xui32>
    %groups = coreai.constant dense<1> : tensor<ui32>
    %shape = coreai.constant dense<[1, {CLASSES}]> : tensor<2xui32>
    %y = coreai.conv2d %x, %weight, %one, %one, %groups : (tensor<1x3x{SIDE}x{SIDE}xf32>, \
tensor<{CLASSES}x3x{SIDE}x{SIDE}xf32>, tensor<2xui32>, tensor<2xui32>, tensor<ui32>) -> tensor<1x{CLASSES}x1x1xf32>
    %logits = coreai.reshape %y, %shape : (tensor<1x{CLASSES}x1x1xf32>, tensor<2xui32>) -> tensor<1x{CLASSES}xf32>
    coreai.output %logits : tensor<1x{CLASSES}xf32>
  }}
"""
"""Each class's logit is the image times its weights."""


def weights() -> Any:
    """(classes, 3, side, side) float32."""
    drawn = np.random.default_rng(9).standard_normal((CLASSES, 3, SIDE, SIDE)) / SIDE
    return drawn.astype(np.float32)


def answers(images: Any) -> Any:
    """(n, classes). A little off, far below the floor: a single layer's answers would be the reference bit for bit."""
    right = images.reshape(len(images), -1) @ weights().reshape(CLASSES, -1).T.astype(np.float64)
    return right * (1 + OFF)


@pytest.fixture(scope="session")
def asset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`LINEAR`, saved."""
    data = weights().astype("<f4").tobytes().hex().upper()
    return saved(LINEAR, tmp_path_factory.mktemp("asset") / "efficientvit_m0.aimodel", f'weight: "0x10000000{data}"')


@pytest.fixture(scope="session")
def make_coreai(asset: Path) -> MAKE:
    """Writes a Core AI folder as an export leaves it."""

    def made(folder: Path, *, precision: Precision = FP16, **changes: Any) -> Path:
        shipped = folder / "ship" / asset.name
        shutil.copytree(asset, shipped)
        reference = reference_of(precision, images=False, answers=answers)
        coreai: dict[str, Any] = {"labels": None, "ios": 27, "metadata": {}, "neural_engine": None}
        settings = {"compute_units": "default"}
        return written(folder, reference, shipped, settings, "coreai", {"coreai": coreai, **changes})

    return made


@pytest.fixture
def folder(make_coreai: MAKE, tmp_path: Path) -> Path:
    """An asset's export, with its kit."""
    made = make_coreai(tmp_path / "m0-coreai-fp16")
    write_kit(made)
    return made


@dataclass
class CoreAiHost(Device):
    """Runs the kit's script in coreai-core's own runtime; `mac`: with a Mac's options before it, of these `kinds`."""

    mac: bool = True
    kinds: tuple[str, ...] = KINDS

    script = "check_coreai_on_mac.py"
    standin = Path(__file__).parent / "standin"

    def more(self) -> dict[str, Any]:
        return {"mac": self.mac, "kinds": self.kinds}

    def units(self) -> dict[str, Any]:
        """Of the report, by name."""
        return {unit["unit"]: unit for unit in json.loads(self.report.read_text())["units"]}


@pytest.fixture
def host(folder: Path, tmp_path: Path) -> CoreAiHost:
    """A Mac that is none."""
    return CoreAiHost(folder, scratch_of(tmp_path))


@pytest.fixture
def linux(host: CoreAiHost) -> CoreAiHost:
    """This host, as it is."""
    host.mac = False
    return host


@pytest.fixture(scope="session")
def healthy_report(make_coreai: MAKE, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of every unit, not timed. The kit is the same bytes wherever it is made, so it is any such folder's report."""
    base = tmp_path_factory.mktemp("healthy-coreai")
    made = make_coreai(base / "m0-coreai-fp16")
    write_kit(made)
    healthy = CoreAiHost(made, base)
    ran = healthy.run("--no-time")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return healthy.report.read_text()
