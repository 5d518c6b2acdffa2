"""Bad input: exit 2, a message with what, expected, got and the next step, and nothing half-written."""

import os
import pickle
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from efficientvit.size import square
from efficientvit.spec import model_spec
from efficientvit.weights.checkpoint import save_checkpoint
from efficientvit.weights.seeded import seeded

SEEDED = ("m0", "--image-size", "64", "-w", "seeded", "--no-time")


class _Code:
    def __reduce__(self) -> Any:
        return os.system, ("touch executed",)


def _weights(path: Path, change: Callable[[dict[str, torch.Tensor]], object] = lambda state: None) -> None:
    from safetensors.torch import save_file

    state = {
        name: tensor.contiguous() for name, tensor in seeded(model_spec("m0", square(64), 10)).state_dict().items()
    }
    change(state)
    save_file(state, path)


def _tables(second: int, third: int) -> dict[str, torch.Tensor]:
    """Bias tables of the windows 7, `second` and `third`."""
    windows = {"stage1": 7, "stage2": second}
    return {
        name: torch.zeros(len(table), windows.get(name[:6], third) ** 2)
        for name, table in seeded(model_spec("m0", square(64), 10)).state_dict().items()
        if name.endswith("attention.bias")
    }


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every broken file that the table below names."""
    folder = tmp_path_factory.mktemp("broken")
    save_checkpoint(seeded(model_spec("m1", square(64), 10)), folder / "m1.safetensors")
    _weights(folder / "nan.safetensors", lambda state: state["head.linear.bias"].fill_(float("nan")))
    _weights(folder / "missing.safetensors", lambda state: state.pop("head.linear.bias"))
    _weights(folder / "extra.safetensors", lambda state: state.update(surplus=torch.zeros(3)))
    _weights(folder / "misshapen.safetensors", lambda state: state.update({"head.linear.bias": torch.zeros(7)}))
    torch.save(seeded(model_spec("m0", square(64), 10)).state_dict(), folder / "truncated.pth")
    os.truncate(folder / "truncated.pth", 1_000_000)
    (folder / "truncated.safetensors").write_bytes((folder / "nan.safetensors").read_bytes()[:1_000_000])
    (folder / "code.pth").write_bytes(pickle.dumps(_Code()))
    torch.save({"fc.weight": torch.zeros(2, 2)}, folder / "other.pth")
    _weights(folder / "of-112.safetensors", lambda state: state.update(_tables(4, 2)))
    (folder / "bees").mkdir()
    _weights(folder / "bees" / "model.safetensors")
    (folder / "bees" / "config.json").write_text('{"pretrained_cfg": {"mean": 0.5, "std": 0.5, "crop_pct": 0.9}}')
    (folder / "notes").mkdir()
    (folder / "notes" / "notes.jpg").write_text("no image")
    (folder / "empty").mkdir()
    (folder / "a-file").write_text("in the way")
    bomb = folder / "bomb"
    bomb.mkdir()
    Image.new("1", (20000, 20000)).save(bomb / "bomb.png")
    return folder


@pytest.fixture
def files(broken: Path, tmp_path: Path) -> Path:
    """The same in a folder of the test's own."""
    return shutil.copytree(broken, tmp_path / "files", copy_function=os.link)


TABLE: tuple[tuple[tuple[str, ...], str], ...] = (
    (("m9",), "unknown model 'm9'"),
    (("efficientvit_b0",), "unknown model"),
    (("m0", "-t", "tflite"), "unknown target 'tflite'"),
    (("m0", "--image-size", "100"), "image size 100"),
    (("m0", "--image-size", "0"), "image size 0"),
    (("m0", "--image-size", "100000"), "image size 100000"),
    (("m0", "--batch", "0"), "batch '0'"),
    (("m0", "--batch", "-3"), "batch '-3'"),
    (("m0", "-t", "coreml", "--batch", "dynamic"), "no dynamic batch"),
    (("m0", "--opset", "7"), "opset 7"),
    (("m0", "-p", "int3"), "'int3' is not one of"),
    (("m0", "-w", "nothing-of-that-name"), "no weights 'nothing-of-that-name'"),
    (("m0", "-w", "gone.pth"), "no file"),
    (("m0", "-w", "truncated.pth"), "truncated.pth"),
    (("m0", "-w", "truncated.safetensors"), "truncated.safetensors"),
    (("m0", "-w", "code.pth"), "code.pth"),
    (("m0", "-w", "other.pth"), "other.pth"),
    (("m0", "-w", "m1.safetensors"), "m1"),
    (("m0", "-w", "nan.safetensors"), "head.linear.bias"),
    (("m0", "-w", "missing.safetensors"), "head.linear.bias"),
    (("m0", "-w", "extra.safetensors"), "surplus"),
    (("m0", "-w", "misshapen.safetensors"), "head.linear.bias"),
    (("m0", "-w", "of-112.safetensors"), "nothing says which input size"),
    (("m0", "-w", "of-112.safetensors", "--image-size", "112", "--ema"), "no running average"),
    (("m0", "-w", "bees", "--mean", "0.4", "0.4", "0.4"), "contradicts what the checkpoint says"),
    (("m0", "-w", "local-dir:bees", "--resize", "80"), "crop_pct 0.9"),
    (("m0", "-w", "efficientvit_m1.r224_in1k"), "these are weights of m1"),
    ((*SEEDED, "--mean", "123.675", "116.28", "103.53"), "--mean 0.485 0.456 0.406"),
    ((*SEEDED, "-p", "int8", "--calibrate", "notes"), "notes.jpg"),
    ((*SEEDED, "--golden", "gone"), "golden folder"),
    ((*SEEDED, "--golden", "empty"), "empty"),
    ((*SEEDED, "--golden", "bomb"), "bomb.png"),
    ((*SEEDED, "--std", "0", "1", "1"), "std"),
    ((*SEEDED, "--resize", "10"), "resize"),
    ((*SEEDED, "--out", "a-file"), "a-file"),
    (("m0", "--release", "-w", "seeded", "--golden", "empty"), "--release needs trained weights"),
    (("m0", "--release"), "--release needs photos"),
)


