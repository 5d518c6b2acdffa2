"""`vit-export predict ARTIFACT PHOTO...`: what an exported artifact says of photos, in whichever runtime is here."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from efficientvit.errors import BadImage, BadOption, Unavailable
from efficientvit.images.labels import largest, most_probable
from efficientvit.images.preprocessing import load_rgb, normalize, to_uint8
from export.exits import Exit
from export.folder.exported import Exported, open_exported, require_interface
from export.report.card import Row, card
from runtimes.interface import OUTPUT, takes_images
from runtimes.registry import native_runtime, runtime_for
from runtimes.runtime import Evidence, Images, Mode, Runtime, Session


@dataclass(frozen=True, slots=True)
class Prediction:
    """The most probable classes of a photo: (label, probability), best first."""

    photo: Path
    top: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class Predictions:
    """Of all photos, and the program that gave them. `evidence`: of that program. `native`: the real runtime's name."""

    artifact: Path
    runtime: str
    native: str
    evidence: Evidence
    trained: bool
    photos: tuple[Prediction, ...]

    @property
    def exit_code(self) -> Exit:
        """There is no verdict on an answer."""
        return Exit.OK

    def to_json(self) -> dict[str, Any]:
        """What `vit-export predict --json` prints."""
        found = [
            {"photo": str(each.photo), "top": [{"label": label, "probability": share} for label, share in each.top]}
            for each in self.photos
        ]
        return {"runtime": self.runtime, "evidence": self.evidence, "trained": self.trained, "predictions": found}

    def _repr_html_(self) -> str:
        facts = (f"{self.evidence} evidence", None if self.trained else "untrained weights")
        rows = [
            Row(("" if place else each.photo, label, f"{share:.1%}"))
            for each in self.photos
            for place, (label, share) in enumerate(each.top)
        ]
        return card(self.artifact.name, f"in {self.runtime}", self.exit_code, facts, ("photo", "class", ""), rows)


@dataclass(frozen=True, slots=True)
class Predictor:
    """An exported artifact and the runtime that runs it here."""

    exported: Exported
    runtime: Runtime

    @classmethod
    def of(cls, path: Path) -> "Predictor":
        """From an export's folder, or the artifact in it.

        Raises:
            BadInput: no folder that an export made.
            Refused: it holds nothing that may ship, or something in it was changed.
            Unavailable: no runtime for it is installed here.
        """
        exported = open_exported(_folder_of(path))
        if not exported.reference.gives_logits:
            raise BadOption(
                f"{exported.artifact.path.name} gives no classes to name",
                expected="an artifact exported with --head logits",
                got=f"one with --head {exported.manifest.model.head}",
                next_step=f"`vit-export verify {exported.folder}` compares what it gives with the reference",
            )
        runtime = runtime_for(exported.artifact.format)
        if (reason := runtime.unavailable()) is not None:
            raise Unavailable(f"{exported.artifact.path.name} cannot be run here", got=reason)
        require_interface(exported)
        return cls(exported, runtime)

    def all_of(self, photos: Sequence[Path]) -> Predictions:
        """Of all photos.

        Raises:
            BadImage: a file is no usable image.
        """
        artifact = self.exported.artifact
        real, trained = native_runtime(artifact.format).name, self.exported.manifest.weights.trained
        predicted = tuple(self.predict(photos))
        return Predictions(artifact.path, self.runtime.name, real, self.runtime.evidence, trained, predicted)

    def predict(self, photos: Sequence[Path]) -> Iterator[Prediction]:
        """One prediction a photo, preprocessed as the manifest says.

        Raises:
            BadImage: a file is no usable image.
        """
        pixels = [self._pixels(photo) for photo in photos]  # a broken file is told before anything is run
        with self.runtime.open(self.exported.artifact, Mode.SHIPPED) as session:
            for photo, image in zip(photos, pixels, strict=True):
                yield Prediction(photo, self._top(session, image))

    def _pixels(self, photo: Path) -> NDArray[np.uint8]:
        """Resized and cropped, unless the artifact itself does that."""
        preprocessing = self.exported.reference.golden.preprocessing
        wrapping = self.exported.artifact.interface.wrapping
        photographed = load_rgb(photo, preprocessing)
        if wrapping is None or not wrapping.resizes:
            return to_uint8(photographed, preprocessing)
        size = wrapping.feed.size
        if size is not None and photographed.shape[:2] != (size.height, size.width):
            raise BadImage(
                f"{photo} is not of the size that {self.exported.artifact.path.name} takes",
                expected=f"{size.height} x {size.width} pixels, height and width",
                got=f"{photographed.shape[0]} x {photographed.shape[1]}",
                next_step="resize it, or export with --input image, which takes any size",
            )
        return photographed

    def _top(self, session: Session, pixels: NDArray[np.uint8]) -> tuple[tuple[str, float], ...]:
        artifact = self.exported.artifact
        images: Images = pixels[None]
        if not artifact.interface.image_input and not takes_images(artifact):
            images = np.asarray(normalize(pixels[None], self.exported.reference.golden.preprocessing))
        if artifact.interface.labels:
            _, probabilities = session.classify(images)
            return largest(tuple(probabilities), np.array(list(probabilities.values())))
        batch: Images = images.repeat(artifact.batch or 1, axis=0)
        return most_probable(session(batch)[OUTPUT][0], self.exported.class_names)


def _folder_of(path: Path) -> Path:
    """The export's folder, of itself or of a file in its `ship`."""
    if (path / "manifest.json").exists():
        return path
    return path.parent.parent if (path.parent.parent / "manifest.json").exists() else path
