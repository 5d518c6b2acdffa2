"""Real exports of a tiny model through the command line, made once and copied by the tests that spoil them."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from filelock import FileLock

if TYPE_CHECKING:
    from runtimes.artifact import Artifact

ROOT = Path(__file__).parents[2]
TINY = ("m0", "--image-size", "64", "-w", "seeded", "--no-time")


@dataclass(frozen=True)
class Ran:
    """One run of the command."""

    code: int
    out: str
    err: str


def _run(arguments: Sequence[str], cwd: Path, **environment: str) -> Ran:
    command = [sys.executable, "-m", "export", *arguments]
    variables = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    done = subprocess.run(command, cwd=cwd, env=variables, capture_output=True, text=True, check=False, timeout=240)
    return Ran(done.returncode, done.stdout, done.stderr)


Command = Callable[..., Ran]


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """`vit-export ARGUMENTS` in a process of its own, in an empty folder."""
    return lambda *arguments, **environment: _run(arguments, tmp_path, **environment)


@dataclass(frozen=True)
class Exported:
    """What one command made: the folder of exports, what it printed, and its manifests by slug."""

    out: Path
    ran: Ran

    def manifest(self, slug: str) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.out / slug / "manifest.json").read_text())
        return content


def _once(factory: pytest.TempPathFactory, name: str, arguments: Sequence[str], out: str = "out") -> Exported:
    """What the command makes, made by whichever of pytest-xdist's processes needs it first. No test changes it."""
    root = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    folder, told = root / name, root / name / "ran.json"
    with FileLock(root / f"{name}.lock"):
        if not told.exists():
            folder.mkdir(exist_ok=True)  # of one whose command was stopped
            told.write_text(json.dumps(asdict(_run([*arguments, "-o", out], folder))))
    return Exported(folder / out, Ran(**json.loads(told.read_text())))


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Every target once, as JSON."""
    return _once(tmp_path_factory, "first", [*TINY, "-t", "all", "--json"])


@pytest.fixture(scope="session")
def exported_int8(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """An engine with quantized activations, calibrated on the golden images, as JSON."""
    options = ["-t", "tensorrt", "-p", "int8", "--calibrate", "golden", "--sm", "89"]
    return _once(tmp_path_factory, "int8", [*TINY, *options, "--json"])


@pytest.fixture(scope="session")
def exported_unsigned(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """An ONNX file in int8, calibrated on the golden images, as JSON."""
    options = ["-t", "onnx", "-p", "int8", "--calibrate", "golden"]
    return _once(tmp_path_factory, "unsigned", [*TINY, *options, "--json"])


@pytest.fixture
def float_onnx(exported_unsigned: Exported, tmp_path: Path) -> "Artifact":
    """The float32 file that `exported_unsigned` was made of."""
    from efficientvit.spec import model_spec
    from export.targets.onnx.trace import write_onnx
    from runtimes.artifact import Artifact, Format
    from runtimes.onnx.graph import load_onnx
    from runtimes.onnx.qdq import without_quantizers

    plain = tmp_path / "plain.onnx"
    (path,) = exported_unsigned.out.glob("*/ship/*.onnx")
    write_onnx(without_quantizers(load_onnx(path)), plain)
    return Artifact.on_disk(plain, Format.ONNX, model_spec("m0", 64), made_by="simplify")


@pytest.fixture(scope="session")
def exported_int8_ir(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """An IR in int8, calibrated on the golden images, as JSON; at 64 pixels it would cost all of its budget."""
    options = ["-w", "seeded", "--no-time", "-t", "openvino", "-p", "int8", "--calibrate", "golden"]
    return _once(tmp_path_factory, "int8-ir", ["m0", "--image-size", "96", *options, "--json"])


@pytest.fixture(scope="session")
def exported_again(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """The same from another process and working directory, without the JSON."""
    return _once(tmp_path_factory, "second", [*TINY, "-t", "all", "--no-cache", "--jobs", "1"], "o")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium, where the system has it."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no Chromium on this machine: the page was not looked at in a browser")
    from playwright.sync_api import sync_playwright

    quiet = ["--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
    with sync_playwright() as play:
        opened = play.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--no-first-run", *quiet])
        yield opened
        opened.close()
