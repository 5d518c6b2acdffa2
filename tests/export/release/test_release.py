"""A release is made whatever becomes of one artifact, and has one verdict, one record, one page."""

import json
import shutil
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import pytest

from efficientvit.errors import MissingExtra, StageFailed
from export import api
from export.exits import Exit
from export.release.page import render
from export.targets.target import Target
from tests.export.conftest import Command
from tests.export.release.recipes import MIXED, write


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """One that is good, one that is rejected, one that cannot be made."""
    (tmp_path / "broken.pth").write_bytes(b"no checkpoint")
    return write(tmp_path, MIXED)


def test_all_is_made_that_can_be(mixed: Path, command: Command, tmp_path: Path) -> None:
    arguments = ("release", "release.toml", "-o", "out", "--junit", "out.xml", "--summary", "step.md", "--json")
    ran = command(*arguments, XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert ran.code == 1, ran.err
    record = json.loads(ran.out)
    assert [(each["status"], each["exit_code"]) for each in record["artifacts"]] == [
        ("verified", 0),
        ("rejected", 1),
        ("failed", 2),
    ]
    good, rejected, failed = record["artifacts"]
    assert good["folder"] == "m0-64-onnx-fp32-untrained"
    assert rejected["folder"] == "small/m0-64-onnx-fp32-untrained.rejected"
    assert (failed["folder"], failed["error"]["kind"]) == (None, "BadCheckpoint")
    assert "size gate" in rejected["reason"]
    assert json.loads((tmp_path / "out" / "release.json").read_text())["artifacts"] == record["artifacts"]
    assert good["artifact_sha256"] == _manifest(tmp_path / "out" / good["folder"])["stages"][-1]["artifact"]["sha256"]
    assert "1 of 3 artifacts ready" in ran.err
    schema = json.loads(command("schema", "release").out)
    jsonschema.Draft202012Validator(schema).validate(record)

    page = (tmp_path / "out" / "release.html").read_text()
    assert 'href="m0-64-onnx-fp32-untrained/report.html"' in page
    assert (tmp_path / "out" / "small" / "m0-64-onnx-fp32-untrained.rejected" / "report.html").is_file()
    suites = {each.get("name"): each for each in ElementTree.parse(tmp_path / "out.xml").getroot()}
    assert {name: (each.get("failures"), each.get("errors")) for name, each in suites.items()} == {
        "m0-64-onnx-fp32-untrained": ("2", "0"),  # the second of the name: the gate, and the verdict
        "m0-64-onnx-fp32-broken": ("0", "1"),
    }

    step = (tmp_path / "step.md").read_text()
    assert "### vit-export release release.toml: ❌ rejected" in step
    assert "| `m0-64-onnx-fp32-untrained` | verified | native | reference |" in step
    assert "- `m0-64-onnx-fp32-untrained`: size gate" in step

    again = command(*arguments, XDG_CACHE_HOME=str(tmp_path / "cache"))
    found = json.loads(again.out)["artifacts"]
    assert [each["checked_before"] for each in found] == [True, False, False]
    assert found[0]["manifest_sha256"] == good["manifest_sha256"]


def _manifest(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    return found


def test_a_dry_run_makes_nothing(mixed: Path, command: Command, tmp_path: Path) -> None:
    ran = command("release", "release.toml", "--dry-run", "--json")
    assert ran.code == 0, ran.err
    plan = json.loads(ran.out)
    assert [each["name"] for each in plan["artifacts"]] == [
        "m0-64-onnx-fp32-untrained",
        "m0-64-onnx-fp32-untrained",
        "m0-64-onnx-fp32-broken",
    ]
    assert plan["artifacts"][1]["folder"] == "releases/demo-1.0/small/m0-64-onnx-fp32-untrained"
    assert {each["evidence"] for each in plan["artifacts"]} == {"native"}
    assert not (tmp_path / "releases").exists()


def test_a_dry_run_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "coremltools" else object())
    text = '[models]\nm0 = "seeded"\n[matrix]\ntarget = ["onnx", "coreml"]\n[options]\nrequire = "reference"\n'
    plan = api.plan(write(tmp_path, text))
    onnx, coreml = plan.artifacts
    assert (onnx.missing, onnx.exit_code) == (None, Exit.OK)
    assert (coreml.evidence, coreml.exit_code) == (None, Exit.NOT_VERIFIED)
    assert "pip install" in str(coreml.missing)
    assert plan.exit_code is Exit.NOT_VERIFIED
    assert ">1 OF 2 CAN BE READY HERE</strong>" in plan._repr_html_()


def test_evidence_that_this_host_cannot_give_is_missing(tmp_path: Path) -> None:
    text = '[models]\nm0 = "seeded"\n[matrix]\ntarget = ["coreml"]\n[options]\nrequire = "native"\n'
    (each,) = api.plan(write(tmp_path, text)).artifacts
    assert each.missing is None or "Mac" in each.missing
    assert (each.missing is None) == (shutil.which("sw_vers") is not None)


def test_what_is_not_installed_keeps_nothing_else_from_being_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require = Target.require_installed

    def missing(self: Target) -> None:
        if self.name == "openvino":
            raise MissingExtra("openvino", "openvino", "making IRs")
        require(self)

    monkeypatch.setattr(Target, "require_installed", missing)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    text = """
        [options]
        image-size = 64
        no-time = true
        no-kit = true
        [models]
        m0 = "seeded"
        [matrix]
        target = ["openvino", "onnx"]
        """
    told: list[str] = []
    found = api.release(write(tmp_path, text), out=tmp_path / "out", finished=lambda each: told.append(each.name))
    assert [(each.status, each.exit_code) for each in found.artifacts] == [
        ("failed", Exit.NOT_VERIFIED),
        ("verified", Exit.OK),
    ]
    assert found.exit_code is Exit.NOT_VERIFIED
    assert told == ["m0-64-openvino-fp32-untrained", "m0-64-onnx-fp32-untrained"]
    assert "needs the package &#39;openvino&#39;" in render(found)
    assert ">1 OF 2 ARTIFACTS READY</strong>" in found._repr_html_()


def test_a_worker_that_dies_leaves_what_was_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def dies(*_: Any, **__: Any) -> Any:
        raise StageFailed("a worker process died", next_step="try again with --jobs 1")

    monkeypatch.setattr("export.pipeline.tasks.export_tasks", dies)
    found = api.release(write(tmp_path, '[models]\nm0 = "seeded"\n'), out=tmp_path / "out")
    assert found.exit_code is Exit.FAILED
    assert "a worker process died" in (tmp_path / "out" / "release.html").read_text()


def test_names_on_the_page_are_escaped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def dies(*_: Any, **__: Any) -> Any:
        raise StageFailed("<script>alert(1)</script>")

    monkeypatch.setattr("export.pipeline.tasks.export_tasks", dies)
    found = api.release(write(tmp_path, '[models]\nm0 = "seeded"\n'), out=tmp_path / "<b>")
    for page in (render(found), found._repr_html_()):
        assert "<script" not in page
        assert "<b>/" not in page


def test_a_bad_recipe_is_bad_usage(command: Command, tmp_path: Path) -> None:
    write(tmp_path, "[modles]\n")
    for more in ([], ["--dry-run"]):
        ran = command("release", "release.toml", *more)
        assert ran.code == 2
        assert "line 3 (modles): unknown key 'modles'" in ran.err
        assert "got:      [modles]" in ran.err
    assert not (tmp_path / "releases").exists()
