"""`hf-hub:` names against a server on loopback that answers as the hub does."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from safetensors.torch import save
from torch import Tensor

from efficientvit.errors import BadOption, DownloadFailed
from efficientvit.weights.located import repository_of
from efficientvit.weights.source import find_weights

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CONFIG = {
    "architecture": "efficientvit_m0",
    "pretrained_cfg": {"input_size": [3, 64, 64], "mean": [0.5, 0.5, 0.5], "std": 0.5},
}


@dataclass
class Hub:
    """Files by path, what each answers with, and what was asked."""

    files: dict[str, bytes] = field(default_factory=dict)
    etags: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    commit: str = COMMIT

    def put(self, name: str, content: bytes, at: str = "main") -> None:
        for revision in (at, self.commit):
            self.files[f"/me/bees/resolve/{revision}/{name}"] = content


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: dict[str, Tensor]) -> Iterator[Hub]:
    """A repository `me/bees` with weights and config.json."""
    hub = Hub()
    hub.put("model.safetensors", save(state))
    hub.put("config.json", json.dumps(CONFIG).encode())

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Quiet."""

        def do_HEAD(self) -> None:
            self.answer()

        def do_GET(self) -> None:
            content = self.answer()
            hub.asked.append(self.path)
            with suppress(BrokenPipeError, ConnectionResetError):
                self.wfile.write(content)

        def answer(self) -> bytes:
            content = hub.files.get(self.path)
            self.send_response(404 if content is None else 200)
            if content is None:
                self.send_header("X-Error-Code", "EntryNotFound")
                content = b""
            else:
                etag = hub.etags.get(self.path, hashlib.sha256(content).hexdigest())
                self.send_header("X-Repo-Commit", hub.commit)
                self.send_header("ETag", f'"{etag}"')
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            return content

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    for name in ("HF_HUB_OFFLINE", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    yield hub
    server.shutdown()
    server.server_close()
    thread.join()


def test_weights_and_config_of_one_commit(hub: Hub) -> None:
    found = find_weights("hf-hub:me/bees", "m0", None)
    assert found.source.endswith(f"/me/bees/resolve/main/model.safetensors at commit {COMMIT}")
    assert (found.digest_published, found.trained, found.notes) == (True, True, ())
    assert found.suffix == f"me_bees-{found.sha256[:8]}"
    assert {fact.name: fact.value for fact in found.facts}["mean"] == (0.5, 0.5, 0.5)
    assert f"/me/bees/resolve/{COMMIT}/config.json" in hub.asked
    assert repository_of(found.source) == f"hf-hub:me/bees@{COMMIT}"


def test_what_has_not_moved_is_not_fetched_again(hub: Hub) -> None:
    first = find_weights("hf-hub:me/bees", "m0", None)
    hub.asked.clear()
    again = find_weights("hf-hub:me/bees", "m0", None)
    assert (again.sha256, again.facts) == (first.sha256, first.facts)
    assert [path.rpartition("/")[2] for path in hub.asked] == ["config.json"]


def test_what_transformers_writes_of_the_input_is_fetched_too(hub: Hub) -> None:
    hub.put("config.json", json.dumps({"architecture": "efficientvit_m0"}).encode())
    said = {"image_mean": [0.25, 0.5, 0.75], "image_std": [0.5, 0.5, 0.5], "size": {"height": 64, "width": 64}}
    hub.put("preprocessor_config.json", json.dumps(said).encode())
    found = {fact.name: fact.value for fact in find_weights("hf-hub:me/bees", "m0", None).facts}
    assert found["mean"] == (0.25, 0.5, 0.75)
    again = {fact.name: fact.value for fact in find_weights("hf-hub:me/bees", "m0", None).facts}
    assert again == found


def test_a_revision(hub: Hub) -> None:
    hub.put("model.safetensors", hub.files["/me/bees/resolve/main/model.safetensors"], "v2")
    assert "/resolve/v2/" in find_weights("hf-hub:me/bees@v2", "m0", None).source


def test_without_the_hub_the_last_copy_is_taken_and_that_is_said(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    first = find_weights("hf-hub:me/bees", "m0", None)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    again = find_weights("hf-hub:me/bees", "m0", None)
    assert again.sha256 == first.sha256
    assert again.notes == (f"the copy of an earlier time, of commit {COMMIT}: HF_HUB_OFFLINE forbids asking the hub",)
    with pytest.raises(DownloadFailed, match="could not be fetched"):
        find_weights("hf-hub:me/others", "m0", None)


def test_a_repository_of_pickles_without_a_config(hub: Hub, tmp_path: Path, state: dict[str, Tensor]) -> None:
    import torch

    torch.save(state, tmp_path / "x.bin")
    hub.files.clear()
    hub.put("pytorch_model.bin", (tmp_path / "x.bin").read_bytes())
    found = find_weights("hf-hub:me/bees", "m0", None)
    assert found.facts == ()
    assert "pytorch_model.bin" in found.source


def test_bytes_that_are_not_the_published_ones(hub: Hub) -> None:
    for path in [path for path in hub.files if path.endswith(".safetensors")]:
        hub.etags[path] = "0" * 64
    with pytest.raises(DownloadFailed, match="not the published ones"):
        find_weights("hf-hub:me/bees", "m0", None)


def test_no_such_repository(hub: Hub) -> None:
    with pytest.raises(DownloadFailed) as caught:
        find_weights("hf-hub:me/nothing", "m0", None)
    assert "local-dir:" in str(caught.value.next_step)
    with pytest.raises(BadOption, match="names no repository"):
        find_weights("hf-hub:bees", "m0", None)
