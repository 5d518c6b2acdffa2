"""`hf-hub:owner/name[@revision]`: the checkpoint of a public model repository of the Hugging Face hub.

The weights, verified against the digest that the hub publishes, and the `config.json` and `preprocessor_config.json`
beside them are fetched at one commit, and kept in the cache. The hub is asked each time, as a branch moves; without it,
or with `HF_HUB_OFFLINE`, the copy of the last time is taken, and that is said. `HF_ENDPOINT` names a mirror.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import msgspec

from efficientvit.digests import file_digest
from efficientvit.errors import BadOption, DownloadFailed
from efficientvit.files import replace_file
from efficientvit.weights.declared import CONFIG, PROCESSOR
from efficientvit.weights.downloads import Download, Progress, SourceFailed, from_hub
from efficientvit.weights.located import HUB, Located
from efficientvit.weights.pretrained import cache_folder, hub_endpoint, offline, verify

_NAMED = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")


@dataclass(frozen=True, slots=True)
class HubFiles:
    """A repository's checkpoint on disk, as it was at `commit`."""

    weights: str
    config: str | None
    source: str
    sha256: str
    digest_published: bool
    commit: str | None
    processor: str | None = None

    @property
    def intact(self) -> bool:
        """The weights are the bytes that arrived."""
        try:
            return file_digest(Path(self.weights)) == self.sha256
        except OSError:
            return False

    def located(self, repository: str) -> Located:
        """The files, under the repository's name."""
        config, processor = (None if each is None else Path(each) for each in (self.config, self.processor))
        return Located((Path(self.weights),), config, repository.replace("/", "_"), processor)


def fetch_from_hub(option: str, progress: Progress | None = None) -> tuple[HubFiles, Located, tuple[str, ...]]:
    """What `hf-hub:owner/name[@revision]` names, and notes for people.

    Raises:
        BadOption: that is no name of a repository.
        DownloadFailed: the hub has no such checkpoint or is unavailable, and there is no copy of an earlier time.
    """
    named = _NAMED.fullmatch(option.removeprefix(HUB))
    if named is None:
        raise BadOption(
            f"'{option}' names no repository",
            expected="hf-hub:owner/name, or hf-hub:owner/name@revision",
            got=option,
            next_step="copy the name from the repository's page",
        )
    repository, revision = named["repository"], named["revision"]
    receipt = _receipt(repository, revision)
    kept = _read(receipt)
    if offline():
        why = "HF_HUB_OFFLINE forbids asking the hub"
    else:
        try:
            files = _fetch(repository, revision, kept, progress)
        except SourceFailed as failure:
            why = str(failure)
        else:
            replace_file(receipt, lambda part: part.write_bytes(msgspec.json.encode(files)))
            return files, files.located(repository), ()
    if kept is None:
        raise DownloadFailed(
            f"the checkpoint {repository} could not be fetched",
            expected=f"{' or '.join(_WEIGHTS)} in a public repository at {hub_endpoint()}",
            got=why,
            next_step="download the repository, private ones with your token, and give its folder: -w local-dir:FOLDER",
        )
    return kept, kept.located(repository), (f"the copy of an earlier time, of commit {kept.commit}: {why}",)


def _fetch(repository: str, revision: str | None, kept: HubFiles | None, progress: Progress | None) -> HubFiles:
    weights = _weights(repository, revision, kept, progress)
    sha256 = verify(weights, f"the weights of {repository}", "download the repository by other means")
    config, processor = (_beside(repository, name, weights.commit) for name in (CONFIG, PROCESSOR))
    published = weights.published_sha256 is not None
    return HubFiles(str(weights.path), config, weights.source, sha256, published, weights.commit, processor)


def _beside(repository: str, name: str, commit: str | None) -> str | None:
    """The path of a file that not every repository has."""
    try:
        return str(_file(repository, name, commit, None).path)
    except SourceFailed as failure:
        if not failure.missing:
            raise
        return None


def _weights(repository: str, revision: str | None, kept: HubFiles | None, progress: Progress | None) -> Download:
    *others, last = _WEIGHTS
    for name in others:
        try:
            return _file(repository, name, revision, progress, kept)
        except SourceFailed as failure:
            if not failure.missing:
                raise
    return _file(repository, last, revision, progress, kept)


def _file(
    repository: str, name: str, revision: str | None, progress: Progress | None, kept: HubFiles | None = None
) -> Download:
    at = None if kept is None else kept.commit
    return from_hub(hub_endpoint(), repository, name, cache_folder() / "hub", progress, revision, at)


def _receipt(repository: str, revision: str | None) -> Path:
    name = re.sub(r"[^\w.-]", "--", f"{repository}@{revision or 'main'}")
    return cache_folder() / f"hub-{name}.json"


def _read(receipt: Path) -> HubFiles | None:
    """What an earlier fetch left, if it is still intact."""
    try:
        files = msgspec.json.decode(receipt.read_bytes(), type=HubFiles)
    except (OSError, msgspec.MsgspecError):
        return None
    return files if files.intact else None
