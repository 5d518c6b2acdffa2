"""Where the artifacts of one model are made: its weights, its reference, a scratch folder, and what was made once."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

if TYPE_CHECKING:
    from efficientvit.model import EfficientViT
    from efficientvit.weights.source import Weights
    from runtimes.runtime import Array
    from validation.inputs.golden_set import GoldenSet
    from validation.reference.model import ReferenceModel

T = TypeVar("T")


class Variant(Protocol):
    """What tells the files of one job from those of another."""

    @property
    def model(self) -> str:
        """`m0` to `m5`."""

    @property
    def variant(self) -> str:
        """All else, fit for a file's name."""


@dataclass(slots=True)
class Workshop:
    """One model and the folder in which its artifacts are made, before they are handed over.

    `skip_bad`: files among the photos that are no images are left out.
    """

    weights: "Weights"
    reference: "ReferenceModel"
    folder: Path
    skip_bad: bool = False
    _known: dict[Hashable, Any] = field(default_factory=dict)

    @property
    def deploy(self) -> "EfficientViT":
        """The form that is exported."""
        return self.reference.deploy

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """What `make` gives, made for the first that asks for `key` and kept for the others."""
        if key not in self._known:
            self._known[key] = make()
        return cast(T, self._known[key])

    def photos(self, folder: Path) -> "GoldenSet":
        """Every photo of the folder, preprocessed; read once.

        Raises:
            BadGoldenSet: the folder holds no photo that can be used, or a file that is no image.
        """
        from validation.inputs.photos import photos

        preprocessing = self.reference.given.preprocessing
        return self.once(("photos", folder), lambda: photos(folder, preprocessing, self.skip_bad, what="calibration"))

    def ordinary_images(self) -> "Array":
        """(n, 3, H, W) float32: the golden images that are not amplified."""
        return self.reference.given.ordinary().images

    def path(self, stage: str, job: Variant, suffix: str) -> Path:
        """A file in a new folder for what the stage makes, under the name that it ships with."""
        folder = self.folder / f"{stage}-{job.variant}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"efficientvit_{job.model}{suffix}"
