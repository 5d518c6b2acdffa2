"""docker/compose.yaml against the images that it starts, as far as that can be told without Compose."""

from typing import Any

import pytest
import yaml

from docker.rehearse import ROOT, read

COMPOSE = ROOT / "docker" / "compose.yaml"
SERVICES = ("cpu", "tensorrt")


def service(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["services"][name]
    return found


def test_there_is_a_service_for_each_image() -> None:
    services = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["services"]
    assert {f"docker/{name}.Dockerfile" for name in services} == {s["build"]["dockerfile"] for s in services.values()}
    assert tuple(services) == SERVICES


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_builds_its_image_from_the_root_of_the_checkout(name: str) -> None:
    build = service(name)["build"]
    assert (COMPOSE.parent / build["context"]).resolve() == ROOT
    dockerfile = (ROOT / build["dockerfile"]).read_text(encoding="utf-8")
    assert [argument for argument in build["args"] if f"\nARG {argument}=" not in dockerfile] == []


@pytest.mark.parametrize("name", SERVICES)
def test_volumes_lie_where_the_image_writes(name: str) -> None:
    *_, image = read(ROOT / "docker" / f"{name}.Dockerfile")
    mounts = {mount["target"]: mount for mount in service(name)["volumes"]}
    assert set(mounts) == {f"{image.workdir}/exports", image.env["XDG_CACHE_HOME"]}
    assert (
        mounts[image.env["XDG_CACHE_HOME"]]["source"] in yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["volumes"]
    )
    exports = mounts[f"{image.workdir}/exports"]
    assert (COMPOSE.parent / exports["source"]).resolve() == ROOT / "exports"
    assert exports["bind"] == {"create_host_path": False}


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_runs_as_the_user_of_its_image_unless_told_otherwise(name: str) -> None:
    *_, image = read(ROOT / "docker" / f"{name}.Dockerfile")
    uid, gid = image.user.split(":")
    assert service(name)["user"] == f"${{VIT_EXPORT_UID:-{uid}}}:${{VIT_EXPORT_GID:-{gid}}}"


def test_the_tensorrt_service_alone_reserves_a_gpu_and_waits_to_be_asked_for() -> None:
    (device,) = service("tensorrt")["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}
    assert service("tensorrt")["profiles"] == ["gpu"]
    assert {"deploy", "profiles"}.isdisjoint(service("cpu"))
