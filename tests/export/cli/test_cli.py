"""The command line's surface: help, tables, completion, and the default command."""

import json
from typing import Any

import pytest

from efficientvit.errors import BadOption
from efficientvit.size import ImageSize
from export import __version__
from export.request.request import Request, parse_batch, slug
from export.targets.registry import TARGETS
from export.targets.target import Job
from tests.coreai_assets import needs_coreai


@pytest.mark.parametrize("name", ["export", "verify", "models", "doctor", "completion"])
def test_every_command_explains_itself(name: str, command: Any) -> None:
    ran = command(name, "--help")
    assert ran.code == 0
    assert "Usage: vit-export" in ran.out


def test_the_version_is_said_where_nothing_is_installed(command: Any) -> None:
    ran = command("--version")
    assert (ran.code, ran.out) == (0, f"vit-export, version {__version__}\n")


def test_the_family_is_listed(command: Any) -> None:
    assert "12,473,772" in command("models").out
    assert [spec["name"] for spec in json.loads(command("models", "--json").out)] == [f"m{i}" for i in range(6)]


def test_the_doctor_says_what_this_host_can_do(command: Any) -> None:
    found = {ability["target"]: ability for ability in json.loads(command("doctor", "--json").out)["targets"]}
    assert found["onnx"]["can_make"] is True
    assert found["onnx"]["can_time"] is True
    assert "target" in command("doctor").err


@pytest.mark.parametrize("given", [("m0", "-o", ""), ("verify", ""), ("m0", "--golden", ""), ("release", "")])
def test_a_variable_that_is_not_set_names_no_folder(given: tuple[str, ...], command: Any) -> None:
    ran = command(*given)
    assert ran.code == 2
    assert "an empty path: is a variable not set?" in ran.err


@pytest.mark.parametrize("name", ["--calibrate", "--labels", "-w", "--cluster", "--head"])
def test_nor_anything_else(name: str, command: Any) -> None:
    ran = command("m0", "-p", "int8", name, "")
    assert ran.code == 2
    assert "an empty value: is a variable not set?" in ran.err


def test_tab_completes_models_targets_and_commands(command: Any) -> None:
    def completed(words: str, at: int) -> list[str]:
        environment = {"_VIT_EXPORT_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(at)}
        return [line.split(",")[-1] for line in command(**environment).out.splitlines()]

    assert {"m0", "m5", "all", "verify", "doctor"} <= set(completed("vit-export ", 1))
    assert completed("vit-export m0 -t op", 3) == ["openvino"]
    assert "complete" in command("completion", "bash").out


def test_slugs_name_every_option_that_changes_the_file() -> None:
    def named(model: str, target: str, precision: str, batch: int | None, opset: int, size: str, weights: str) -> str:
        return slug(Job(model, TARGETS[target], precision, batch, opset), ImageSize.parse(size), weights)

    assert named("m2", "onnx", "fp32", 1, 18, "224", "") == "m2-onnx-fp32"
    assert named("m2", "openvino", "fp16", 8, 18, "384", "") == "m2-384-b8-openvino-fp16"
    assert named("m0", "onnx", "fp32", None, 20, "224", "untrained") == "m0-dynamic-opset20-onnx-fp32-untrained"
    assert named("m0", "onnx", "fp32", 1, 18, "224", "seed3-untrained") == "m0-onnx-fp32-seed3-untrained"
    assert named("m2", "onnx", "fp32", 1, 18, "480x640", "") == "m2-480x640-onnx-fp32"
    assert named("m0", "onnx", "fp32", 1, 18, "224", "my best/run") == "m0-onnx-fp32-my_best_run"


@needs_coreai
def test_all_means_all_and_nothing_twice() -> None:
    jobs = Request(("all", "m0", "M0"), ("all", "onnx")).jobs()
    assert len(jobs) == 6 * len(TARGETS)


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "many", "", "99999"])
def test_a_batch_is_a_number_or_dynamic(text: str) -> None:
    with pytest.raises(BadOption, match="cannot be used"):
        parse_batch(text)


def test_a_batch_that_is_one() -> None:
    assert (parse_batch("16"), parse_batch("dynamic")) == (16, None)
