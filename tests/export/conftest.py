"""Real exports of a tiny model through the command line, made once and copied by the tests that spoil them."""

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from filelock import FileLock

from efficientvit.size import square
from export.targets.registry import BUILT_IN
from tests.command_line import Ran, in_a_process, in_this_process
from tests.integer_cpu import INT8_HERE
from tests.reported_once import reported_once
from tests.shared import SHARED
from tests.timed_briefly import timed_briefly
from tests.traced_once import trace_once
from tests.verdicts import Switch, judged_once

if TYPE_CHECKING:
    from runtimes.artifact import Artifact

TINY = ("m0", "--image-size", "64", "-w", "seeded", "--no-time")

INSTALLED = tuple(name for name, target in BUILT_IN.items() if any(map(find_spec, target.packages)))
EVERY = ("-t", "all") if len(INSTALLED) == len(BUILT_IN) else tuple(part for name in INSTALLED for part in ("-t", name))
"""Every target that can be made here."""

Command = Callable[..., Ran]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """No verdict is taken from the store in a test that replaces anything."""
    Switch.on = "monkeypatch" not in getattr(item, "fixturenames", ())


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """`vit-export ARGUMENTS` in an empty folder. Environment variables by name."""
    return lambda *arguments, **environment: in_this_process(arguments, tmp_path, **environment)


@pytest.fixture
def command_process(tmp_path: Path) -> Command:
    """The same in a process of its own: for what no test could see otherwise, as each costs some seconds."""
    return lambda *arguments, **environment: in_a_process(arguments, tmp_path, **environment)


@pytest.fixture(autouse=True)
def signal_handlers() -> Iterator[None]:
    """The command line installs its own, which are no business of the next test's."""
    signals = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in signals]
    yield
    for number, handler in zip(signals, before, strict=True):
        signal.signal(number, handler)


@pytest.fixture(scope="session", autouse=True)
def one_trace() -> None:
    """A trace takes half of a tiny export's time, and its graph is the same for all weights."""
    trace_once(Path(os.environ[SHARED]) / "traced")


@pytest.fixture(scope="session", autouse=True)
def one_evaluation() -> Iterator[None]:
    """What PyTorch answers is kept for all tests, whichever cache an export of theirs looks into."""
    from export.bench import entries
    from export.cache.store import Cache
    from export.pipeline import run, stage_cache
    from export.pipeline.stage_cache import Evaluations
    from validation.reference.memo import remembering

    kept = Evaluations(Cache(Path(os.environ[SHARED]) / "evaluated"))
    with pytest.MonkeyPatch.context() as patch, remembering(kept):
        for module in (run, stage_cache, entries):
            patch.setattr(module, "evaluations", lambda _: kept)
        yield


@pytest.fixture(scope="session", autouse=True)
def one_verdict() -> Iterator[None]:
    """On each healthy file."""
    with judged_once(Path(os.environ[SHARED]) / "judged"):
        yield


@pytest.fixture(scope="session", autouse=True)
def one_report() -> Iterator[None]:
    """Of each healthy file, in what takes long of it; and what is timed is timed briefly."""
    with reported_once(Path(os.environ[SHARED]) / "reported"), timed_briefly():
        yield


@pytest.fixture(scope="session", autouse=True)
def one_process() -> Iterator[None]:
    """Where a test does not ask for `--jobs 2`: a worker process imports all libraries anew, and knows nothing."""
    from export.pipeline import tasks

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tasks, "default_at_once", lambda: 1)
        yield


@pytest.fixture
def no_blame() -> Iterator[None]:
    """The layer at fault is not looked for, which takes long. Verdicts are as ever, so that this asks for no others."""
    from export.pipeline import judging
    from validation.blame.ranking import Blame

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judging, "blame_artifact", lambda *_, **__: Blame(()))
        yield


