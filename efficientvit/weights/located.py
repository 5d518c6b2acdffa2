"""The files that `--weights` names: a file, a folder as timm's `local-dir:` has it, or a repository of the hub."""

import re
from dataclasses import dataclass
from pathlib import Path

from efficientvit.digests import digest_of, file_digest
from efficientvit.errors import BadCheckpoint
from efficientvit.files import parse_json
from efficientvit.spec import MODELS, PUBLISHED_TAG, without_family
from efficientvit.weights.declared import CONFIG, Facts, of_config

LOCAL, HUB = "local-dir:", "hf-hub:"
# As timm prefers them.
_WEIGHTS = ("model.safetensors", "pytorch_model.bin", "pytorch_model.pth", "model.pth")
_SUFFIXES = (".safetensors", ".pth", ".pth.tar", ".pt", ".ckpt", ".bin")
_ADDRESS = re.compile(r"/(?P<name>[\w.-]+/[\w.-]+)/resolve/\S+ at commit (?P<commit>\w+)$")
_INDEX = "*.index.json"


@dataclass(frozen=True, slots=True)
class Located:
    """Weights on disk: one file, or the shards of one checkpoint; and the `config.json` beside them, if any.

    `name` is what a person would call them: the file's name without its suffix, or the folder's.
    """

    files: tuple[Path, ...]
    config: Path | None
    name: str

    @property
    def sha256(self) -> str:
        """Of the file; of shards, over their names and digests."""
        if len(self.files) == 1:
            return file_digest(self.files[0])
        return digest_of((file.name, file_digest(file)) for file in self.files)


def locate(path: Path) -> Located:
    """The checkpoint at `path`, a file or a folder.

    Raises:
        BadCheckpoint: a folder without weights, or with several files that could be meant.
    """
    if path.is_dir():
        config = path / CONFIG
        return Located(_weights_in(path), config if config.is_file() else None, path.resolve().name)
    config = path.with_name(CONFIG)
    return Located((path,), config if config.is_file() else None, path.stem)


def repository_of(source: str) -> str | None:
    """`hf-hub:owner/name@commit` of the address that weights came from; None for timm's published ones, and files."""
    found = _ADDRESS.search(source)
    if found is None or found["name"].endswith(PUBLISHED_TAG):
        return None
    return f"{HUB}{found['name']}@{found['commit']}"


def facts_beside(located: Located, model: str) -> tuple[Facts, list[str]]:
    """What the `config.json` beside the weights says, and notes for people.

    Raises:
        BadCheckpoint: it cannot be read, or is about another model than `model`.
    """
    if located.config is None:
        return (), []
    facts = of_config(located.config)
    named = next((str(fact.value) for fact in facts if fact.name == "model"), None)
    if named is None or _member(named) == model:
        return facts, []
    if _member(named) is None:
        return (), [f"{CONFIG} beside the weights is about '{named}': not used"]
    raise BadCheckpoint(
        f"the {CONFIG} beside the weights is about another model",
        expected=f"efficientvit_{model}",
        got=named,
        next_step=f"load them as '{_member(named)}', or move the {CONFIG} away if it is not theirs",
    )


def _member(architecture: str) -> str | None:
    """`m0` of `efficientvit_m0` or `EfficientViT_M0.r224_in1k`."""
    short = without_family(architecture).partition(".")[0]
    return short if short in MODELS else None


def _weights_in(folder: Path) -> tuple[Path, ...]:
    for name in _WEIGHTS:
        if (folder / name).is_file():
            return (folder / name,)
    if indexes := sorted(folder.glob(_INDEX)):
        return _shards(indexes[0])
    for suffix in _SUFFIXES:
        if found := sorted(file for file in folder.glob(f"*{suffix}") if file.is_file()):
            if len(found) == 1:
                return (found[0],)
            raise BadCheckpoint(
                f"the folder '{folder}' holds several checkpoints",
                expected=f"one, or {_WEIGHTS[0]} among them",
                got=", ".join(file.name for file in found[:5]),
                next_step="name the file itself",
            )
    raise BadCheckpoint(
        f"the folder '{folder}' holds no weights",
        expected=f"{' or '.join(_WEIGHTS[:2])}, with {CONFIG}, as timm's save_for_hf writes them",
        got=", ".join(sorted(each.name for each in folder.iterdir())[:5]) or "an empty folder",
        next_step="name the checkpoint's file",
    )


def _shards(index: Path) -> tuple[Path, ...]:
    """The files that an index of shards names, in order."""
    try:
        listed = parse_json(index.read_bytes())["weight_map"]
        names = sorted(set(listed.values()))
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise BadCheckpoint(
            f"'{index}' is no index of shards", got=str(error) or type(error).__name__, next_step="download it again"
        ) from error
    files = tuple(index.with_name(Path(str(name)).name) for name in names)
    if missing := [file.name for file in files if not file.is_file()]:
        raise BadCheckpoint(
            f"shards of '{index.parent}' are missing",
            expected=", ".join(map(str, names[:5])),
            got=f"no {', '.join(missing[:5])}",
            next_step="download the missing files",
        )
    return files