@pytest.mark.parametrize(
    ("arguments", "says"), TABLE, ids=lambda value: " ".join(value) if isinstance(value, tuple) else ""
)
def test_is_refused(
    arguments: tuple[str, ...],
    says: str,
    files: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    from export.cli.main import main

    monkeypatch.chdir(files)
    before = sorted(files.rglob("*"))
    monkeypatch.setattr("sys.argv", ["vit-export", *arguments])
    with pytest.raises(SystemExit) as exit_:
        main()
    message = capfd.readouterr().err
    assert exit_.value.code == 2, message
    assert says in message
    if "Usage:" not in message:  # click's own words
        assert "\n  got: " in message or "\n  next: " in message
        assert "\n  next: " in message or "\n  expected: " in message
    made = [path for path in sorted(files.rglob("*")) if path not in before]
    assert [path for path in made if path != files / "exports"] == []
    assert not (files / "executed").exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 300 kB: enough to begin a folder, too little to finish one."""
    mount = tmp_path / "small"
    mount.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", mount], check=False).returncode:
        pytest.skip("mounting needs root")
    yield mount
    subprocess.run(["umount", mount], check=True)


def test_a_full_disk_leaves_the_last_good_folder(small_disk: Path, command: Any) -> None:
    good = small_disk / "m0-64-onnx-fp32-untrained"
    good.mkdir()
    (good / "manifest.json").write_text("the last good one")
    ran = command(*SEEDED, "-o", str(small_disk))
    assert ran.code == 2, ran.err
    assert "No space left" in ran.err
    assert [path.name for path in small_disk.iterdir()] == [good.name]
    assert (good / "manifest.json").read_text() == "the last good one"


def test_a_read_only_disk_is_found_out_before_the_work(small_disk: Path, command: Any) -> None:
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    ran = command(*SEEDED, "-o", str(small_disk))
    assert ran.code == 2
    assert "Read-only file system" in ran.err
    assert "weights:" not in ran.err


def test_one_failing_job_does_not_stop_the_others(tmp_path: Path) -> None:
    from export.exits import Exit, worst
    from export.request.request import Request
    from runtimes.runtime import Evidence
    from tests.running import run_request

    def broken(*_: object) -> Any:
        raise RuntimeError("the converter fell over\nat length")

    request = Request(("m0",), ("openvino", "onnx"), weights="seeded", image_size=square(64), out=tmp_path)
    failed, fine = run_request(request, stages={"openvino": broken})
    assert (failed.status, failed.failed_stage) == ("failed", "openvino")
    assert (failed.timing, fine.timing is None) == (None, False)  # the verified ONNX file before it is no IR
    assert failed.record is not None
    assert failed.record["timing"]["reason"].startswith("stage 'openvino' failed")
    assert "the converter fell over" in str(failed.error)
    assert failed.folder is not None
    assert "at length" in (failed.folder / "evidence" / "log.txt").read_text()
    assert fine.status == "verified"
    codes = [outcome.code(Evidence.REFERENCE) for outcome in (failed, fine)]
    assert codes == [Exit.FAILED, Exit.OK]
    assert worst(codes) is Exit.FAILED
    assert worst([Exit.NOT_VERIFIED, Exit.REJECTED]) is Exit.REJECTED
    assert worst([Exit.REJECTED, Exit.FAILED, Exit.INTERRUPTED]) is Exit.INTERRUPTED
    assert worst([]) is Exit.OK
