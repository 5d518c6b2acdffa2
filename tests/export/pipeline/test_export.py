"""The main job, through the command line: what it prints, makes and exits with."""

import json
import os
import signal
import site
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

from efficientvit.model import Residual, build
from efficientvit.size import square
from efficientvit.spec import model_spec
from efficientvit.weights.checkpoint import save_checkpoint
from runtimes.artifact import digest
from tests.command_line import ROOT, SEARCHED
from tests.export.conftest import INSTALLED

ONNX, IR, COREML = "m0-64-onnx-fp32-untrained", "m0-64-openvino-fp32-untrained", "m0-64-coreml-fp16-untrained"
ENGINE, ASSET = "m0-64-tensorrt-fp16-untrained", "m0-64-coreai-fp16-untrained"
EVIDENCE = {ONNX: "native", IR: "native", COREML: "reference", ENGINE: "reference"}
if "coreai" in INSTALLED:
    EVIDENCE[ASSET] = "vendor"
TINY = ("m0", "--image-size", "64", "-w", "seeded", "--no-time")


def test_every_target_is_verified_as_far_as_this_host_can(exported: Any) -> None:
    assert exported.ran.code == 0, exported.ran.err
    found = json.loads(exported.ran.out)
    assert found["exit_code"] == 0
    status = {
        Path(manifest["folder"]).name: (manifest["status"], manifest["exit_code"]) for manifest in found["artifacts"]
    }
    assert status == {slug: ("built" if slug == ENGINE else "verified", 0) for slug in EVIDENCE}
    evidence = {
        Path(manifest["folder"]).name: manifest["stages"][-1]["verdict"]["evidence"] for manifest in found["artifacts"]
    }
    assert evidence == EVIDENCE
    assert "UNTRAINED WEIGHTS" in exported.ran.err
    assert "built, NOT RUN here; the network it was built from passed" in exported.ran.err
    assert "its program evaluated in fp16, not run: never timed here" in exported.ran.err
    assert "takes 8-bit images of 64 x 64, and normalizes them; Vision resizes and crops" in exported.ran.err
    assert f"next: out/{COREML}/kit/README.md says how a device checks and times it" in exported.ran.err


def test_folders_are_complete_and_nothing_else_is_left(exported: Any) -> None:
    assert {path.name for path in exported.out.iterdir()} == set(EVIDENCE)
    assert {path.name for path in (exported.out / ONNX / "ship").iterdir()} == {
        "efficientvit_m0.onnx",
        "runtime-settings.json",
    }
    assert {path.name for path in (exported.out / IR / "ship").iterdir()} == {
        "efficientvit_m0.xml",
        "efficientvit_m0.bin",
        "runtime-settings.json",
    }
    assert {path.name for path in (exported.out / ENGINE / "ship").iterdir()} == {
        "efficientvit_m0.engine",
        "efficientvit_m0.onnx",
        "runtime-settings.json",
    }
    settings = json.loads((exported.out / ENGINE / "ship" / "runtime-settings.json").read_text())
    assert (settings["product"], settings["tf32"]) == ("tensorrt-rtx", "off")
    for slug in EVIDENCE:
        evidence = {path.name for path in (exported.out / slug / "evidence").iterdir()}
        assert {"golden.safetensors", "reference.safetensors"} <= evidence
        manifest = exported.manifest(slug)
        shipped = exported.out / slug / manifest["artifact"]
        assert digest(shipped) == manifest["stages"][-1]["artifact"]["sha256"]
        assert manifest["weights"]["trained"] is False


def test_the_effective_precision_is_attested(exported: Any) -> None:
    for slug, runtime in ((ONNX, "onnxruntime"), (IR, "openvino")):
        settings = exported.manifest(slug)["settings"]
        assert settings["effective"]["runtime"] == runtime
        assert settings["effective"]["precision"] == "fp32"
        assert settings["effective"]["threads"] == 1
        assert settings["defaults"]["gate"]["worst"] > 0


