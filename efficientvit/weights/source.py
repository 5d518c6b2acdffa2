"""The weights of an export: pretrained, from a file, seeded, or the first of these that is available."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from efficientvit.digests import digest_of, tensor_digest
from efficientvit.errors import BadOption, DownloadFailed
from efficientvit.size import ImageSize

if TYPE_CHECKING:
    from efficientvit.model import EfficientViT

Progress = Callable[[int, int | None], None]
_SEEDED = re.compile(r"seeded(?::(\d{1,9}))?")


@dataclass(frozen=True, slots=True)
class About:
    """A description of weights, without the model."""

    model: str
    source: str
    sha256: str
    trained: bool
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Weights:
    """A model with weights, and their description.

    `fallback`: untrained, because no others were available. `digest_published`: the source publishes
    the digest that was verified; None where nothing was downloaded. `suffix` ends the folder's name.
    """

    model: "EfficientViT"
    source: str
    sha256: str
    trained: bool
    suffix: str
    fallback: bool = False
    digest_published: bool | None = None
    notes: tuple[str, ...] = ()

    @property
    def about(self) -> About:
        """Without the model itself."""
        return About(self.model.spec.name, self.source, self.sha256, self.trained, self.notes)


def find_weights(option: str, model: str, image_size: ImageSize | None, progress: Progress | None = None) -> Weights:
    """The weights that `--weights OPTION` names: auto, pretrained, seeded, seeded:N or a file.

    Raises:
        BadInput: the file cannot be used, or there is none of that name.
        DownloadFailed: `pretrained` was asked for and is unavailable.
    """
    if match := _SEEDED.fullmatch(option):
        return _seeded(model, image_size, int(match[1] or 0))
    if option == "pretrained":
        return _pretrained(model, image_size, progress)
    if option == "auto":
        try:
            return _pretrained(model, image_size, progress)
        except DownloadFailed as error:
            return _seeded(model, image_size, 0, because=str(error))
    path = Path(option)
    if not path.exists() and not path.suffix:
        raise BadOption(
            f"there are no weights '{option}'",
            expected="auto, pretrained, seeded, seeded:N, or a .pth or .safetensors file",
            got=option,
            next_step="name the checkpoint's file with its suffix, or try the pipeline with -w seeded",
        )
    return _from_file(path, model, image_size)


def _seeded(model: str, image_size: ImageSize | None, seed: int, because: str | None = None) -> Weights:
    from efficientvit.spec import model_spec
    from efficientvit.weights.seeded import seeded

    built = seeded(model_spec(model, image_size), seed)
    return Weights(
        model=built,
        source=f"seeded:{seed}",
        sha256=state_digest(built),
        trained=False,
        suffix=f"seed{seed}-untrained" if seed else "untrained",
        fallback=because is not None,
        notes=() if because is None else (because,),
    )


def _pretrained(model: str, image_size: ImageSize | None, progress: Progress | None) -> Weights:
    from efficientvit.weights.checkpoint import load_checkpoint
    from efficientvit.weights.pretrained import fetch_pretrained

    file = fetch_pretrained(model, progress=progress)
    loaded = load_checkpoint(file.path, model, image_size)
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


def _from_file(path: Path, model: str, image_size: ImageSize | None) -> Weights:
    from efficientvit.weights.checkpoint import load_checkpoint

    loaded = load_checkpoint(path, model, image_size)
    suffix = f"{path.stem}-{loaded.sha256[:8]}"  # two checkpoints of one name must not overwrite each other
    return Weights(loaded.model, loaded.source, loaded.sha256, trained=True, suffix=suffix, notes=loaded.notes)


def state_digest(model: "EfficientViT") -> str:
    """SHA-256 over the names and values of a model's state, for weights that no file holds."""
    return digest_of((name, tensor_digest(tensor.numpy())) for name, tensor in sorted(model.state_dict().items()))
