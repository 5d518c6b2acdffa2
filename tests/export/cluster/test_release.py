"""A release on a cluster: the same verdicts as on one host. What may go wrong on the way is in test_faults.py."""

import json
from pathlib import Path
from typing import Any

from tests.export.conftest import Command
from tests.export.release.recipes import MIXED, write


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
    write(tmp_path, MIXED)
    for more, why in ((["--dry-run"], "--dry-run says what this host can do"), (["--jobs", "2"], "has workers")):
        ran = command("release", "release.toml", "--cluster", "local:1", *more)
        assert ran.code == 2
        assert why in ran.err
    assert not (tmp_path / "releases").exists()
