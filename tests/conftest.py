"""What holds for every test: no network, no caches of the person's own, no telemetry, one thread."""

import os
import shutil
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any

import hypothesis
import pytest

# Set here, not in a fixture: the libraries read these when they are imported, which test modules do first.
_CACHE = Path(tempfile.mkdtemp(prefix="vit-export-tests-"))
os.environ |= {
    # A port where nothing listens, for the programs that tests start; the fixture below guards the rest.
    # Not HF_HUB_OFFLINE: it is read once, at import, and would close the servers that tests run themselves.
    "HF_ENDPOINT": "http://127.0.0.1:9",
    "VIT_EXPORT_RELEASES": "http://127.0.0.1:9",
    "VIT_EXPORT_RELEASES_API": "http://127.0.0.1:9",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HOME": str(_CACHE / "huggingface"),
    "TORCH_HOME": str(_CACHE / "torch"),
    "XDG_CACHE_HOME": str(_CACHE),
    "OMP_NUM_THREADS": "1",
    "NO_COLOR": "1",
}
# OpenVINO reports every conversion to its makers unless the reporter cannot be imported.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]

# The machine's speed is no property of the code, and a failure must be seen again by whoever looks into it.
hypothesis.settings.register_profile("repeatable", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("repeatable")


def pytest_unconfigure() -> None:
    shutil.rmtree(_CACHE, ignore_errors=True)


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection to anywhere but this machine fails the test that makes it."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        internet = self.family in (socket.AF_INET, socket.AF_INET6)
        if internet and address[0] not in ("127.0.0.1", "::1", "localhost"):
            self.close()
            pytest.fail(f"a test reached for the network: {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)
