"""A release on a cluster: all of its artifacts at once, and the same verdicts as on one host."""

import json
from pathlib import Path
from typing import Any

import pytest

from efficientvit.digests import file_digest
from export import api
from export.exits import Exit
from export.folder.exported import open_exported
from tests.export.cluster.asking import SLUGS, Heard
from tests.export.cluster.conftest import Four
from tests.export.conftest import Command, Exported
from tests.export.release.recipes import MIXED, write

EVERY = """
[options]
image-size = 64
no-time = true
[models]
m0 = "seeded"
[matrix]
target = ["onnx", "openvino", "coreml", "tensorrt"]
"""


@pytest.mark.parametrize("faults", [("meet", "meet"), ("corrupt", "kill"), ("forged", "full")])
def test_all_artifacts_are_there_whatever_goes_wrong(
    faults: tuple[str, ...], four: Four, exported: Exported, tmp_path: Path
) -> None:
    """Workers have different artifacts at the same time: two of them wait for each other. Devices check theirs."""
    four.inject(*faults)
    recipe, out = write(tmp_path, EVERY), tmp_path / "out"
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
    recipe = write(tmp_path, EVERY.replace(', "openvino", "coreml", "tensorrt"', ""))
    found = api.release(recipe, out=tmp_path / "out", no_cache=True, cluster=four.address, cluster_wait=5.0)
    (one,) = found.artifacts
    assert (one.status, one.exit_code) == ("failed", Exit.NOT_VERIFIED)
    assert "no worker of the cluster can take m0 onnx fp32" in str(one.reason)
    assert "no worker of the cluster" in (tmp_path / "out" / "release.html").read_text()


def test_the_same_verdicts_and_bytes_as_on_one_host(command: Command, tmp_path: Path) -> None:
    """One that is good, one that is rejected, one that cannot be made; by a worker that really works."""
    (tmp_path / "broken.pth").write_bytes(b"no checkpoint")
    write(tmp_path, MIXED)
    given = ("release", "release.toml", "--json", "--no-cache")
    there = command(*given, "-o", "there", "--cluster", "local:1")
    here = command(*given, "-o", "here", "--jobs", "1")
    assert there.code == here.code == 1, there.err
    found, same = json.loads(there.out), json.loads(here.out)
    assert [each["status"] for each in found["artifacts"]] == ["verified", "rejected", "failed"]
    for each, other in zip(found["artifacts"], same["artifacts"], strict=True):
        assert _lasting(each) == _lasting(other)


def _lasting(artifact: dict[str, Any]) -> dict[str, Any]:
    """Without the digest of the manifest, which has times, and the command, which has the folder."""
    return {name: value for name, value in artifact.items() if name not in ("manifest_sha256", "command")}


def test_what_does_not_go_together(command: Command, tmp_path: Path) -> None:
    write(tmp_path, EVERY)
    for more, why in ((["--dry-run"], "--dry-run says what this host can do"), (["--jobs", "2"], "has workers")):
        ran = command("release", "release.toml", "--cluster", "local:1", *more)
        assert ran.code == 2
        assert why in ran.err
    assert not (tmp_path / "releases").exists()
