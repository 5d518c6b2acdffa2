"""action.yml: of its schema, and its steps in a shell as a runner has them."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.command_line import ROOT, SEARCHED

ACTION = ROOT / "action.yml"
INSTALL, RUN = yaml.safe_load(ACTION.read_text(encoding="utf-8"))["runs"]["steps"]


class Runner:
    """What GitHub gives a step: files for its outputs and its summary, inputs as environment variables."""

    def __init__(self, folder: Path) -> None:
        self.output, self.summary, self.folder = folder / "output", folder / "summary.md", folder
        self.output.touch()
        self.summary.write_text("before\n")

    def step(self, step: dict[str, Any], **inputs: str) -> subprocess.CompletedProcess[str]:
        """`shell: bash` is bash --noprofile --norc -eo pipefail."""
        given = {name: inputs[name] for name in step["env"]}
        script = self.folder / "script.sh"
        script.write_text(step["run"])
        environment = {
            **os.environ, **given, "PYTHONPATH": SEARCHED, "GITHUB_OUTPUT": str(self.output),
            "GITHUB_STEP_SUMMARY": str(self.summary), "GITHUB_ENV": str(self.folder / "env"),
            "RUNNER_TEMP": str(self.folder),
        }  # fmt: skip
        command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)]
        return subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)

    def outputs(self) -> dict[str, str]:
        return dict(line.split("=", 1) for line in self.output.read_text().splitlines())


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    return Runner(tmp_path)


def run(runner: Runner, command: str, arguments: str) -> subprocess.CompletedProcess[str]:
    return runner.step(RUN, PYTHON=sys.executable, COMMAND=command, ARGUMENTS=arguments)


def test_it_is_of_the_schema_of_actions(tmp_path: Path) -> None:
    def linted(path: Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-actions", str(path)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert linted(ACTION).returncode == 0, linted(ACTION).stdout
    broken = tmp_path / "action.yml"
    broken.write_text(ACTION.read_text().replace("shell: bash", "shel: bash"))
    assert linted(broken).returncode != 0


def test_no_input_is_pasted_into_a_script() -> None:
    """It would be run as code; environment variables are not."""
    assert [step for step in (INSTALL, RUN) if "${{" in step["run"]] == []


def test_every_input_and_output_is_documented_and_used() -> None:
    action = yaml.safe_load(ACTION.read_text(encoding="utf-8"))
    text = ACTION.read_text(encoding="utf-8")
    assert [name for name, each in action["inputs"].items() if not each["description"]] == []
    assert [name for name in action["inputs"] if f"inputs.{name}" not in text] == []
    assert [name for name in action["outputs"] if f"{name}=" not in RUN["run"]] == []


def test_it_installs_this_version_with_the_extras_and_the_pins(runner: Runner, tmp_path: Path) -> None:
    said = tmp_path / "python"
    said.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    said.chmod(0o755)
    ran = runner.step(INSTALL, PYTHON=str(said), EXTRAS="openvino,release", ACTION="/a b")
    assert ran.stdout.splitlines()[-3:] == ["-c", "/a b/constraints.txt", "/a b[openvino,release]"]
    assert runner.step(INSTALL, PYTHON=str(said), EXTRAS="", ACTION="/a").stdout.splitlines()[-1] == "/a"


def test_what_passes_is_summed_up(exported: Any, runner: Runner) -> None:
    shutil.copytree(exported.out / "m0-64-onnx-fp32-untrained", runner.folder / "my exports" / "m0")
    ran = run(runner, "verify", "'my exports/m0' --require native")
    assert ran.returncode == 0, ran.stderr
    outputs = runner.outputs()
    assert outputs["exit-code"] == "0"
    assert json.loads(Path(outputs["result"]).read_text())["status"] == "verified"
    summary = runner.summary.read_text()
    assert summary.startswith("before\n")
    assert "### vit-export verify m0: ✅ passed" in summary
    assert "| precision | passed |" in summary


def test_what_fails_fails_the_step_and_says_why(runner: Runner) -> None:
    ran = run(runner, "verify", "nowhere")
    assert ran.returncode == 2
    assert "::error title=vit-export::verify exited with code 2" in ran.stdout
    assert runner.outputs() == {"exit-code": "2"}
    assert "nowhere is not a folder that an export made" in runner.summary.read_text()


@pytest.mark.parametrize(("command", "arguments"), [("selftest", "m0"), ("export", "'m0"), ("export; id", "m0")])
def test_what_cannot_be_run_is_refused(command: str, arguments: str, runner: Runner) -> None:
    ran = run(runner, command, arguments)
    assert ran.returncode == 2
    assert "::error title=vit-export::" in ran.stdout
    assert runner.outputs() == {"exit-code": "2"}


def test_nothing_in_the_arguments_is_expanded(runner: Runner) -> None:
    ran = run(runner, "verify", '"$(touch run)" `touch run` *')
    assert ran.returncode == 2
    assert not (runner.folder / "run").exists()
