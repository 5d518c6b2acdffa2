"""Run a file with preprocessing or answers around its network: on images as an app feeds them, as the whole that ships.

The network in it is run on what the file's own preprocessing gives, and on what Pillow's does, so that a difference has
one cause.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from efficientvit.images.labels import both_answers
from efficientvit.images.preprocessing import normalize, to_uint8
from runtimes.artifact import Artifact
from runtimes.interface import OUTPUT
from runtimes.runtime import Array, Attestation, Mode, Runtime, Session
from runtimes.wrapping import Takes, Wrapping
from validation.inputs.pictures import pictures
from validation.network import preprocessing_of
from validation.reference.reference import Reference

Outputs = Mapping[str, NDArray[np.float32]]
"""What one image gave, by the output's name, without the batch."""

_ALIKE = ("precision", "threads", "isa")
"""Of an attestation: in what a file has to run as its network does, whose verdict it bears."""

_GOLDEN = 8
"""Golden images that a file is run on which takes tensors, or pixels of the network's own size."""


@dataclass(frozen=True, slots=True, eq=False)
class Preprocessed:
    """One image after preprocessing, (H, W, 3) in 8-bit units: by the file, rounded, and by Pillow.

    `normalized_off`: how far the network's input is from the normalization of the file's own pixels.
    """

    own: NDArray[np.int64]
    pillow: NDArray[np.int64]
    normalized_off: float

    @property
    def differing(self) -> float:
        """The share of values that differ."""
        return float((self.own != self.pillow).mean())

    @property
    def largest(self) -> int:
        """The largest difference."""
        return int(np.abs(self.own - self.pillow).max())


@dataclass(frozen=True, slots=True, eq=False)
class Pictured:
    """What a file gave of an image. `preprocessed`: None of a file that takes tensors.

    `given`: the file's outputs, by name. `own`, `pillow`: the network's, of what the file's preprocessing gives and of
    what Pillow's does.
    """

    name: str
    preprocessed: Preprocessed | None
    given: Outputs
    own: Outputs
    pillow: Outputs

    @property
    def same_class(self) -> bool | None:
        """A classifier's network names the same class of both; None of another head."""
        if OUTPUT not in self.own:
            return None
        own, pillow = (both_answers(each[OUTPUT]).argmax() for each in (self.own, self.pillow))
        return bool(own == pillow)


@dataclass(frozen=True, slots=True, eq=False)
class PictureRun:
    """What came of all images. `whole`, `inner`: how the file ran, and how its network did."""

    seen: list[Pictured]
    whole: Attestation
    inner: Attestation

    @property
    def ran_otherwise(self) -> str:
        """In what the file and its network, judged by itself, did not run alike; empty where they did."""
        pairs = ((name, getattr(self.whole, name), getattr(self.inner, name)) for name in _ALIKE)
        return "; ".join(f"{name} {whole}, of its network {inner}" for name, whole, inner in pairs if whole != inner)


def picture_run(file: Artifact, network: Artifact, reference: Reference, runtime: Runtime, seed: int = 0) -> PictureRun:
    """Run `file`, which ships, its preprocessing and its `network` on the same images.

    Raises:
        StageFailed: the runtime refuses one of them.
        BrokenArtifact: the file is not built as it should be.
    """
    wrapping = file.interface.wrapping
    assert wrapping is not None
    with (
        preprocessing_of(file) as before,
        runtime.open(file, Mode.SHIPPED) as whole,
        runtime.open(network, Mode.SHIPPED) as inner,
    ):
        found: list[Pictured] = []
        if before is None:
            found.extend(_of_tensors(name, fed, whole, inner) for name, fed in _tensors(reference, file.batch))
            return PictureRun(found, whole.attestation, inner.attestation)
        with runtime.open(before, Mode.SHIPPED) as preprocessing:
            for name, fed in _images(wrapping, reference, file.batch, seed):
                (tensor,) = preprocessing(fed).values()
                found.extend(_of_images(name, fed, tensor, wrapping, whole, inner))
        return PictureRun(found, whole.attestation, inner.attestation)


def _of_tensors(name: str, fed: Array, whole: Session, inner: Session) -> Pictured:
    own = _row(inner(fed), 0)
    return Pictured(name, None, _row(whole(fed), 0), own, own)


def _of_images(
    name: str, fed: NDArray[np.uint8], tensor: Array, wrapping: Wrapping, whole: Session, inner: Session
) -> Iterator[Pictured]:
    contract = wrapping.preprocessing
    pillow = np.stack([to_uint8(each, contract) if wrapping.resizes else each for each in fed])
    scale, shift = (np.array(each).reshape(3, 1, 1) for each in (contract.std, contract.mean))
    pixels = np.moveaxis((tensor.astype(np.float64) * scale + shift) * 255, 1, 3)
    with np.errstate(invalid="ignore"):  # NaN becomes a pixel far off
        rounded = np.rint(np.nan_to_num(pixels, nan=-1e6, posinf=1e6, neginf=-1e6)).astype(np.int64)
    normalized = normalize(np.clip(rounded, 0, 255).astype(np.uint8), contract)
    given, own, right = whole(fed), inner(tensor), inner(normalize(pillow, contract))
    for row in range(len(fed)):
        preprocessed = Preprocessed(
            rounded[row], pillow[row].astype(np.int64), float(np.abs(normalized[row] - tensor[row]).max())
        )
        yield Pictured(name, preprocessed, _row(given, row), _row(own, row), _row(right, row))


def _row(values: Mapping[str, Array], row: int) -> Outputs:
    return {name: value[row] for name, value in values.items()}


def _tensors(reference: Reference, batch: int | None) -> Iterator[tuple[str, Array]]:
    golden = reference.golden
    rows = [row for row in golden.ordinary_rows if reference.judged[row]]
    for row in rows[:: max(1, len(rows) // _GOLDEN)]:
        yield golden.names[row], golden.images[np.resize([row, *rows], batch or 1)]


def _images(
    wrapping: Wrapping, reference: Reference, batch: int | None, seed: int
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Images and their neighbors: those of one batch are different, so that none can be taken for another."""
    if wrapping.feed.takes is Takes.PIXELS:
        seen = [(m.name, m.data) for m in reference.golden.members if m.has_pixels]
        shown = seen[:: max(1, len(seen) // _GOLDEN)]
    else:
        shown = [(each.name, each.pixels) for each in pictures(wrapping.feed.size, seed)]
    for index, (name, pixels) in enumerate(shown):
        count = batch or 1 + index % 2
        yield name, np.stack([np.roll(pixels, 3 * shift, axis=1) for shift in range(count)])
