"""Published weights, fetched once, verified against a published digest, and kept in a cache.

Two sources, tried in this order: timm's safetensors on the Hugging Face hub, then the authors' release on
GitHub. Nothing is trusted for having arrived: the bytes on disk are hashed and compared with what the source
publishes. A release without a published digest is said to be one; a digest recorded at the first download
would only prove that the file has not changed since.

Environment: `XDG_CACHE_HOME`, `HF_ENDPOINT`, `HF_HUB_OFFLINE`, `VIT_EXPORT_RELEASES` and
`VIT_EXPORT_RELEASES_API` (base addresses of the GitHub release and of its description).
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec

from efficientvit.digests import file_digest
from efficientvit.errors import DownloadFailed
from efficientvit.files import replace_file
from efficientvit.spec import PUBLISHED_TAG, model_spec
from efficientvit.weights.downloads import Download, Progress, SourceFailed, from_hub, from_release

_HUB = "https://huggingface.co"
_RELEASES = "https://github.com/xinyuliu-jeffrey/EfficientViT_Model_Zoo/releases/download/v1.0"
_RELEASES_API = "https://api.github.com/repos/xinyuliu-jeffrey/EfficientViT_Model_Zoo/releases/tags/v1.0"


@dataclass(frozen=True, slots=True)
class PretrainedFile:
    """Weights on disk.

    `source` is the address they came from; `sha256` is that of the bytes on disk; `digest_published` says
    whether the source publishes that digest, so that it was verified against something.
    """

    model: str
    path: Path
    source: str
    sha256: str
    digest_published: bool


def cache_folder() -> Path:
    """Where downloads are kept: `$XDG_CACHE_HOME/vit-export`, or `~/.cache/vit-export`."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "vit-export"


def cached_pretrained(model: str) -> PretrainedFile | None:
    """The weights of `model` if an earlier fetch left them intact; touches no network.

    The file is hashed again: one that has changed since it was verified is none.

    Raises:
        UnknownModel: `model` is none of the family's.
    """
    name = model_spec(model).name
    try:
        receipt = _receipt(name).read_bytes()
        file = msgspec.json.decode(receipt, type=PretrainedFile, dec_hook=lambda _, path: Path(path))
        return file if file_digest(file.path) == file.sha256 else None
    except (OSError, ValueError, TypeError):
        return None  # no receipt, or not one that we wrote: as good as never fetched


def fetch_pretrained(model: str, *, progress: Progress | None = None) -> PretrainedFile:
    """The published ImageNet-1k weights of `model` at 224: cached, or from the first source that has them.

    Args:
        model: `m0` to `m5`.
        progress: called with (bytes so far, bytes in all or None) as a download goes on.

    Raises:
        UnknownModel: `model` is none of the family's.
        DownloadFailed: no source can be reached, or what came does not match its published digest.
    """
    name = model_spec(model).name
    if cached := cached_pretrained(name):
        return cached
    next_step = "give a file with `-w FILE`, or use `-w seeded`, which needs no network"
    if offline():
        raise DownloadFailed(
            f"the weights of {name} are not in the cache, and HF_HUB_OFFLINE forbids fetching them",
            expected=f"an earlier download below {cache_folder()}",
            next_step=f"unset HF_HUB_OFFLINE, or {next_step}",
        )
    failures = []
    for source in (_hub, _release):
        try:
            download = source(name, progress)
        except SourceFailed as failure:
            failures.append(str(failure))
        else:
            verify(download, f"the weights of {name}", next_step)
            return _received(name, download)
    raise DownloadFailed(f"the weights of {name} could not be fetched", got="; ".join(failures), next_step=next_step)


def hub_endpoint() -> str:
    """Of the Hugging Face hub: `$HF_ENDPOINT`, or the hub itself."""
    return (os.environ.get("HF_ENDPOINT") or _HUB).rstrip("/")


def offline() -> bool:
    """`$HF_HUB_OFFLINE` forbids downloads."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}


def verify(download: Download, what: str, next_step: str) -> str:
    """The SHA-256 of what arrived, which is the published one where one is published.

    Raises:
        DownloadFailed: it is not; the file is deleted.
    """
    sha256 = file_digest(download.path)
    if download.published_sha256 in (None, sha256):
        return sha256
    # In the hub's cache the path is a link to the bytes: both go.
    download.path.resolve().unlink(missing_ok=True)
    download.path.unlink(missing_ok=True)
    raise DownloadFailed(
        f"{what} from {download.source} are not the published ones; the file was deleted",
        expected=f"SHA-256 {download.published_sha256}",
        got=f"SHA-256 {sha256}",
        next_step=f"try again; if it stays, something alters the download: {next_step}",
    )


def _hub(name: str, progress: Progress | None) -> Download:
    repository = f"timm/efficientvit_{name}{PUBLISHED_TAG}"
    return from_hub(hub_endpoint(), repository, "model.safetensors", cache_folder() / "hub", progress)


def _release(name: str, progress: Progress | None) -> Download:
    base = os.environ.get("VIT_EXPORT_RELEASES") or _RELEASES
    description = os.environ.get("VIT_EXPORT_RELEASES_API") or _RELEASES_API
    return from_release(
        base.rstrip("/"), description, f"efficientvit_{name}.pth", cache_folder() / "releases", progress
    )


def _received(name: str, download: Download) -> PretrainedFile:
    published = download.published_sha256 is not None
    file = PretrainedFile(name, download.path, download.source, file_digest(download.path), published)
    receipt = json.dumps(asdict(file), default=str, indent=1)
    replace_file(_receipt(name), lambda part: part.write_text(receipt))
    return file


def _receipt(name: str) -> Path:
    return cache_folder() / f"{name}.json"
