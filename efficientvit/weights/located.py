"""The files that `--weights` names: a file, a folder as timm's `local-dir:` has it, or a repository of the hub."""

import re
from dataclasses import dataclass
from pathlib import Path

from efficientvit.content import ITS_SOURCE, exported
from efficientvit.digests import digest_of, file_digest
from efficientvit.errors import BadCheckpoint
from efficientvit.files import parse_json
from efficientvit.spec import MODELS, PUBLISHED_TAG, without_family
from efficientvit.weights.declared import (
    CONFIG,
    PROCESSOR,
    Facts,
    all_understood,
    of_config,
    of_processor,
)

LOCAL, HUB = "local-dir:", "hf-hub:"
# As timm prefers them.
_WEIGHTS = ("model.safetensors", "pytorch_model.bin", "pytorch_model.pth", "model.pth")
_SUFFIXES = (".safetensors", ".pth", ".pth.tar", ".pt", ".ckpt", ".bin")
_ADDRESS = re.compile(r"/(?P<name>[\w.-]+/[\w.-]+)/resolve/\S+ at commit (?P<commit>\w+)$")
_INDEX = "*.index.json"
_SHARD = re.compile(r"(?P<name>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})(?P<suffix>[.]\w+)")
_HYDRA = ".hydra/config.yaml"
_SCRIPTS = re.compile(r"(args|hparams|hyperparameters|config|cfg|params|opt|preprocess(ing)?)[.](ya?ml|json|toml)")


@dataclass(frozen=True, slots=True)
class Located:
    """Weights on disk: one file, or the shards of one checkpoint; and what beside them says of their input, if any.

    `name` is what a person would call them: the file's name without its suffix, or the folder's. `config`: timm's
    `config.json`. `processor`: transformers' `preprocessor_config.json`. `scripts`: configurations of training scripts.
    """

    files: tuple[Path, ...]
    config: Path | None
    name: str
    processor: Path | None = None
    scripts: tuple[Path, ...] = ()

    @property
    def all_files(self) -> tuple[Path, ...]:
        """All that is read."""
        return (*self.files, *(each for each in (self.config, self.processor) if each is not None), *self.scripts)

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
        files, folder, name = _weights_in(path), path, path.resolve().name
    elif path.name.endswith(_INDEX[1:]):
        files, folder, name = _shards(path), path.parent, path.parent.resolve().name
    elif _SHARD.fullmatch(path.name):
        raise _shard_alone(path)
    else:
        files, folder, name = (path,), path.parent, path.stem
    config, processor = (each if each.is_file() else None for each in (folder / CONFIG, folder / PROCESSOR))
    return Located(files, config, name, processor, tuple(_scripts(folder)))


def _scripts(folder: Path) -> list[Path]:
    """timm's args.yaml, Lightning's hparams.yaml, Hydra's .hydra/config.yaml, and what others call theirs."""
    hydra = folder / _HYDRA
    try:
        found = sorted(each for each in folder.iterdir() if _SCRIPTS.fullmatch(each.name) and each.name != CONFIG)
    except OSError:
        found = []
    return [*found, hydra] if hydra.is_file() else found


def repository_of(source: str) -> str | None:
    """`hf-hub:owner/name@commit` of the address that weights came from; None for timm's published ones, and files."""
    found = _ADDRESS.search(source)
    if found is None or found["name"].endswith(PUBLISHED_TAG):
        return None
    return f"{HUB}{found['name']}@{found['commit']}"


def facts_beside(located: Located, model: str) -> tuple[Facts, list[str]]:
    """What the files beside the weights say, and notes for people.

    Raises:
        BadCheckpoint: one cannot be read or understood, or is about another model than `model`.
    """
    processor = () if located.processor is None else all_understood(of_processor(located.processor))
    if located.config is None:
        return processor, []
    facts = of_config(located.config)
    named = next((str(fact.value) for fact in facts if fact.name == "model"), None)
    if named is None or member(named) == model:
        return (*all_understood(facts), *processor), []
    if member(named) is None:
        return processor, [f"{CONFIG} beside the weights is about '{named}': not used"]
    raise BadCheckpoint(
        f"the {CONFIG} beside the weights is about another model",
        expected=f"efficientvit_{model}",
        got=named,
        next_step=f"load them as '{member(named)}', or move the {CONFIG} away if it is not theirs",
    )


def member(architecture: str) -> str | None:
    """`m0` of `efficientvit_m0`, `EfficientViT_M0.r224_in1k` or `hf-hub:owner/efficientvit_m0`."""
    short = without_family(architecture.rpartition("/")[2]).partition(".")[0]
    return short if short in MODELS else None


def _weights_in(folder: Path) -> tuple[Path, ...]:
    for name in _WEIGHTS:
        if (folder / name).is_file():
            return (folder / name,)
    if indexes := sorted(folder.glob(_INDEX)):
        return _shards(indexes[0])
    found = sorted(file for file in folder.iterdir() if file.name.endswith(_SUFFIXES) and file.is_file())
    if _one_checkpoint(found):
        return tuple(found)
    if len(found) == 1:
        if _SHARD.fullmatch(found[0].name):
            raise _shard_alone(found[0])
        return (found[0],)
    if found:
        raise BadCheckpoint(
            f"the folder '{folder}' holds several checkpoints",
            expected=f"one, or {_WEIGHTS[0]} among them",
            got=", ".join(file.name for file in found[:5]),
            next_step="name the file itself",
        )
    for other in (folder, *sorted(folder.iterdir())):
        if (what := exported(other)) is not None:
            raise BadCheckpoint(
                f"'{other}' holds no checkpoint",
                expected=f"{' or '.join(_WEIGHTS[:2])}, or a checkpoint's file",
                got=what,
                next_step=ITS_SOURCE,
            )
    distributed = any(folder.glob("*.distcp"))
    raise BadCheckpoint(
        f"the folder '{folder}' holds no weights",
        expected=f"{' or '.join(_WEIGHTS[:2])}, with {CONFIG}, as timm's save_for_hf writes them",
        got=", ".join(sorted(each.name for each in folder.iterdir())[:5]) or "an empty folder",
        next_step=f"it is a distributed checkpoint: python -m torch.distributed.checkpoint.format_utils dcp_to_torch "
        f"{folder} weights.pth"
        if distributed
        else "name the checkpoint's file",
    )


def _shard_alone(path: Path) -> BadCheckpoint:
    return BadCheckpoint(
        f"'{path.name}' is a shard, a part of a checkpoint",
        expected="all shards, and their index where there is one, in a folder",
        got="one of them",
        next_step=f"name the folder, with all of them in it: {path.parent}",
    )


def _one_checkpoint(files: list[Path]) -> bool:
    """Whether they are all the shards of one, `model-00001-of-00002.safetensors` and so on."""
    shards = [_SHARD.fullmatch(file.name) for file in files]
    kinds = {(match["name"], int(match["count"]), match["suffix"]) for match in shards if match is not None}
    numbers = sorted(int(match["number"]) for match in shards if match is not None)
    return None not in shards and len(kinds) == 1 and numbers == list(range(1, next(iter(kinds))[1] + 1))


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