def test_two_processes_and_folders_make_the_same_bytes(exported: Any, exported_again: Any) -> None:
    for slug in EVIDENCE:
        first, again = exported.out / slug / "ship", exported_again.out / slug / "ship"
        files = sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file())
        assert files == sorted(path.relative_to(again) for path in again.rglob("*") if path.is_file())
        # TensorRT was seen to build another engine of the same file in a process that had built many others; one that
        # comes from the cache may be of such a process.
        from_cache = exported.manifest(slug)["stages"][-1]["cached"]
        for file in (file for file in files if file.suffix != ".engine" or not from_cache):
            assert (first / file).read_bytes() == (again / file).read_bytes(), file


def test_no_path_of_this_machine_in_what_ships(exported: Any) -> None:
    places = {str(ROOT), str(exported.out), str(Path.home()), *site.getsitepackages(), "/tmp/", "site-packages"}
    for file in exported.out.glob("*/ship/**/*"):
        if file.is_file():
            content = file.read_bytes()
            assert not [place for place in places if place.encode() in content], file


def test_nodes_bear_their_modules_names_and_compute_no_shapes(exported: Any) -> None:
    model = onnx.load(exported.out / ONNX / "ship" / "efficientvit_m0.onnx")
    assert not {node.op_type for node in model.graph.node} & {"Shape", "Gather", "Unsqueeze", "Slice", "Constant"}
    assert all("/" in node.name and not node.metadata_props for node in model.graph.node)
    assert any(node.name.startswith("stage1.block1.ffn1.branch.expand/Conv") for node in model.graph.node)
    assert model.ir_version == 8
    assert not model.metadata_props


def test_dynamic_batch_and_half_precision_are_verified(command: Any, tmp_path: Path) -> None:
    """Both precisions of both targets at batches 1, 3 and 8."""
    for precision in ("fp32", "fp16"):
        ran = command(*TINY, "-t", "onnx", "-t", "openvino", "-p", precision, "--batch", "dynamic", "-o", "out")
        assert ran.code == 0, ran.err
        for target in ("onnx", "openvino"):
            folder = tmp_path / "out" / f"m0-64-dynamic-{target}-{precision}-untrained"
            manifest = json.loads((folder / "manifest.json").read_text())
            assert manifest["stages"][-1]["verdict"]["batches"] == [1, 3, 8]
            assert manifest["model"]["inputs"][0]["shape"][0] == "batch"


def test_the_evidence_required_decides_the_exit_code(exported: Any, command: Any) -> None:
    assert command("verify", str(exported.out / COREML), "--require", "native").code == 3
    assert command("verify", str(exported.out / COREML)).code == 0
    assert command("verify", str(exported.out / COREML), "--require", "built").code == 0
    assert command("verify", str(exported.out / ONNX), "--require", "native").code == 0


def test_no_weights_to_be_had_is_said_three_times(command: Any, tmp_path: Path) -> None:
    ran = command("m0", "--image-size", "64", "--no-time", "-o", "out")
    assert ran.code == 3
    assert ran.err.count("UNTRAINED WEIGHTS: for trying the pipeline, not for release") >= 2
    (folder,) = (tmp_path / "out").iterdir()
    assert folder.name == ONNX
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (manifest["weights"]["trained"], manifest["weights"]["fallback"]) == (False, True)


