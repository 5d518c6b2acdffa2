"""Releases over time: alarms beyond noise, none within it; and two bundles compared."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from efficientvit.errors import BadInput
from export.bundle.compare import diff_bundles
from export.bundle.history import History, history
from export.bundle.history_page import render
from export.bundle.make import Release, bundle
from export.bundle.releases import in_order, read_release
from tests.browser import looked_at
from tests.export.bundle.conftest import COREML, ONNX, OPENVINO

WORSE: dict[str, Any] = {"ms": 4.6, "mb": 5.0, "error": 1.5, "top1": 0.7}


class Releases:
    """Exports of one artifact as they might have been, a folder each."""

    def __init__(self, folder: Path, exported: Any) -> None:
        self.folder, self._manifest = folder, exported.manifest(ONNX)
        self.made: list[Path] = []

    def add(
        self, version: str, *, ms: float = 4.0, mb: float = 4.4, error: float = 1.0, top1: float | None = 0.8,
        sha256: str = "", host: str = "a", noisy: bool = False, seed: int = 0,
    ) -> None:  # fmt: skip
        rng = np.random.default_rng([seed, len(self.made)])
        manifest = json.loads(json.dumps(self._manifest))
        made = manifest["stages"][-1]["artifact"]
        made["bytes"], made["sha256"] = round(mb * 1e6), sha256 * 64 or f"{len(self.made):064x}"
        for gate in manifest["stages"][-1]["verdict"]["gates"].values():
            for kind in (gate or {}).get("kinds", ()):
                kind["worst"] *= error * float(rng.uniform(0.95, 1.05))
            if gate and gate["kinds"]:
                gate["worst"] *= error
        manifest["host"] |= {"cpu": host}
        samples = (1e6 * rng.normal(ms, 0.02 * ms, 300)).astype(int).tolist()
        manifest["timing"] = timing(samples, noisy=noisy)
        manifest["accuracy"] = None if top1 is None else accuracy(top1)
        place = self.folder / version / "m0-onnx"
        place.mkdir(parents=True)
        (place / "manifest.json").write_text(json.dumps(manifest))
        self.made.append(self.folder / version)

    def history(self) -> History:
        return history(self.made)


def timing(samples: list[int], *, noisy: bool) -> dict[str, Any]:
    effective = {"runtime": "onnxruntime", "version": "1", "precision": "fp32", "threads": 1, "isa": "", "settings": {}}
    ms = [each / 1e6 for each in samples]
    return {
        "measured": True, "reason": None, "batch": 1, "fed": [1, 3, 64, 64], "median_ms": float(np.median(ms)),
        "p90_ms": float(np.percentile(ms, 90)), "p99_ms": float(np.percentile(ms, 99)), "iqr_ms": 0.1, "noisy": noisy,
        "warm_up_runs": 20, "warm_up_stable": True, "peak_memory_bytes": 1, "load_ms": 1.0, "first_ms": 1.0,
        "memory_bytes": 1, "processes": [], "modules": [], "effective": effective, "samples_ns": samples,
    }  # fmt: skip


def accuracy(top1: float) -> dict[str, Any]:
    side = {"top1": top1, "top5": None}
    return {
        "folder": "val", "images": 5000, "matched_by": "label", "skipped": [], "reference": side, "artifact": side,
        "agree": 5000, "lost": 0, "gained": 0, "drop_points": 0.0, "interval_points": [-0.1, 0.1],
        "confidence_percent": 99.0, "budget_points": 0.5, "evidence": "native", "flips": [],
    }  # fmt: skip


@pytest.fixture
def releases(tmp_path: Path, exported: Any) -> Releases:
    return Releases(tmp_path / "releases", exported)


def figures(found: History) -> list[tuple[str, str, str]]:
    return [(each.figure, each.old, each.new) for each in found.alarms]


@pytest.mark.parametrize("seed", range(10))
def test_nothing_that_stayed_the_same_is_an_alarm(seed: int, releases: Releases) -> None:
    for version in ("1.0", "1.1", "1.2", "1.3"):
        releases.add(version, seed=seed, top1=0.8 + 0.001 * seed)
    found = releases.history()
    assert (found.alarms, found.notes) == ((), ())


@pytest.mark.parametrize(
    ("worse", "figure", "says"),
    [
        ({"ms": 4.6}, "latency", "ms, +1"),
        ({"mb": 4.9}, "size", "4.40 to 4.90 MB, +11.4%"),
        ({"error": 1.5}, "error", "larger by"),
        ({"top1": 0.77}, "accuracy", "80.00% to 77.00%"),
    ],
)
def test_what_got_worse_is_an_alarm_once(worse: dict[str, Any], figure: str, says: str, releases: Releases) -> None:
    for version, changes in (("1.0", {}), ("1.1", {}), ("1.2", worse), ("1.3", worse)):
        releases.add(version, **changes)
    (alarm,) = releases.history().alarms
    assert (alarm.artifact, alarm.figure, alarm.old, alarm.new) == ("m0-onnx", figure, "1.1", "1.2")
    assert says in alarm.says


@pytest.mark.parametrize(
    "better", [{"ms": 3.0}, {"mb": 4.0}, {"error": 0.5}, {"top1": 0.83}, {"ms": 4.05}, {"mb": 4.41}, {"error": 1.01}]
)
def test_what_got_better_or_hardly_worse_is_none(better: dict[str, Any], releases: Releases) -> None:
    releases.add("1.0")
    releases.add("1.1", **better)
    assert releases.history().alarms == ()


def test_runs_of_one_file_say_what_a_run_is_worth(releases: Releases) -> None:
    """The same file was measured at 4.0 and at 4.5 ms: then 4.6 of another says nothing."""
    releases.add("1.0", ms=4.0, sha256="a")
    releases.add("1.1", ms=4.5, sha256="a")
    releases.add("1.2", ms=4.6, sha256="b")
    assert releases.history().alarms == ()
    releases.add("1.3", ms=5.6, sha256="c")
    assert figures(releases.history()) == [("latency", "1.2", "1.3")]


def test_other_hosts_and_noisy_samples_are_not_compared(releases: Releases) -> None:
    releases.add("1.0")
    releases.add("1.1", ms=8.0, host="b")
    releases.add("1.2", ms=16.0, host="b", noisy=True)
    found = releases.history()
    assert found.alarms == ()
    assert [note.partition("compared: ")[2][:8] for note in found.notes] == ["timed on", "the samp"]


def test_the_page_is_whole_and_escapes_names(releases: Releases, tmp_path: Path) -> None:
    releases.add("1.0")
    releases.add("1.1", ms=4.6, error=1.4)
    evil = "<img src=x onerror=alert(1)>"
    shutil.copytree(releases.made[0] / "m0-onnx", releases.made[0] / evil)
    page = render(releases.history())
    assert evil not in page
    assert "&lt;img src=x" in page
    assert "2 alarms" in page
    assert page.count("<svg") == 1  # of the one that is in both
    assert "http" not in page.replace("http://www.w3.org", "")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [375, 1280])
def test_the_page_looks_right(width: int, scheme: str, releases: Releases, browser: Any, tmp_path: Path) -> None:
    for version, changes in (("1.0", {}), ("1.1", {}), ("1.2", WORSE)):
        releases.add(version, **changes)
    path = tmp_path / "history.html"
    path.write_text(render(releases.history()), encoding="utf-8")
    assert looked_at(path, width, scheme, browser, tmp_path) > 20


def test_bundles_are_in_the_order_of_their_versions(folders: list[Path], tmp_path: Path) -> None:
    made = {v: bundle(folders[:1], Release("a", v), tmp_path).folder for v in ("1.10", "1.9", "1.10-rc1", "1.9.1")}
    found = in_order([read_release(folder) for folder in made.values()])
    assert [each.version for each in found] == ["1.9", "1.9.1", "1.10-rc1", "1.10"]
    assert history(list(made.values())).releases == ("1.9", "1.9.1", "1.10-rc1", "1.10")


def test_two_bundles_are_compared_by_name(folders: list[Path], tmp_path: Path) -> None:
    changed = Path(shutil.copytree(folders[0], tmp_path / "new" / ONNX))
    manifest = json.loads((changed / "manifest.json").read_text())
    manifest["tools"]["onnx"] = "0.1"
    manifest["stages"][-1]["operators"] += 10
    (changed / "manifest.json").write_text(json.dumps(manifest))
    old = bundle(folders[:2], Release("a", "1"), tmp_path).folder
    new = bundle([changed, folders[2]], Release("a", "2"), tmp_path).folder
    found = diff_bundles(old, new)
    kinds = {name: [each.kind for each in own] for name, own in found.findings.items()}
    assert kinds == {ONNX: ["tools", "operators"], OPENVINO: ["artifacts"], COREML: ["artifacts"]}
    assert found.same == (ONNX,)
    assert found.findings[OPENVINO][0].new == "gone"
    assert found.failures({"parity": 0.0}) == {}
    assert list(found.failures({"artifacts": 0.0, "operators": 0.5})) == [OPENVINO]


def test_the_commands(folders: list[Path], tmp_path: Path, command: Any) -> None:
    old, new = (str(bundle(folders[:2], Release("a", v), tmp_path / "dist").folder) for v in ("1", "2"))
    ran = command("diff", old, new, "--json")
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["same"] == [ONNX, OPENVINO]
    shutil.rmtree(Path(new) / "artifacts" / OPENVINO)
    index = Path(new) / "index.json"
    document = json.loads(index.read_text())
    document["artifacts"] = [each for each in document["artifacts"] if each["name"] == ONNX]
    index.write_text(json.dumps(document))
    ran = command("diff", old, new, "--fail-on", "artifacts")
    assert (ran.code, "gone" in ran.err) == (1, True)
    ran = command("history", old, new, "--json", "--fail")
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["releases"] == ["1", "2"]
    assert "2 artifacts in 2 releases" in (tmp_path / "history.html").read_text()


def test_with_fail_an_alarm_is_the_exit_code(releases: Releases, command: Any) -> None:
    releases.add("1.0")
    releases.add("1.1", mb=9.0)
    made = list(map(str, releases.made))
    assert command("history", *made).code == 0
    ran = command("history", *made, "--fail")
    assert (ran.code, "size got worse" in ran.err) == (1, True)


@pytest.mark.parametrize("make", [None, "empty", "index"])
def test_what_is_no_release_is_refused(make: str | None, tmp_path: Path) -> None:
    place = tmp_path / "place"
    if make is not None:
        place.mkdir()
    if make == "index":
        (place / "index.json").write_text("{}")
    with pytest.raises(BadInput):
        history([place])
