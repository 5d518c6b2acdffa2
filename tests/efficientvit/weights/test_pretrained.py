"""Downloads against real HTTP servers on loopback that answer as the hub and GitHub do."""

import hashlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from efficientvit.errors import DownloadFailed, UnknownModel
from efficientvit.weights import downloads
from efficientvit.weights.pretrained import cached_pretrained, fetch_pretrained

BYTES = bytes(range(256)) * 2000  # 512,000: several chunks
DIGEST = hashlib.sha256(BYTES).hexdigest()
COMMIT = "0123456789abcdef0123456789abcdef01234567"
HUB_PATH = "/timm/efficientvit_m0.r224_in1k/resolve/"
RELEASE_PATH = "/releases/efficientvit_m0.pth"
API_PATH = "/api"


@dataclass
class Site:
    """What the server serves, how it misbehaves, and what it was asked."""

    url: str = ""
    hub: bool = True
    release: bool = True
    digest: str = DIGEST
    etag: str | None = None
    asset: dict[str, object] = field(default_factory=lambda: {"digest": f"sha256:{DIGEST}"})
    api_status: int = 200
    breaks: int = 0
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)

    def gets(self, path: str) -> list[str | None]:
        """The Range of every GET below `path`."""
        return [range_ for method, asked, range_ in self.asked if method == "GET" and asked.startswith(path)]