def test_photos_are_judged_too_and_a_bad_one_is_named(command: Any, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(3):
        Image.fromarray(rng.integers(0, 256, (80, 100, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    (folder / "notes.txt").write_text("no image")
    refused = command(*TINY, "--golden", "photos", "-o", "out")
    assert refused.code == 2
    assert "notes.txt" in refused.err
    assert not list((tmp_path / "out").iterdir())
    ran = command(*TINY, "--golden", "photos", "--skip-bad-photos", "-o", "out")
    assert ran.code == 0, ran.err
    golden = json.loads((tmp_path / "out" / ONNX / "manifest.json").read_text())["golden"]
    assert golden["kinds"]["photo"] == 3
    assert golden["skipped"] == ["notes.txt"]


def test_weights_as_training_starts_are_vacuous(command: Any, tmp_path: Path) -> None:
    model = build(model_spec("m0", square(64)))
    state = model.state_dict()
    for name, module in model.named_modules():
        if isinstance(module, Residual):
            ends = [f"{name}.branch{end}.norm.weight" for end in ("", ".project", ".attention.project")]
            for end in ends:
                if end in state:
                    state[end].zero_()
    save_checkpoint(model, tmp_path / "fresh.safetensors")
    ran = command("m0", "-w", "fresh.safetensors", "--no-time", "-o", "out")
    assert ran.code == 3, ran.err
    assert "VACUOUS" in ran.err
    (folder,) = (tmp_path / "out").glob("m0-64-onnx-fp32-fresh-*")
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (manifest["status"], manifest["self_check"]["vacuous"]) == ("not_run", True)
    assert manifest["timing"]["measured"] is False


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_leaves_nothing(number: signal.Signals, code: int, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with _about_to_publish(tmp_path, TMPDIR=str(scratch)) as process:
        process.send_signal(number)
        assert process.wait(timeout=120) == code
    assert list((tmp_path / "out").iterdir()) == []
    assert not list(scratch.glob("vit-export*"))


def test_an_interrupt_amid_generated_code_keeps_its_exit_code(tmp_path: Path) -> None:
    """`python -m` on a module that is interrupted inside `exec`, as making a dataclass runs it."""
    (tmp_path / "interrupted.py").write_text(
        "import os, signal, sys\n"
        "from export.workers import interrupt\n"
        "interrupt.install()\n"
        "try:\n"
        "    exec('os.kill(os.getpid(), signal.SIGINT)\\nwhile True: pass')\n"
        "except KeyboardInterrupt:\n"
        "    sys.exit(130)\n"
    )
    environment = {**os.environ, "PYTHONPATH": SEARCHED}
    ran = subprocess.run([sys.executable, "-m", "interrupted"], cwd=tmp_path, env=environment, timeout=60, check=False)
    assert ran.returncode == 130


def test_a_killed_run_leaves_the_last_good_folder_and_is_swept_up(exported: Any, command: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    good = out / ONNX
    good.mkdir()
    (good / "manifest.json").write_bytes((exported.out / ONNX / "manifest.json").read_bytes())
    with _about_to_publish(tmp_path) as process:
        process.kill()
        process.wait(timeout=60)
    assert [path.name for path in good.iterdir()] == ["manifest.json"]
    assert len(list(out.glob(".*.partial"))) == 1
    assert command(*TINY, "--no-cache", "-o", "out").code == 0
    assert [path.name for path in out.iterdir()] == [ONNX]
    assert (good / "ship").is_dir()


_HELD = """
import signal
from export.cli.main import main
from export.folder import atomic
from export.pipeline import finished

def publish(partial, final):
    print(partial.name, final.name, flush=True)
    while True:
        signal.pause()

atomic.publish = publish
finished.find = lambda *_: None  # its stages may come from the cache
finished.keeping = lambda *_: None
main()
"""


@contextmanager
def _about_to_publish(cwd: Path, **environment: str) -> "Iterator[subprocess.Popen[str]]":
    """An export that waits with its complete folder, which bears a partial one's name still."""
    variables = {**os.environ, "PYTHONPATH": SEARCHED, **environment}
    command = [sys.executable, "-c", _HELD, *TINY, "-o", "out"]
    with subprocess.Popen(command, cwd=cwd, env=variables, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            partial, final = process.stdout.readline().split()
            assert final == ONNX
            assert (cwd / "out" / partial / "manifest.json").is_file()
            yield process
        finally:
            process.kill()
