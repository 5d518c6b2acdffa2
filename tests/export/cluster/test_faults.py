"""Four real workers, two of which claim a device, and everything that may go wrong on them."""

import json
import re
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from efficientvit.digests import file_digest
from efficientvit.errors import ArtifactChanged, Unavailable
from export import api
from export.cluster.address import Cluster
from export.cluster.client import Workers
from export.cluster.crew import Needs
from export.cluster.errand import Errand
from export.exits import Exit
from export.folder.exported import open_exported
from export.pipeline.finished import Finished
from runtimes.runtime import Evidence
from tests.export.cluster.asking import SLUGS, Heard, asked, export, write
from tests.export.cluster.conftest import Four
from tests.export.conftest import Exported
from tests.export.release.recipes import write as write_recipe

RECIPE = """
[options]
image-size = 64
no-time = true
[models]
m0 = "seeded"
[matrix]
target = ["onnx", "openvino", "coreml", "tensorrt"]
"""


def made(four: Four, out: Path, *targets: str, heard: Heard | None = None, wait_s: float = 120.0) -> list[Finished]:
    cluster = Cluster(four.address)
    return list(export(asked(out, *targets), heard or Heard(), cluster=cluster, wait_s=wait_s))


def manifest(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    return found


def require_whole(out: Path, exported: Exported, *targets: str) -> None:
    """Every artifact that was asked for, intact, and nothing half made."""
    names = {SLUGS[target] for target in targets or SLUGS}
    assert {path.name for path in out.iterdir()} == names
    for name in names:
        open_exported(out / name)
        for path in (exported.out / name / "ship").rglob("*"):
            if path.is_file():
                assert path.read_bytes() == (out / path.relative_to(exported.out)).read_bytes()


def test_what_a_device_can_check_is_checked_there_in_the_same_command(
    four: Four, exported: Exported, tmp_path: Path
) -> None:
    four.inject()
    heard = Heard()
    done = {each.job.target.name: each for each in made(four, tmp_path / "out", heard=heard)}
    require_whole(tmp_path / "out", exported)
    assert heard.notes == []
    entries = {name: manifest(each.folder)["devices"] for name, each in done.items()}
    assert {entry["unit"] for entry in entries["coreml"]} == {"CPU_ONLY", "CPU_AND_GPU", "CPU_AND_NE", "ALL"}
    assert {entry["unit"] for entry in entries["tensorrt"]} == {"RTX", "ENTERPRISE"}
    assert entries["onnx"] == entries["openvino"] == []
    for entry in (*entries["coreml"], *entries["tensorrt"]):
        assert (entry["status"], entry["evidence"]) == ("passed", "native")
    assert {(slug, name) for slug, name, _ in heard.stages} == {
        (SLUGS["coreml"], "on device"), (SLUGS["tensorrt"], "on device"),
    }  # fmt: skip


@pytest.mark.parametrize(("faults", "code"), [((), 0), (("none", "noisy"), 1)])
def test_a_device_s_verdict_is_the_command_s(faults: tuple[str, ...], code: int, four: Four, tmp_path: Path) -> None:
    """Native evidence was required, which the worker that made it has not."""
    four.inject(*faults)
    request = replace(asked(tmp_path, "coreml"), require=Evidence.NATIVE)
    (one,) = export(request, Heard(), cluster=Cluster(four.address), wait_s=120.0)
    assert one.manifest["exit_code"] == 3
    assert one.code == code
    assert {entry["status"] for entry in one.manifest["devices"]} == {"rejected" if code else "passed"}


@pytest.mark.parametrize("fault", ["corrupt", "forged", "outside", "short", "lost", "twice"])
def test_what_is_not_what_it_says_is_refused_and_its_worker_left_out(
    fault: str, four: Four, exported: Exported, tmp_path: Path
) -> None:
    four.inject(fault)
    heard = Heard()
    done = made(four, tmp_path / "out", "onnx", "openvino", heard=heard)
    assert four.happened == [fault]
    assert len(done) == 2
    require_whole(tmp_path / "out", exported, "onnx", "openvino")
    (note,) = heard.notes
    assert "gets no more work: a worker" in note
    assert not (tmp_path / "outside").exists()


@pytest.mark.parametrize("fault", ["corrupt", "outside", "short", "refused"])
def test_what_a_call_wrote_is_published_whole_beside_what_is_there(fault: str, four: Four, tmp_path: Path) -> None:
    """`refused`: by what is asked of it here."""
    four.inject(*([fault] if fault != "refused" else []))
    out = tmp_path / "out"
    (out / "folder").mkdir(parents=True)
    for name in ("folder/old", "kept"):
        (out / name).touch()
    given = list[Path]()

    def check(value: int, folder: Path) -> None:
        given.append(folder)
        if len(list(folder.rglob("file"))) != value or (fault == "refused" and len(given) == 1):
            raise ArtifactChanged("it is another")

    errand = Errand(write, (out, "right"), (Needs(frozenset()),), "writing", out=out, check=check)
    heard = Heard()
    with Workers(Cluster(four.address), 20.0) as workers:
        assert list(workers.call([errand], heard)) == [(0, 2)]
    assert four.happened == ([fault] if fault != "refused" else [])
    (note,) = heard.notes
    assert re.match(r"worker \w+ \(\S+\) gets no more work: a worker returned", note)
    assert sorted(str(path.relative_to(out)) for path in out.rglob("*")) == ["file", "folder", "folder/file", "kept"]
    assert (out / "file").read_text() == (out / "folder" / "file").read_text() == "right"
    assert not (tmp_path / "outside").exists()


def test_a_killed_worker_s_job_goes_elsewhere(four: Four, exported: Exported, tmp_path: Path) -> None:
    four.inject("kill")
    assert len(made(four, tmp_path / "out", "onnx")) == 1
    assert four.happened == ["kill"]
    require_whole(tmp_path / "out", exported, "onnx")


def test_a_full_disk_on_a_worker_is_not_the_artifact_s_fault(four: Four, exported: Exported, tmp_path: Path) -> None:
    four.inject("full")
    heard = Heard()
    assert len(made(four, tmp_path / "out", "onnx", heard=heard)) == 1
    require_whole(tmp_path / "out", exported, "onnx")
    (note,) = heard.notes
    assert "no disk space left" in note


def test_where_no_worker_is_left_it_is_said_by_name(four: Four, tmp_path: Path) -> None:
    four.inject(*["full"] * 4)
    with pytest.raises(Unavailable, match="no worker of the cluster can take m0 onnx fp32") as caught:
        made(four, tmp_path / "out", "onnx", wait_s=5.0)
    assert {name for name in four.hosts.workers if f"{name} (" in str(caught.value.got)} == set(four.hosts.workers)
    assert not list((tmp_path / "out").iterdir())


WRONG = ("kill", "corrupt", "forged", "short", "full", "lost")


@pytest.mark.parametrize("number", range(len(WRONG) * (len(WRONG) - 1) // 2))
def test_whatever_goes_wrong_everything_is_there_once_and_verified(
    number: int, four: Four, exported: Exported, tmp_path: Path
) -> None:
    """Each two faults together, and one device or the other. A worker that was killed first is back for later tests."""
    faults = list(combinations(WRONG, 2))[number][:: 1 if number % 2 else -1]
    targets = ("onnx", "openvino", ("coreml", "tensorrt")[number % 2])
    four.inject(*faults)
    done = made(four, tmp_path / "out", *targets)
    assert four.happened == sorted(faults)
    assert Counter(each.slug for each in done) == Counter(SLUGS[name] for name in targets)
    require_whole(tmp_path / "out", exported, *targets)


def test_two_clients_at_once(four: Four, exported: Exported, tmp_path: Path) -> None:
    four.inject("corrupt")
    together = threading.Barrier(2, timeout=60)

    def one(name: str) -> list[Finished]:
        together.wait()
        return made(four, tmp_path / name)

    with ThreadPoolExecutor(2) as threads:
        found = [each.result(300) for each in [threads.submit(one, name) for name in ("a", "b")]]
    assert [len(done) for done in found] == [4, 4]
    for name in ("a", "b"):
        require_whole(tmp_path / name, exported)


@pytest.mark.parametrize("faults", [("meet", "meet"), ("corrupt", "kill"), ("forged", "full")])
def test_all_artifacts_of_a_release_are_there_whatever_goes_wrong(
    faults: tuple[str, ...], four: Four, exported: Exported, tmp_path: Path
) -> None:
    """Workers have different artifacts at the same time: two of them wait for each other. Devices check theirs."""
    four.inject(*faults)
    recipe, out = write_recipe(tmp_path, RECIPE), tmp_path / "out"
    found = api.release(recipe, out=out, no_cache=True, cluster=four.address, progress=Heard())
    assert four.happened == sorted(faults)
    assert [each.name for each in found.artifacts] == list(SLUGS.values())
    assert found.exit_code is Exit.OK, [each.reason for each in found.artifacts]
    for name in SLUGS.values():
        open_exported(out / name)
        for path in (exported.out / name / "ship").rglob("*"):
            assert not path.is_file() or path.read_bytes() == (out / path.relative_to(exported.out)).read_bytes()
    record = json.loads((out / "release.json").read_text())
    for each in record["artifacts"]:
        assert each["manifest_sha256"] == file_digest(out / each["folder"] / "manifest.json")
    checked = {name for name in SLUGS.values() if json.loads((out / name / "manifest.json").read_text())["devices"]}
    if "meet" in faults:  # of the others, the worker that is left out may be the one that has the device
        assert checked == {SLUGS["coreml"], SLUGS["tensorrt"]}
    assert {path.name for path in out.iterdir()} == {*SLUGS.values(), "release.json", "release.html"}


def test_what_no_worker_can_make_keeps_nothing_else_from_being_made(four: Four, tmp_path: Path) -> None:
    """Each is asked for alone: one whose workers are all left out does not end the others."""
    four.inject(*["full"] * 4)
    recipe = write_recipe(tmp_path, RECIPE.replace(', "openvino", "coreml", "tensorrt"', ""))
    found = api.release(recipe, out=tmp_path / "out", no_cache=True, cluster=four.address, cluster_wait=5.0)
    (one,) = found.artifacts
    assert (one.status, one.exit_code) == ("failed", Exit.NOT_VERIFIED)
    assert "no worker of the cluster can take m0 onnx fp32" in str(one.reason)
    assert "no worker of the cluster" in (tmp_path / "out" / "release.html").read_text()
