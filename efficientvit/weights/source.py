"""The weights of an export: pretrained, from a file, a folder or the hub, seeded, or the first that is available."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from efficientvit.digests import digest_of, tensor_digest
from efficientvit.errors import BadOption, DownloadFailed
from efficientvit.head import Head
from efficientvit.size import ImageSize
from efficientvit.spec import PUBLISHED_SIZE, model_spec
from efficientvit.weights.declared import Facts
from efficientvit.weights.located import HUB, LOCAL, Located, locate
from efficientvit.weights.reading import AS_IT_IS, Reading

if TYPE_CHECKING:
    from efficientvit.model import EfficientViT

Progress = Callable[[int, int | None], None]
_TIMM_ID = re.compile(r"efficientvit_m[0-5](\.r224_in1k)?")
_ADDRESS = re.compile(r"[a-z][a-z0-9+]+://", re.IGNORECASE)
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
_SEEDED = re.compile(r"seeded(?::(\d{1,9}))?")


@dataclass(frozen=True, slots=True)
class About:
    """A description of weights, without the model."""

    model: str
    source: str
    sha256: str
    trained: bool
    notes: tuple[str, ...]
    said: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Weights:
    """A model with weights, and their description.

    `fallback`: untrained, because no others were available. `digest_published`: the source publishes
    the digest that was verified; None where nothing was downloaded. `suffix` ends the folder's name. `facts`: what the
    checkpoint says of its input. `size_assumed`: nothing says the input size. `average`: they are a running average.
    `recovered_from`: the sha256 of the weights that these were fine-tuned from for int8, which they are not.
    `unread`: configurations beside them that may say something of the input, where nothing else does.
    """

    model: "EfficientViT"
    source: str
    sha256: str
    trained: bool
    suffix: str
    fallback: bool = False
    digest_published: bool | None = None
    notes: tuple[str, ...] = ()
    facts: Facts = ()
    size_assumed: bool = False
    average: bool = False
    recovered_from: str | None = None
    unread: tuple[str, ...] = ()

    @property
    def about(self) -> About:
        """Without the model itself."""
        said = tuple(map(str, self.facts))
        return About(self.model.spec.name, self.source, self.sha256, self.trained, self.notes, said)

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes' names, where the checkpoint says them."""
        return next((fact.value for fact in self.facts if fact.name == "labels"), ())


def find_weights(
    option: str,
    model: str,
    image_size: ImageSize | None,
    progress: Progress | None = None,
    reading: Reading = AS_IT_IS,
) -> Weights:
    """The weights that `--weights OPTION` names.

    That is auto, pretrained, seeded, seeded:N, a file, a folder (also as local-dir:FOLDER), hf-hub:owner/name, or the
    name under which timm publishes the weights.

    Raises:
        BadInput: the file cannot be used, or there is none of that name.
        DownloadFailed: `pretrained` or a repository was asked for and is unavailable.
    """
    _require_average(option, reading)
    if match := _SEEDED.fullmatch(option):
        return _seeded(model, image_size, int(match[1] or 0), reading.head)
    if option in ("pretrained", "auto"):
        try:
            return _pretrained(model, image_size, progress, reading.head)
        except DownloadFailed as error:
            if option == "pretrained":
                raise
            return _seeded(model, image_size, 0, reading.head, because=str(error))
    if option.startswith(HUB):
        return _from_hub(option, model, image_size, progress, reading)
    if not option.removeprefix(LOCAL):
        raise BadOption(
            "--weights names nothing",
            expected="auto, pretrained, seeded, seeded:N, a checkpoint's file or folder, or hf-hub:owner/name",
            got=f"'{option}'",
            next_step="name the checkpoint; was a variable of the shell empty?",
        )
    if _ADDRESS.match(option):
        raise BadOption(
            f"'{option}' is an address",
            expected="a file or folder on this host, or hf-hub:owner/name",
            got="an address, from which nothing is fetched",
            next_step="download it and name the file; a repository of huggingface.co is hf-hub:owner/name",
        )
    path = Path(option.removeprefix(LOCAL))
    if not path.exists() and (published := _published(option)) is not None:
        _require_average("pretrained", reading)
        return _pretrained(_required(published, model), image_size, progress, reading.head)
    if path.exists() or path.suffix:
        return _loaded(locate(path), model, image_size, reading)
    raise BadOption(
        f"there are no weights '{option}'",
        expected="auto, pretrained, seeded, seeded:N, a checkpoint's file or folder, or hf-hub:owner/name",
        got=option,
        next_step=f"for the repository of the hub: -w {HUB}{option}"
        if _REPOSITORY.fullmatch(option)
        else "name the checkpoint's file with its suffix, or try the pipeline with -w seeded",
    )


