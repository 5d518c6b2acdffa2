"""What holds for every test: no network, no caches of the person's own, no telemetry, one thread."""

import contextlib
import gc
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from export.workers.gc_freeze import collector_at_rest
from tests.command_line import SEARCHED
from tests.small_m0 import use

# One for a whole run: pytest-xdist's workers inherit the variable, and one takes from it what another has made.
_VARIABLE = "VIT_EXPORT_TESTS_CACHE"
_OWN = _VARIABLE not in os.environ
_CACHE = Path(tempfile.mkdtemp(prefix="vit-export-tests-") if _OWN else os.environ[_VARIABLE])
# Set here, not in a fixture: the libraries read these when they are imported, which test modules do first.
os.environ |= {
    _VARIABLE: str(_CACHE),
    # A port where nothing listens, for the programs that tests start; the fixture below guards the rest.
    # Not HF_HUB_OFFLINE: it is read once, at import, and would close the servers that tests run themselves.
    "HF_ENDPOINT": "http://127.0.0.1:9",
    "VIT_EXPORT_RELEASES": "http://127.0.0.1:9",
    "VIT_EXPORT_RELEASES_API": "http://127.0.0.1:9",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HOME": str(_CACHE / "huggingface"),
    "TORCH_HOME": str(_CACHE / "torch"),
    "TORCHINDUCTOR_CACHE_DIR": str(_CACHE / "torchinductor"),
    "XDG_CACHE_HOME": str(_CACHE),
    "OMP_NUM_THREADS": "1",
    "NO_COLOR": "1",
    "PYTHONPATH": os.pathsep.join(filter(None, (SEARCHED, os.environ.get("PYTHONPATH")))),
}
# OpenVINO reports every conversion to its makers unless the reporter cannot be imported.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]

gc.set_threshold(5_000, 10, 10)

# The machine's speed is no property of the code, and a failure must be seen again by whoever looks into it.
hypothesis.settings.register_profile("repeatable", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("repeatable")


# What takes longest begins first, so that the last files are short and all workers finish at about the same time.
_FIRST = ("export/selftest", "export/bench", "export/targets", "export/pipeline", "export", "validation", "runtimes")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--reversed", action="store_true", help="last test file first: no file may depend on another")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Sort the files, and keep the order of the tests within each."""
    tests = Path(__file__).parent

    def place(item: pytest.Item) -> int:
        name = item.path.relative_to(tests).as_posix() if item.path.is_relative_to(tests) else ""
        return next((i for i, folder in enumerate(_FIRST) if name.startswith(f"{folder}/")), len(_FIRST))

    files: dict[Path, list[pytest.Item]] = {}
    for item in sorted(items, key=place):
        files.setdefault(item.path, []).append(item)
    order = reversed(files.values()) if config.getoption("--reversed") else files.values()
    items[:] = [item for file in order for item in file]


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Of bytes that are no text how many: an archive has the time in it, and all processes collect the same names."""
    if isinstance(val, bytes) and not val.decode("latin-1").isprintable():
        return f"{argname} of {len(val)} bytes"
    return None


_SMALL = ("export", "validation", "runtimes")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """M0 as the test has it, before any fixture is made."""
    tests = Path(__file__).parent
    inside = item.path.is_relative_to(tests) and item.path.relative_to(tests).parts[0] in _SMALL
    marks = {mark.name for mark in item.iter_markers()}
    use("published" if not inside or "published_m0" in marks else "tiny" if "tiny_m0" in marks else "small")
    _leave_alone(item.path)


_loaded: tuple[Path, int] | None = None
_at_rest = contextlib.ExitStack()  # for as long as the process lives


def _leave_alone(file: Path) -> None:
    """Whenever another file of tests begins, or many modules were imported, the collector looks at what there is once.

    And no more then: libraries hold a million objects, and some have all of them looked at in every conversion.
    """
    global _loaded  # noqa: PLW0603
    if (now := (file, len(sys.modules) // 200)) != _loaded:
        if _loaded is None:
            _at_rest.enter_context(collector_at_rest())
        _loaded = now
        gc.collect()
        gc.freeze()


def pytest_unconfigure() -> None:
    if _OWN:
        shutil.rmtree(_CACHE, ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def one_seeding() -> None:
    """Drawing and calibrating weights takes as long as what many tests ask of them."""
    from tests.seeded_once import seed_once
    from tests.shared import SHARED

    shared = _CACHE / "shared"
    shared.mkdir(exist_ok=True)
    os.environ[SHARED] = str(shared)
    seed_once(shared / "seeded")


@pytest.fixture(autouse=True)
def no_network() -> Iterator[None]:
    """A connection to anywhere but this machine fails the test that makes it."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        internet = self.family in (socket.AF_INET, socket.AF_INET6)
        if internet and address[0] not in ("127.0.0.1", "::1", "localhost"):
            self.close()
            pytest.fail(f"a test reached for the network: {address}")
        connect(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded)
        yield