def _shared(factory: pytest.TempPathFactory) -> Path:
    """The folder of all of pytest-xdist's processes."""
    root = factory.getbasetemp()
    return root.parent if "PYTEST_XDIST_WORKER" in os.environ else root


@dataclass(frozen=True)
class Exported:
    """What one command made: the folder of exports, what it printed, and its manifests by slug."""

    out: Path
    ran: Ran

    def manifest(self, slug: str) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.out / slug / "manifest.json").read_text())
        return content


def _once(
    factory: pytest.TempPathFactory,
    name: str,
    arguments: Sequence[str],
    out: str = "out",
    run: Callable[[Sequence[str], Path], Ran] = in_this_process,
) -> Exported:
    """What the command makes, made by whichever of pytest-xdist's processes needs it first. No test changes it."""
    root = _shared(factory)
    folder, told = root / name, root / name / "ran.json"
    with FileLock(root / f"{name}.lock"):
        if not told.exists():
            folder.mkdir(exist_ok=True)  # of one whose command was stopped
            told.write_text(json.dumps(asdict(run([*arguments, "-o", out], folder))))
    return Exported(folder / out, Ran(**json.loads(told.read_text())))


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Every target once, one after the other, by a process of its own, as JSON."""
    return _once(tmp_path_factory, "first", [*TINY, *EVERY, "--jobs", "1", "--json"], run=in_a_process)


@pytest.fixture(scope="session")
def exported_rectangle(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Every target for images of 64 x 96."""
    options = ["--image-size", "64x96", "-w", "seeded", "--no-time", *EVERY, "--jobs", "1"]
    return _once(tmp_path_factory, "rectangle", ["m0", *options, "--json"])


@pytest.fixture(scope="session")
def exported_int8(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """An engine with quantized activations, calibrated on the golden images, as JSON."""
    options = ["-t", "tensorrt", "-p", "int8", "--calibrate", "golden", "--sm", "89"]
    return _once(tmp_path_factory, "int8", [*TINY, *options, "--json"])


@pytest.fixture(scope="session")
def exported_unsigned(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """An ONNX file in int8, calibrated on the golden images, as JSON."""
    options = ["-t", "onnx", *INT8_HERE, "--calibrate", "golden"]
    return _once(tmp_path_factory, "unsigned", [*TINY, *options, "--json"])


@pytest.fixture
def float_onnx(exported_unsigned: Exported, tmp_path: Path) -> "Artifact":
    """The file that `exported_unsigned` was made of."""
    from efficientvit.spec import model_spec
    from runtimes.artifact import Artifact, Format
    from runtimes.onnx.graph import load_onnx, write_onnx
    from runtimes.onnx.qdq import without_quantizers

    plain = tmp_path / "plain.onnx"
    (path,) = exported_unsigned.out.glob("*/ship/*.onnx")
    write_onnx(without_quantizers(load_onnx(path)), plain)
    return Artifact.on_disk(plain, Format.ONNX, model_spec("m0", square(64)), made_by="simplify")


@pytest.fixture(scope="session")
def exported_int8_ir(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """An IR in int8, calibrated on the golden images, as JSON; at 64 pixels it would cost all of its budget."""
    options = ["-w", "seeded", "--no-time", "-t", "openvino", "-p", "int8", "--calibrate", "golden"]
    return _once(tmp_path_factory, "int8-ir", ["m0", "--image-size", "96", *options, "--json"])


@pytest.fixture(scope="session")
def exported_again(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """The same by processes that share nothing, side by side, from another working directory, with `cache` there."""

    def run(arguments: Sequence[str], folder: Path) -> Ran:
        scratch = folder / "scratch"
        scratch.mkdir(exist_ok=True)
        own = {SHARED: "", "XDG_CACHE_HOME": str(folder / "cache"), "TMPDIR": str(scratch)}
        return in_a_process(arguments, folder, **own)

    return _once(tmp_path_factory, "second", [*TINY, *EVERY, "--jobs", "2", "--json"], "a", run)


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