def _handler(site: Site) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Quiet."""

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, body: bool) -> None:
            range_ = self.headers["Range"]
            site.asked.append((self.command, self.path, range_))
            if self.path.startswith(HUB_PATH) and site.hub:
                etag = site.etag or site.digest
                linked = {
                    "X-Repo-Commit": COMMIT,
                    "X-Linked-Etag": f'"{etag}"',
                    "X-Linked-Size": str(len(BYTES)),
                }
                self.send(BYTES, body, linked | {"ETag": f'"{etag}"'}, range_)
            elif self.path == RELEASE_PATH and site.release:
                self.send(BYTES, body, {}, range_)
            elif self.path == API_PATH:
                assets = [{"name": "other.pth"}, {"name": "efficientvit_m0.pth", **site.asset}]
                self.send(json.dumps({"assets": assets}).encode(), body, {}, None, site.api_status)
            else:
                self.send(b"Not Found", body, {}, None, 404)

        def send(
            self, content: bytes, body: bool, headers: dict[str, str], range_: str | None, status: int = 200
        ) -> None:
            start = int(range_.removeprefix("bytes=").split("-")[0]) if range_ else 0
            self.send_response(206 if range_ else status)
            if range_:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            for name, value in {**headers, "Content-Length": str(len(content) - start)}.items():
                self.send_header(name, value)
            self.end_headers()
            if not body:
                return
            rest = content[start:]
            if content is BYTES and site.breaks and not self.first_question():
                site.breaks -= 1
                self.wfile.write(rest[: len(rest) // 2])
                self.close_connection = True
                return
            with suppress(BrokenPipeError, ConnectionResetError):  # the first question reads no body
                self.wfile.write(rest)

        def first_question(self) -> bool:
            return self.path == RELEASE_PATH and len(site.gets(RELEASE_PATH)) == 1

    return Handler


def _environment(monkeypatch: pytest.MonkeyPatch, cache: Path, url: str) -> None:
    for name in ("HF_HUB_OFFLINE", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.setenv("HF_ENDPOINT", url)
    monkeypatch.setenv("VIT_EXPORT_RELEASES", f"{url}/releases")
    monkeypatch.setenv("VIT_EXPORT_RELEASES_API", f"{url}{API_PATH}")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A server that is the hub, the release and GitHub's API in one."""
    site = Site()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(site))
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    site.url = f"http://127.0.0.1:{server.server_port}"
    _environment(monkeypatch, tmp_path / "cache", site.url)
    yield site
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def free_port() -> int:
    """A port of loopback where nothing listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return int(unused.getsockname()[1])


def _files_with_content(folder: Path) -> list[Path]:
    return [p for p in folder.rglob("*") if p.is_file() and p.read_bytes() == BYTES]


def test_from_the_hub(site: Site, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    file = fetch_pretrained("M0", progress=lambda done, total: seen.append((done, total)))
    assert file.path.read_bytes() == BYTES
    assert file.path.is_relative_to(tmp_path / "cache" / "vit-export")
    assert (file.model, file.sha256, file.digest_published) == ("m0", DIGEST, True)
    assert file.source.startswith(site.url + HUB_PATH)
    assert COMMIT in file.source
    assert seen[-1] == (len(BYTES), len(BYTES))
    assert seen == sorted(seen)
    assert not site.gets("/releases")


def test_the_second_time_asks_nobody(site: Site, capfd: pytest.CaptureFixture[str]) -> None:
    assert cached_pretrained("m0") is None
    first = fetch_pretrained("m0")
    site.asked.clear()
    assert fetch_pretrained("m0") == cached_pretrained("efficientvit_m0") == first
    assert site.asked == []
    assert cached_pretrained("m1") is None
    assert capfd.readouterr() == ("", "")


def test_offline_takes_the_cache_or_fails(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DownloadFailed, match="HF_HUB_OFFLINE"):
        fetch_pretrained("m0")
    assert site.asked == []
    monkeypatch.delenv("HF_HUB_OFFLINE")
    file = fetch_pretrained("m0")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert fetch_pretrained("m0") == file


@pytest.mark.parametrize("hub", [True, False])
def test_a_wrong_digest_deletes_the_file(hub: bool, site: Site, tmp_path: Path) -> None:
    site.hub, site.digest = hub, "0" * 64
    site.asset = {"digest": "sha256:" + "0" * 64}
    with pytest.raises(DownloadFailed, match="not the published ones") as caught:
        fetch_pretrained("m0")
    assert caught.value.expected == "SHA-256 " + "0" * 64
    assert caught.value.got == f"SHA-256 {DIGEST}"
    assert _files_with_content(tmp_path) == []
    assert cached_pretrained("m0") is None
    if hub:  # altered bytes are no reason to try elsewhere as if nothing had happened
        assert not site.gets("/releases")


def test_a_broken_transfer_from_the_hub_is_resumed(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    # The library resumes by whole chunks, of 10 MB unless told otherwise.
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1 << 16)
    site.breaks = 1
    assert fetch_pretrained("m0").sha256 == DIGEST
    first, second = site.gets(HUB_PATH)
    assert first is None
    assert second == f"bytes={len(BYTES) // 2 // (1 << 16) * (1 << 16)}-"


def test_a_broken_transfer_from_the_release_is_repeated(site: Site) -> None:
    site.hub, site.breaks = False, 1
    file = fetch_pretrained("m0")
    assert file.path.read_bytes() == BYTES
    assert len(site.gets(RELEASE_PATH)) == 3  # the first question, the broken transfer, the whole one


def test_a_transfer_that_always_breaks(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "RELEASE_RETRIES", 0)
    site.hub, site.breaks = False, 99
    with pytest.raises(DownloadFailed):
        fetch_pretrained("m0")
    assert [p for p in (tmp_path / "cache").rglob("*") if p.is_file()] == []


def test_the_release_stands_in_for_the_hub(site: Site, capfd: pytest.CaptureFixture[str]) -> None:
    site.hub = False
    seen: list[tuple[int, int | None]] = []
    file = fetch_pretrained("m0", progress=lambda done, total: seen.append((done, total)))
    assert (file.source, file.sha256, file.digest_published) == (site.url + RELEASE_PATH, DIGEST, True)
    assert file.path.name == "efficientvit_m0.pth"
    assert seen[-1] == (len(BYTES), len(BYTES))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("asset", "status"), [({}, 200), ({"digest": None}, 200), ({"digest": "md5:00"}, 200), ({}, 403)]
)
def test_a_release_without_a_digest_is_said_to_be_one(asset: dict[str, object], status: int, site: Site) -> None:
    site.hub, site.asset, site.api_status = False, asset, status
    file = fetch_pretrained("m0")
    assert (file.sha256, file.digest_published) == (DIGEST, False)
    assert cached_pretrained("m0") == file


def test_a_hub_file_outside_lfs_has_no_published_digest(site: Site) -> None:
    site.etag = "a" * 40  # Git's SHA-1, as small files have it
    assert fetch_pretrained("m0").digest_published is False


@pytest.mark.parametrize("hub", [True, False])
def test_a_cached_file_that_changed_is_fetched_again(hub: bool, site: Site) -> None:
    site.hub = hub
    file = fetch_pretrained("m0")
    file.path.write_bytes(b"something else")
    assert cached_pretrained("m0") is None
    assert fetch_pretrained("m0") == file
    assert file.path.read_bytes() == BYTES


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"path": 3}', "\x00"])
def test_a_damaged_receipt_is_no_receipt(text: str, site: Site, tmp_path: Path) -> None:
    file = fetch_pretrained("m0")
    (tmp_path / "cache" / "vit-export" / "m0.json").write_text(text)
    assert cached_pretrained("m0") is None
    assert fetch_pretrained("m0") == file


def test_neither_source_has_it(site: Site) -> None:
    site.hub = site.release = False
    with pytest.raises(DownloadFailed, match="could not be fetched") as caught:
        fetch_pretrained("m0")
    message = str(caught.value)
    assert HUB_PATH in message
    assert RELEASE_PATH in message
    assert "404" in message
    assert "-w FILE" in message
    assert "-w seeded" in message


def test_no_server(free_port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _environment(monkeypatch, tmp_path, f"http://127.0.0.1:{free_port}")
    start = time.monotonic()
    with pytest.raises(DownloadFailed) as caught:
        fetch_pretrained("m0")
    assert time.monotonic() - start < 10
    assert "timm/efficientvit_m0" in str(caught.value.got)
    assert "efficientvit_m0.pth" in str(caught.value.got)


def test_servers_that_never_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "QUESTION_TIMEOUT_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        _environment(monkeypatch, tmp_path, f"http://127.0.0.1:{silent.getsockname()[1]}")
        start = time.monotonic()
        with pytest.raises(DownloadFailed):
            fetch_pretrained("m0")
        assert time.monotonic() - start < 10  # twice 0.3 s, and the imports of a busy host


def test_a_question_is_bounded_whatever_it_hangs_in() -> None:
    with pytest.raises(TimeoutError, match=r"no answer within 0\.05 s"):
        downloads._within(0.05, lambda: time.sleep(0.5))
    assert downloads._within(5, lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        downloads._within(5, lambda: 1 // 0)


@pytest.mark.parametrize("call", [fetch_pretrained, cached_pretrained])
def test_an_unknown_model(call: Callable[[str], object]) -> None:
    with pytest.raises(UnknownModel):
        call("b0")


def test_importing_loads_nothing_heavy() -> None:
    heavy = "{'torch', 'numpy', 'huggingface_hub', 'pooch', 'requests'}"
    script = f"import sys, efficientvit.weights.pretrained; print(*({heavy} & sys.modules.keys()))"
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
