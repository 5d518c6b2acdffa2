"""From a real export through the kit's own script into the manifest, in Apple's runtime all the way."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from export.device_kit.attach import attach
from tests.coreai_assets import needs_coreai
from tests.export.device_kit.conftest import scratch_of
from tests.export.device_kit.coreai.conftest import CoreAiHost

pytestmark = needs_coreai

COREAI = "m0-64-coreai-fp16-untrained"


def test_the_kit_finds_what_the_export_found(exported: Any, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(exported.out / COREAI, tmp_path / COREAI))
    host = CoreAiHost(folder, scratch_of(tmp_path), mac=False)
    ran = host.run()
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert int(attach(folder, host.report).code) == 0
    manifest = json.loads((folder / "manifest.json").read_text())
    (entry,) = manifest["devices"]
    assert (entry["unit"], entry["status"], entry["evidence"]) == ("cpuOnly", "passed", "vendor")
    gate = manifest["stages"][-1]["verdict"]["gates"]["precision"]
    found = {kind["kind"]: kind["worst"] for kind in entry["kinds"]}
    for kind in gate["kinds"]:
        assert found[kind["kind"]] == pytest.approx(kind["worst"], rel=1e-3), kind["kind"]


def test_the_report_and_the_command_speak_of_the_kit(exported: Any) -> None:
    assert "The kit (<code>vit-export kit</code>) checks every compute unit" in (
        exported.out / COREAI / "report.html"
    ).read_text(encoding="utf-8")
    assert f"next: out/{COREAI}/kit/README.md says how a device checks and times it" in exported.ran.err
