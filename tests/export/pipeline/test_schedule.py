"""Side by side or one by one, from the cache or anew: the same artifacts, and no stale verdict."""

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from efficientvit.errors import BadCheckpoint, MissingExtra
from efficientvit.size import square
from efficientvit.spec import model_spec
from efficientvit.weights.checkpoint import save_checkpoint
from efficientvit.weights.seeded import seeded
from export.cache.store import Cache
from export.pipeline import finished
from export.pipeline.finished import key_of_export
from export.pipeline.schedule import export
from export.request.request import Request
from runtimes.artifact import digest
from runtimes.runtime import Evidence
from tests.command_line import SEARCHED
from tests.export.conftest import INSTALLED, TINY, Command, Exported
from tests.silent import Silent
from validation.budgets import Budgets

BOTH = (*TINY, "-t", "onnx", "-t", "coreml", "--json")


def _manifests(out: str) -> dict[str, Any]:
    return {each["folder"].rsplit("/", 1)[-1]: each for each in json.loads(out)["artifacts"]}


@pytest.mark.parametrize(
    "changed",
    [
        {"require": Evidence.NATIVE},
        {"budgets": Budgets(quality=0.1)},
        {"time": False},
        {"kit": False},
        {"defaults": False},
        {"image_size": 64},
        {"release": True},
        {"preprocessing": {"mean": (0.5, 0.5, 0.5)}},
        {"weights": "seeded:1"},
        {"skip_bad_photos": True},
    ],
)
def test_what_is_asked_is_part_of_the_key(changed: dict[str, Any]) -> None:
    request = Request(("m0",), ("onnx",), weights="seeded")
    (job,) = request.jobs()
    before = key_of_export(request, job)
    assert before == key_of_export(request, job) is not None
    assert key_of_export(replace(request, **changed), job) != before
    assert key_of_export(replace(request, out=Path("elsewhere")), job) == before


def test_what_lies_in_a_named_file_is_part_of_the_key(tmp_path: Path) -> None:
    weights, photos = tmp_path / "best.pth", tmp_path / "photos"
    photos.mkdir()
    request = Request(("m0",), ("onnx",), weights=str(weights), golden=photos)
    (job,) = request.jobs()
    assert key_of_export(request, job) is None  # there is nothing yet
    weights.write_bytes(b"1")
    keys = [key_of_export(request, job)]
    weights.write_bytes(b"2")
    keys.append(key_of_export(request, job))
    (photos / "a.jpg").write_bytes(b"1")
    keys.append(key_of_export(request, job))
    (photos / "a.jpg").rename(photos / "b.jpg")
    keys.append(key_of_export(request, job))
    assert None not in keys
    assert len(set(keys)) == 4
    (photos / "annotation.xml").write_text("no IR: there is no .bin beside it")
    assert key_of_export(request, job) not in (None, *keys)
    (photos / "pipe").symlink_to("/dev/zero")
    assert key_of_export(request, job) is None
    assert key_of_export(Request(("m0",), ("onnx",), weights="pretrained"), job) is None  # never downloaded


def test_a_lookup_in_vain_leaves_the_output_folder_alone(tmp_path: Path) -> None:
    request = Request(("m0",), ("onnx",), weights="seeded", out=tmp_path / "out")
    (job,) = request.jobs()
    key = key_of_export(request, job)
    assert key is not None
    assert finished.find(Cache(tmp_path / "cache"), key, request, job) is None
    assert not request.out.exists()


def test_weights_that_change_during_the_export_are_not_kept(tmp_path: Path) -> None:
    """As a training loop does that overwrites its checkpoint."""
    path, cache = tmp_path / "best.safetensors", Cache(tmp_path / "cache")
    first, second = (seeded(model_spec("m0", square(64)), seed) for seed in (0, 3))
    save_checkpoint(first, path)
    request = Request(("m0",), ("onnx",), weights=str(path), image_size=square(64), time=False, out=tmp_path / "out")

    class Overwriting(Silent):
        def step(self, text: str) -> None:
            if text.endswith("trace"):
                save_checkpoint(second, path)

    (made,) = export(request, Overwriting(), cache=cache)
    assert made.manifest["status"] == "verified"
    assert not [entry for entry in cache.entries() if entry.kind == "export"]
    (again,) = export(request, Silent(), cache=cache)
    assert again.before is None
    (found,) = export(request, Silent(), cache=cache)
    assert found.before is not None
    assert found.manifest == again.manifest
    assert found.manifest["weights"]["sha256"] == digest(path) != made.manifest["weights"]["sha256"]

    # What a device has reported since stays; what somebody has put there or taken away does not.
    (found.folder / "ship" / "stray.onnx").write_text("stray")
    (found.folder / "report.html").unlink()
    (mended,) = export(request, Silent(), cache=cache)
    assert (mended.folder / "report.html").is_file()
    assert not (mended.folder / "ship" / "stray.onnx").exists()
    reports = found.folder / "evidence" / "device-reports"
    reports.mkdir()
    (reports / "phone.json").write_text("{}")
    (same,) = export(request, Silent(), cache=cache)
    assert (same.folder / "evidence" / "device-reports" / "phone.json").is_file()


