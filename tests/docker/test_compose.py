"""docker/compose.yaml against the images that it starts, as far as that can be told without Compose."""

from typing import Any

import pytest
import yaml

from docker.rehearse import ROOT, read

COMPOSE = ROOT / "docker" / "compose.yaml"
SERVICES = ("cpu", "tensorrt")
CLUSTER = ("scheduler", "worker")


def service(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["services"][name]
    return found


def test_there_is_a_service_for_each_image() -> None:
    services = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["services"]
    built = {name: s["build"]["dockerfile"] for name, s in services.items() if "build" in s}
    assert built == {name: f"docker/{name}.Dockerfile" for name in SERVICES}
    assert tuple(services) == (*SERVICES, *CLUSTER)


def test_a_cluster_is_of_the_cpu_image_and_waits_to_be_asked_for() -> None:
    from export.cli.main import cli
    from export.cluster.address import parse_cluster

    scheduler, worker = map(service, CLUSTER)
    for one in (scheduler, worker):
        assert (one["image"], one["profiles"]) == (service("cpu")["image"], ["cluster"])
        assert {"build", "ports"}.isdisjoint(one)
        assert one["volumes"] == service("cpu")["volumes"]
    program, *options = scheduler["entrypoint"]
    assert (program, options[0]) == ("dask", "scheduler")
    name, address, *more = worker["command"]
    with cli.commands[name].make_context(name, [address, *more]) as context:
        assert context.params["address"] == f"tcp://{CLUSTER[0]}:{options[options.index('--port') + 1]}"
    assert parse_cluster(address).address == address
    assert worker["depends_on"] == [CLUSTER[0]]


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
