"""One file from one source: huggingface_hub for the hub, pooch for a GitHub release.

Both libraries write to a temporary file and rename it, and resume or repeat a broken transfer. What they
lack is a quick failure: they try every address of a host in turn, with a time-out for each, and a resolver has
none at all. So the first question to a source is asked with a deadline of ours.
"""

import json
import re
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar

T = TypeVar("T")
Progress = Callable[[int, int | None], None]

# Three first questions, one after the other, make a host without a network fail within 10 s.
QUESTION_TIMEOUT_S = 3.0
TRANSFER_TIMEOUT_S = 15.0
RELEASE_RETRIES = 2
_SHA256 = re.compile(r"[0-9a-f]{64}")


class SourceFailed(Exception):
    """A source cannot be used, and why; the next one may. `missing`: it answers, and has no such file."""

    def __init__(self, why: str, *, missing: bool = False) -> None:
        super().__init__(why)
        self.missing = missing


@dataclass(frozen=True, slots=True)
class Download:
    """A file that has arrived, not verified yet, and the digest that its source publishes for it."""

    path: Path
    source: str
    published_sha256: str | None
    commit: str | None = None


class _ProgressBar:
    """The part of tqdm that huggingface_hub and pooch use, handing the byte counts on."""

    def __init__(self, progress: Progress | None, total: int | None = None, initial: int = 0, **_: object) -> None:
        self.progress = progress
        self.total = total
        self.n = initial

    def update(self, count: float | None = 1) -> None:
        self.n += int(count or 0)
        if self.progress is not None:
            # pooch counts whole chunks, so the last one overshoots.
            self.progress(self.n if not self.total else min(self.n, self.total), self.total or None)

    def update_transfer(self, count: float | None = 1) -> None:
        """Bytes on the wire, which the hub counts in addition to those of the file."""

    def reset(self) -> None:
        self.n = 0

    def close(self) -> None:
        """Nothing to close; huggingface_hub and pooch both call it."""

    def refresh(self) -> None:
        """Nothing is drawn."""

    def set_postfix_str(self, text: str, refresh: bool = False) -> None:
        """Nothing is drawn."""

    set_transfer_postfix_str = set_postfix_str

    def __enter__(self) -> "_ProgressBar":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def from_hub(
    endpoint: str,
    repository: str,
    filename: str,
    cache: Path,
    progress: Progress | None = None,
    revision: str | None = None,
    intact_at: str | None = None,
) -> Download:
    """`filename` of a public model repository, at the commit that `revision` (its main branch) is at now.

    `intact_at`: the commit of which the cache has an intact copy, that need not be fetched again.

    Raises:
        SourceFailed: the hub cannot be reached, does not have the file, or breaks off for good.
    """
    import huggingface_hub
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, XetDownloadError

    # The base class of all errors of its HTTP client, which is httpx or, in later releases, httpx2.
    http_error: type[BaseException] = HfHubHTTPError.__bases__[0]
    url = huggingface_hub.hf_hub_url(repository, filename, endpoint=endpoint, revision=revision)

    class Bar(_ProgressBar):
        def __init__(self, *_: object, **options: Any) -> None:
            super().__init__(progress, **options)

    try:
        # No token: the weights are public, and a mirror has no business with the user's credentials.
        about = _within(
            QUESTION_TIMEOUT_S,
            lambda: huggingface_hub.get_hf_file_metadata(
                url, token=False, timeout=QUESTION_TIMEOUT_S, endpoint=endpoint
            ),
        )
        digest = about.etag if about.etag and _SHA256.fullmatch(about.etag) else None
        path = huggingface_hub.hf_hub_download(
            repository,
            filename,
            revision=about.commit_hash,
            cache_dir=cache,
            etag_timeout=QUESTION_TIMEOUT_S,
            token=False,
            endpoint=endpoint,
            # Nothing would be fetched if our cache had an intact copy: what lies there is damaged.
            force_download=about.commit_hash != intact_at,
            tqdm_class=Bar,
        )
    except (OSError, ValueError, RuntimeError, http_error, XetDownloadError) as error:
        missing = isinstance(error, EntryNotFoundError)
        raise SourceFailed(f"{url}: {_reason(error)}", missing=missing) from error
    return Download(Path(path), f"{url} at commit {about.commit_hash}", digest, about.commit_hash)


def from_release(base: str, description: str, filename: str, cache: Path, progress: Progress | None = None) -> Download:
    """`filename` from below `base`; its digest from GitHub's JSON `description` of the release, if any.

    Raises:
        SourceFailed: the server cannot be reached, does not have the file, or breaks off for good.
    """
    import pooch

    url = f"{base}/{filename}"
    pooch.get_logger().setLevel("WARNING")  # it announces every download on stderr
    cache.mkdir(parents=True, exist_ok=True)
    (cache / filename).unlink(missing_ok=True)  # pooch would keep a damaged one for want of a digest
    fetcher = pooch.create(cache, base + "/", registry={filename: None}, retry_if_failed=RELEASE_RETRIES)
    downloader = pooch.HTTPDownloader(
        progressbar=_ProgressBar(progress),
        chunk_size=1 << 16,
        timeout=(QUESTION_TIMEOUT_S, TRANSFER_TIMEOUT_S),
    )
    try:
        _within(QUESTION_TIMEOUT_S, lambda: _open(url))
        digest = _release_digest(description, filename)
        path = fetcher.fetch(filename, downloader=downloader)
    except (OSError, ValueError) as error:
        raise SourceFailed(f"{url}: {_reason(error)}") from error
    return Download(Path(path), url, digest)


def _release_digest(description: str, filename: str) -> str | None:
    """The SHA-256 that the release publishes for an asset; None where it has none or cannot be asked."""
    try:
        release = json.loads(_within(QUESTION_TIMEOUT_S, lambda: _open(description, 1 << 20)))
        digests = {asset["name"]: asset.get("digest") for asset in release["assets"]}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # the description is rate-limited, the file is not: it is then said to be unverified
    digest = str(digests.get(filename) or "").removeprefix("sha256:")
    return digest if _SHA256.fullmatch(digest) else None


def _open(url: str, read_bytes: int = 0) -> bytes:
    """The first bytes of what `url` answers with; urllib.error.HTTPError, an OSError, for 4xx and 5xx."""
    try:
        # The address is built in or the user's own setting: no one else chose it, whatever its scheme.
        with urllib.request.urlopen(url, timeout=QUESTION_TIMEOUT_S) as response:  # noqa: S310
            body: bytes = response.read(read_bytes) if read_bytes else b""
    except urllib.error.HTTPError as error:
        error.close()  # it holds the connection
        raise
    return body


def _within(seconds: float, question: Callable[[], T]) -> T:
    """The answer to `question`, whose own errors pass through; TimeoutError when it takes longer.

    A daemon thread: one that hangs in a resolver cannot be stopped, and must not keep Python from exiting.
    """
    answer: Future[T] = Future()

    def ask() -> None:
        try:
            answer.set_result(question())
        except BaseException as error:  # noqa: BLE001 (handed to the thread that asked, not swallowed)
            answer.set_exception(error)

    Thread(target=ask, daemon=True).start()
    try:
        return answer.result(timeout=seconds)
    except TimeoutError as error:
        raise TimeoutError(f"no answer within {seconds:g} s") from error


def _reason(error: BaseException) -> str:
    """The first line of an error's text, or its class where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
