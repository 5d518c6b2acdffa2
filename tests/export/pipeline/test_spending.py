"""`--latency-budget`, `--load-budget`, `--memory-budget`, `--size-budget` in the command."""

import json
from pathlib import Path
from typing import Any

import pytest

from efficientvit.errors import StageFailed
from tests.stages import replace_stages
from tests.timed_briefly import in_all_processes

TIMED = ("m0", "--image-size", "64", "-w", "seeded", "--no-kit", "-o", "out")


def _manifest(out: Path) -> dict[str, Any]:
    (folder,) = out.iterdir()
    found: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    return found


def test_what_is_spent_is_told_and_keeps_to_budgets(command: Any, tmp_path: Path) -> None:
    wide = ("--latency-budget", "1e5", "--load-budget", "1e6", "--memory-budget", "1e4", "--size-budget", "1e3")
    with in_all_processes():
        ran = command(*TIMED, "-t", "onnx", *wide)
    assert ran.code == 0, ran.err
    assert "in a process of its own: loads in " in ran.err
    manifest = _manifest(tmp_path / "out")
    timing = manifest["timing"]
    assert len(timing["processes"]) == 5
    assert 0 < timing["load_ms"] < 1e6
    assert 1e6 < timing["memory_bytes"] < 1e9
    gates = manifest["stages"][-1]["verdict"]["gates"]
    for name, budget in (("latency", 1e5), ("load", 1e6), ("memory", 1e4), ("size", 1e3)):
        assert gates[name]["passed"]
        assert 0 < gates[name]["worst"] <= gates[name]["budget"] == budget
    assert manifest["stages"][-2]["verdict"]["gates"]["size"] is None, "of what ships alone"
    (folder,) = (tmp_path / "out").iterdir()
    again = command("verify", str(folder), "--json")
    assert again.code == 0
    found = json.loads(again.out)
    assert found["gates"]["size"]["worst"] == gates["size"]["worst"] > 0
    assert found["not_repeated"] == ["latency, load, memory against the export's budget (export it again)"]
    page = (folder / "report.html").read_text()
    assert "In a process of its own, as an app runs it" in page


def test_too_slow_is_rejected_although_it_is_right(command: Any, tmp_path: Path) -> None:
    ran = command(*TIMED, "-t", "onnx", "--latency-budget", "1e-3")
    assert ran.code == 1
    assert "REJECTED at stage 'simplify': it must not ship" in ran.err
    assert "latency gate: " in ran.err
    assert "next: take -p int8, a smaller model or image size, or say by --latency-budget what may go" in ran.err
    manifest = _manifest(tmp_path / "out")
    assert manifest["artifact"] is None
    assert manifest["timing"]["measured"], "what was measured of a verified file stays true"
    gates = manifest["stages"][-1]["verdict"]["gates"]
    assert [name for name, gate in gates.items() if gate and not gate["passed"]] == ["latency"]
    (folder,) = (tmp_path / "out").iterdir()
    explained = command("explain", str(folder), "--json")
    assert explained.code == 1
    found = json.loads(explained.out)
    assert found["gates"]["latency"] == gates["latency"] | {"detail": f"when exported, {gates['latency']['detail']}"}
    assert "no layer is at fault" in found["blame"]["note"]


def test_too_large_is_rejected_without_a_run(command: Any, tmp_path: Path) -> None:
    ran = command(*TIMED, "-t", "onnx", "--no-time", "--size-budget", "0.5")
    assert ran.code == 1
    assert "MB of at most 0.5" in ran.err
    (folder,) = (tmp_path / "out").iterdir()
    explained = command("explain", str(folder), "--json")
    assert explained.code == 1
    assert json.loads(explained.out)["gates"]["size"]["worst"] > 0.5


def test_what_cannot_be_measured_here_is_not_decided(command: Any, tmp_path: Path) -> None:
    ran = command(*TIMED, "-t", "coreml", "--latency-budget", "5")
    assert ran.code == 3, ran.err
    assert "--latency-budget could not be decided here: verified by reference evidence" in ran.err
    assert "made, NOT VERIFIED here" in ran.err
    assert _manifest(tmp_path / "out")["status"] == "not_run"
    (folder,) = (tmp_path / "out").iterdir()
    again = command("verify", str(folder))
    assert again.code == 3
    assert "not verified  (when exported: not_run)" in again.err
    assert "--latency-budget could not be decided here" in again.err
    found = json.loads(command("verify", str(folder), "--json").out)
    assert found["status"] == "not_run"
    assert found["reason"].startswith("--latency-budget could not be decided here")


def test_a_file_that_need_only_be_made_still_has_to_keep_to_its_budget(command: Any) -> None:
    ran = command(*TIMED, "-t", "coreml", "--require", "built", "--latency-budget", "5")
    assert ran.code == 3, ran.err
    assert "--latency-budget could not be decided here" in ran.err


def test_a_failed_stage_leaves_the_verdicts_before_it(
    command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> Any:
        raise StageFailed("the simplifier gave up")

    replace_stages(monkeypatch, simplify=fails)
    ran = command(*TIMED, "-t", "onnx", "--latency-budget", "5", "--jobs", "1", "--no-cache")
    assert ran.code == 4, ran.err
    manifest = _manifest(tmp_path / "out")
    assert [stage["verdict"]["status"] for stage in manifest["stages"]] == ["verified", "verified"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--no-time", "--latency-budget", "5"), "--latency-budget cannot be decided without a measurement"),
        (("--memory-budget", "0"), "--memory-budget is in megabytes"),
    ],
)
def test_what_can_never_be_decided_is_refused(options: tuple[str, ...], says: str, command: Any) -> None:
    ran = command(*TIMED, "-t", "onnx", *options)
    assert ran.code == 2
    assert says in ran.err