def _require_average(option: str, reading: Reading) -> None:
    """Refuse to take a running average of weights that have none.

    Raises:
        BadOption: it was asked for.
    """
    if reading.ema and (_SEEDED.fullmatch(option) or option in ("pretrained", "auto")):
        raise BadOption(
            f"{'seeded' if _SEEDED.fullmatch(option) else 'the published'} weights have no running average",
            expected="a checkpoint that holds one, under 'state_dict_ema' or 'model_ema', for --ema",
            got=f"-w {option} --ema",
            next_step="leave --ema out, or name the checkpoint with -w FILE",
        )


def files_of(option: str) -> tuple[Path, ...]:
    """The files on disk that `--weights OPTION` reads, where it names some.

    Raises:
        BadCheckpoint: a folder without weights.
    """
    path = Path(option.removeprefix(LOCAL))
    if not path.exists():
        return ()
    return locate(path).all_files


def _published(option: str) -> str | None:
    """The model whose published weights timm calls so."""
    name = option.removeprefix("timm/")
    return model_spec(name).name if _TIMM_ID.fullmatch(name) else None


def _required(named: str, model: str) -> str:
    if model_spec(model).name != named:
        raise BadOption(
            f"these are weights of {named}",
            expected=f"weights of {model_spec(model).name}",
            got=named,
            next_step=f"export {named}, or leave -w out",
        )
    return named


def _seeded(model: str, image_size: ImageSize | None, seed: int, head: Head, because: str | None = None) -> Weights:
    from efficientvit.weights.seeded import seeded

    built = seeded(model_spec(model, image_size, head=head), seed)
    return Weights(
        model=built,
        source=f"seeded:{seed}",
        sha256=state_digest(built),
        trained=False,
        suffix=f"seed{seed}-untrained" if seed else "untrained",
        fallback=because is not None,
        notes=() if because is None else (because,),
    )


def _pretrained(model: str, image_size: ImageSize | None, progress: Progress | None, head: Head) -> Weights:
    from efficientvit.weights.checkpoint import load_located
    from efficientvit.weights.pretrained import fetch_pretrained

    file = fetch_pretrained(model, progress=progress)
    published = Located((file.path,), None, file.path.stem)  # whatever else lies in the cache
    loaded = load_located(published, model, image_size or PUBLISHED_SIZE, reading=Reading(head=head))
    notes = loaded.notes
    if not file.digest_published:
        notes += ("the source publishes no digest: that these are the authors' bytes could not be verified",)
    return Weights(
        model=loaded.model,
        source=file.source,
        sha256=file.sha256,
        trained=True,
        suffix="",
        digest_published=file.digest_published,
        notes=notes,
    )


def _from_hub(
    option: str, model: str, image_size: ImageSize | None, progress: Progress | None, reading: Reading
) -> Weights:
    from efficientvit.weights.hub import fetch_from_hub

    files, located, notes = fetch_from_hub(option, progress)
    found = _loaded(located, model, image_size, reading)
    return replace(found, source=files.source, digest_published=files.digest_published, notes=(*notes, *found.notes))


def _loaded(located: Located, model: str, image_size: ImageSize | None, reading: Reading) -> Weights:
    from efficientvit.weights.checkpoint import load_located

    loaded = load_located(located, model, image_size, reading=reading)
    # Two checkpoints of one name must not overwrite each other.
    suffix = f"{located.name}-{'ema-' if loaded.average else ''}{loaded.sha256[:8]}"
    return Weights(
        loaded.model,
        loaded.source,
        loaded.sha256,
        trained=True,
        suffix=suffix,
        notes=loaded.notes,
        facts=loaded.facts,
        size_assumed=loaded.size_assumed,
        average=loaded.average,
        recovered_from=loaded.recovered_from,
        unread=loaded.unread,
    )


def state_digest(model: "EfficientViT") -> str:
    """SHA-256 over the names and values of a model's state, for weights that no file holds."""
    return digest_of((name, tensor_digest(tensor.numpy())) for name, tensor in sorted(model.state_dict().items()))
