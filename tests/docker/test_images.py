"""The two images as their Dockerfiles describe them: what they start from, take in, install and leave behind."""

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

from docker.rehearse import ROOT, Stage, context, copy, operands, read

DOCKERFILES = sorted((ROOT / "docker").glob("*.Dockerfile"))
each_image = pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=[path.stem for path in DOCKERFILES])


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def runs(stage: Stage) -> list[str]:
    """The commands of a stage, one shell command each."""
    texts = [step.value for step in stage.steps if step.instruction == "RUN"]
    return [command.strip() for text in texts for command in text.split("&&")]


def copied(stage: Stage) -> list[str]:
    """What a stage takes from the build context."""
    operated = [operands(step) for step in stage.steps if step.instruction == "COPY"]
    return [name for origin, names, _ in operated if origin is None for name in names]


def test_there_is_an_image_for_each_kind_of_host() -> None:
    assert [path.stem for path in DOCKERFILES] == ["cpu", "tensorrt"]


@each_image
def test_the_base_is_pinned_by_version_and_both_stages_have_the_same(dockerfile: Path) -> None:
    build, image = read(dockerfile)
    assert re.fullmatch(r"[a-z0-9./-]+:\d+\.\d+[\w.-]*(@sha256:[0-9a-f]{64})?", build.image)
    assert image.image == build.image, "the environment links to the interpreter of the base it was made on"
    assert image.labels["org.opencontainers.image.base.name"] == image.image


@each_image
def test_another_base_can_be_asked_for(dockerfile: Path) -> None:
    (argument,) = re.findall(r"^FROM \$\{(\w+)\}$", dockerfile.read_text(encoding="utf-8"), re.MULTILINE)
    assert {stage.image for stage in read(dockerfile, {argument: "mirror/base:1.0"})} == {"mirror/base:1.0"}


@each_image
def test_the_image_does_not_run_as_root(dockerfile: Path) -> None:
    *_, image = read(dockerfile)
    uid, gid = map(int, image.user.split(":"))
    assert uid > 0
    assert gid > 0
    assert any(command.startswith(f"useradd --uid {uid} ") for command in runs(image))


@each_image
def test_the_context_carries_what_is_copied_and_nothing_else(dockerfile: Path) -> None:
    assert {path.parts[0] for path in context()} == {name for stage in read(dockerfile) for name in copied(stage)}


@each_image
def test_what_is_copied_builds_the_whole_package(dockerfile: Path, tmp_path: Path) -> None:
    build, _ = read(dockerfile)
    for step in build.steps:
        if step.instruction == "COPY":
            copy(step, {}, tmp_path)
    pip_wheel = [sys.executable, "-m", "pip", "wheel", "-q", "--no-index", "--no-deps", "--no-build-isolation"]
    ran = subprocess.run(
        [*pip_wheel, "-w", tmp_path, tmp_path / build.workdir.strip("/")], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    (wheel,) = tmp_path.glob("*.whl")
    built = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    packages = project()["tool"]["importlinter"]["root_packages"]
    assert built == {path.as_posix() for path in context() if path.parts[0] in packages}


@each_image
def test_every_package_is_installed_under_the_constraints(dockerfile: Path) -> None:
    build, image = read(dockerfile)
    installs = [command for command in runs(build) if "pip install" in command]
    assert len(installs) == 3
    assert [command for command in installs if " -c constraints.txt " not in command] == []
    assert not any("pip" in command for command in runs(image))


@each_image
def test_the_extras_asked_for_exist(dockerfile: Path) -> None:
    asked = re.findall(r"'\.\[([a-z,]+)\]'", dockerfile.read_text(encoding="utf-8"))
    expected = {"cpu": ["openvino,coreml,tensorrt,cluster"], "tensorrt": ["tensorrt,cluster"]}[dockerfile.stem]
    assert asked == expected
    assert set(asked[0].split(",")) <= set(project()["project"]["optional-dependencies"])


@each_image
def test_the_entry_point_is_the_command_of_the_environment_that_is_carried_over(dockerfile: Path) -> None:
    build, image = read(dockerfile)
    (carried,) = [operands(step) for step in image.steps if step.instruction == "COPY"]
    _, _, environment = carried
    assert carried == ("build", [environment], environment)
    assert any(re.search(rf"python3? -m venv {environment}$", command) for command in runs(build))
    assert image.env["PATH"].startswith(f"{environment}/bin:")
    assert image.entrypoint == list(project()["project"]["scripts"])


@each_image
def test_whoever_runs_the_image_can_write_where_a_run_writes(dockerfile: Path) -> None:
    *_, image = read(dockerfile)
    (made,) = [command.split() for command in runs(image) if command.startswith("install --directory")]
    assert "--mode=1777" in made
    assert {image.workdir, f"{image.workdir}/exports", image.env["HOME"], image.env["XDG_CACHE_HOME"]} <= set(made)
