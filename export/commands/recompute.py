"""The reference again, from the weights themselves, so that nothing that a folder says of it is taken on trust."""

from pathlib import Path
from typing import TYPE_CHECKING

from efficientvit.errors import ArtifactChanged, BadOption
from efficientvit.images.preprocessing import Preprocessing
from efficientvit.size import ImageSize
from efficientvit.weights.located import repository_of
from efficientvit.weights.reading import Reading
from efficientvit.weights.source import Weights, find_weights
from export.folder.exported import head_of
from export.folder.manifest import Manifest
from export.folder.weights import WeightsRecord
from validation.budgets import Budgets
from validation.inputs import golden_file
from validation.inputs.golden_set import GoldenSet, Kind, merge
from validation.inputs.synthetic import synthetic
from validation.reference.file import GOLDEN

if TYPE_CHECKING:
    from validation.reference.model import ReferenceModel


def recompute(
    folder: Path, manifest: Manifest, option: str | Weights | None, budgets: Budgets | None = None
) -> "tuple[Weights, ReferenceModel]":
    """The weights that `--weights OPTION` names, or those that the manifest does, and their reference.

    The golden images are this version's own, and the photos that lie in the folder.

    Raises:
        BadOption: no weights were named, and the manifest's cannot be had without their file.
        ArtifactChanged: the weights are not those that the manifest is about.
        BadInput, DownloadFailed: the weights cannot be used, or had.
    """
    from validation.reference.model import ReferenceModel

    weights = weights_of(folder, manifest, option)
    golden = _golden(folder, manifest.preprocessing.value)
    return weights, ReferenceModel(weights.model, golden, budgets)


def weights_of(folder: Path, manifest: Manifest, option: str | Weights | None) -> Weights:
    """The weights that `--weights OPTION` names, or those that the manifest does; or these, which were read already.

    Raises:
        BadOption, ArtifactChanged, BadInput, DownloadFailed: as `recompute`.
    """
    model, said = manifest.model, manifest.weights
    if isinstance(option, Weights):
        return option
    reading = Reading(ema=said.average, override=True, head=head_of(folder, manifest))
    size = ImageSize.from_json(model.image_size)
    weights = find_weights(option or _named(folder, said), model.name, size, reading=reading)
    if weights.sha256 != said.sha256:
        raise ArtifactChanged(
            f"{folder} was not made of these weights",
            expected=f"{said.source}, sha256 {said.sha256}",
            got=f"{weights.source}, sha256 {weights.sha256}",
            next_step="name the checkpoint that it was exported from with -w",
        )
    return weights


def _named(folder: Path, said: WeightsRecord) -> str:
    """What `--weights` was, where the manifest tells."""
    if said.source.startswith("seeded:"):
        return said.source
    if (repository := repository_of(said.source)) is not None:
        return repository
    if said.digest_published is not None:
        return "pretrained"
    raise BadOption(
        f"{folder} was made of weights that only you have",
        expected="-w FILE, the checkpoint that it was exported from",
        got=f"no -w, and a manifest that names {said.source}",
        next_step=f"name the file whose sha256 is {said.sha256}",
    )


def _golden(folder: Path, preprocessing: Preprocessing) -> GoldenSet:
    made, path = synthetic(preprocessing), folder / "evidence" / GOLDEN
    held = golden_file.load(path) if path.exists() else None
    if held is None or Kind.PHOTO not in held.kinds:
        return made
    return merge(held.of_kind(Kind.PHOTO), made)