def test_what_was_noted_of_weights_is_said_from_the_cache_too(command: Command, tmp_path: Path) -> None:
    torch.save({"net_ema": seeded(model_spec("m0", square(64))).state_dict()}, tmp_path / "best.pth")
    given = ("m0", "-w", "best.pth", "--image-size", "64", "-t", "onnx", "--no-time")
    for said in ("weights: best.pth", "nothing has changed since"):
        ran = command(*given)
        assert ran.code == 0, ran.err
        assert said in ran.err
        assert "these are a running average" in ran.err


def test_side_by_side_then_from_the_cache(
    exported_again: Exported, command: Command, command_process: Command, tmp_path: Path
) -> None:
    first, place = exported_again.ran, exported_again.out.parent
    assert first.code == 0, first.err
    assert "leaked" not in first.err
    scratch = place / "scratch"
    assert not [path.name for path in scratch.iterdir() if "mlpackage" in path.name or "vit-export" in path.name]
    made = _manifests(first.out)
    assert len(made) == len(INSTALLED)
    assert all(each["checked_before"] is None for each in made.values())

    cache = str(shutil.copytree(place / "cache", tmp_path / "cache"))
    again = command_process(*BOTH, "-o", "b", XDG_CACHE_HOME=cache)
    assert again.code == 0, again.err
    same = _manifests(again.out)
    assert len(same) == 2
    assert "nothing has changed since" in again.err
    assert again.err.count("UNTRAINED WEIGHTS") == 2  # beside each, though no weights were loaded
    for slug, each in same.items():
        assert each.pop("checked_before") is not None
        before = {name: value for name, value in made[slug].items() if name != "checked_before"}
        assert {**each, "folder": ""} == {**before, "folder": ""}
    ship = sorted(path.relative_to(tmp_path / "b") for path in (tmp_path / "b").rglob("ship/*") if path.is_file())
    assert ship
    assert all((exported_again.out / path).read_bytes() == (tmp_path / "b" / path).read_bytes() for path in ship)

    # A file that was spoiled where it lies is put right; with another image to check on, files stay and verdicts go.
    spoiled = tmp_path / "b" / next(iter(same)) / "ship" / "efficientvit_m0.onnx"
    spoiled.write_bytes(b"spoiled")
    assert command(*BOTH, "-o", "b", XDG_CACHE_HOME=cache).code == 0
    assert spoiled.read_bytes() == (exported_again.out / spoiled.relative_to(tmp_path / "b")).read_bytes()
    other = command(*BOTH, "-o", "c", "--jobs", "1", "--mean", "0.5", "0.5", "0.5", XDG_CACHE_HOME=cache)
    assert other.code == 0, other.err
    others = _manifests(other.out)
    stages = {(slug, stage["name"]): stage["cached"] for slug, each in others.items() for stage in each["stages"]}
    assert stages["m0-64-onnx-fp32-untrained", "trace"] is True
    assert stages["m0-64-coreml-fp16-untrained", "coreml"] is False  # the package normalizes: its bytes are others
    assert all(each["checked_before"] is None for each in others.values())


def test_a_rejected_artifact_is_made_and_judged_every_time(command: Command, tmp_path: Path) -> None:
    cache = str(tmp_path / "cache")
    asked = (*TINY, "-t", "onnx", "--size-budget", "0.01", "-o", "out")
    for _ in range(2):
        ran = command(*asked, XDG_CACHE_HOME=cache)
        assert ran.code == 1
        assert "REJECTED" in ran.err
        assert "nothing has changed" not in ran.err
    listed = json.loads(command("cache", "--json", XDG_CACHE_HOME=cache).out)["kinds"]
    assert "export" not in listed
    assert command("cache", "prune", "--all", XDG_CACHE_HOME=cache).code == 0
    assert json.loads(command("cache", "--json", XDG_CACHE_HOME=cache).out)["kinds"] == {}


def test_an_error_in_one_process_is_the_commands(command: Command, tmp_path: Path) -> None:
    (tmp_path / "broken.pth").write_bytes(b"no checkpoint")
    ran = command("m0", "-t", "onnx", "-t", "coreml", "-w", "broken.pth", "--jobs", "2")
    assert ran.code == 2
    assert "broken.pth" in ran.err
    assert "Traceback" not in ran.err


def test_an_interrupt_ends_every_process_and_leaves_nothing_half_made(tmp_path: Path) -> None:
    asked = ["m0", "m1", "--image-size", "64", "-w", "seeded", "--no-time", "-t", "onnx", "-t", "coreml", "--no-cache"]
    command = [sys.executable, "-m", "export", *asked, "--jobs", "2", "-o", "out"]
    process = subprocess.Popen(
        command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": SEARCHED}, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    first = process.stderr.readline()  # the weights, told by a worker: both are at work
    workers = psutil.Process(process.pid).children(recursive=True)
    assert len(workers) >= 2
    process.send_signal(signal.SIGINT)
    _, rest = process.communicate(timeout=120)
    assert "weights" in first
    assert process.returncode == 130, rest
    assert "Traceback" not in rest
    assert not list((tmp_path / "out").glob(".*"))
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert not alive


@pytest.mark.parametrize(
    "error",
    [MissingExtra("openvino", "openvino", "running an IR"), BadCheckpoint("broken", expected="a", got="b")],
)
def test_an_error_of_ours_crosses_processes(error: Exception) -> None:
    import pickle

    back = pickle.loads(pickle.dumps(error))
    assert type(back) is type(error)
    assert str(back) == str(error)
