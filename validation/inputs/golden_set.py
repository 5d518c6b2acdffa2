"""The golden inputs: the images on which every artifact is compared with the reference."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from efficientvit.errors import BadGoldenSet, BadOption
from efficientvit.images.preprocessing import Preprocessing, normalize
from efficientvit.size import ImageSize

LARGEST_FACTOR = 10.0


class Kind(StrEnum):
    """What an image is like. Each kind sees other faults, and has a budget of its own."""

    PHOTO = "photo"
    NATURAL = "natural"
    NOISE = "noise"
    FLAT = "flat"
    PATTERN = "pattern"
    IMPULSE = "impulse"
    AMPLIFIED = "amplified"


@dataclass(frozen=True, slots=True, eq=False)
class GoldenImage:
    """One input, held as what it was made as: an image's pixels, or values that no 8-bit image has.

    `data`: (H, W, 3) uint8 R G B, resized and cropped; or (3, H, W) float32, normalized (noise). Made
    read-only, in C order.

    Raises:
        BadGoldenSet: another shape or type, or a value that is not finite.
    """

    name: str
    kind: Kind
    data: NDArray[Any]

    def __post_init__(self) -> None:
        data = np.array(self.data, order="C")  # a copy: the caller's array stays the caller's
        channels = {"uint8": 2, "float32": 0}.get(data.dtype.name)
        image = data.ndim == 3 and channels is not None and data.shape[channels] == 3 and data.size > 0
        if not image or not np.isfinite(data).all():
            raise BadGoldenSet(
                f"'{self.name}' cannot be a golden input",
                expected="(H, W, 3) uint8, or (3, H, W) float32 with finite values",
                got=f"{data.shape} {data.dtype}",
            )
        data.flags.writeable = False
        object.__setattr__(self, "data", data)

    @property
    def has_pixels(self) -> bool:
        """It is an 8-bit image, which a model that takes images can be given too."""
        return bool(self.data.dtype == np.uint8)

    @property
    def size(self) -> ImageSize:
        """H and W, pixels."""
        height, width = self.data.shape[:2] if self.has_pixels else self.data.shape[1:]
        return ImageSize(height=int(height), width=int(width))


@dataclass(frozen=True, slots=True, eq=False)
class GoldenSet:
    """Golden inputs in a fixed order. Two sets with one `sha256` are the same inputs.

    `skipped`: the files that `photos` left out. `images`: (n, 3, H, W) float32, normalized,
    read-only, derived from the members (`torch.tensor(...)` copies it; `torch.from_numpy` would warn).

    Raises:
        BadGoldenSet: no member, two of one name, or one that is not of the preprocessing's image size.
    """

    members: tuple[GoldenImage, ...]
    preprocessing: Preprocessing
    skipped: tuple[str, ...] = ()
    images: NDArray[np.float32] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not self.members:
            raise BadGoldenSet("a golden set needs at least one image", got="none")
        if repeated := sorted({name for name in self.names if self.names.count(name) > 1}):
            raise BadGoldenSet("two golden images have one name", got=", ".join(repeated), next_step="rename one")
        for member in self.members:
            if member.size != self.preprocessing.image_size:
                raise BadGoldenSet(
                    f"golden image '{member.name}' is of another size than its set",
                    expected=f"{self.preprocessing.image_size} pixels",
                    got=f"{member.size}",
                )
        images = np.stack([self._tensor(member) for member in self.members])
        images.flags.writeable = False
        object.__setattr__(self, "images", images)

    def _tensor(self, member: GoldenImage) -> NDArray[np.float32]:
        return normalize(member.data, self.preprocessing) if member.has_pixels else member.data

    def __len__(self) -> int:
        return len(self.members)

    @property
    def names(self) -> tuple[str, ...]:
        """One per image, all different."""
        return tuple(member.name for member in self.members)

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """One per image."""
        return tuple(member.kind for member in self.members)

    @property
    def unique_kinds(self) -> tuple[Kind, ...]:
        """Every kind that occurs, once, in the order of first appearance."""
        return tuple(dict.fromkeys(self.kinds))

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """(n, H, W, 3) uint8, of a set that `with_pixels` gave.

        Raises:
            BadGoldenSet: a member is not an 8-bit image.
        """
        if no_pixels := [member.name for member in self.members if not member.has_pixels]:
            raise BadGoldenSet(
                "these golden images have no 8-bit pixels",
                got=", ".join(no_pixels),
                next_step="take with_pixels()",
            )
        return np.stack([member.data for member in self.members])

    @property
    def sha256(self) -> str:
        """SHA-256 over the canonical form: a JSON line, then every member's bytes, in order.

        The line is `{"members": [[name, kind, dtype, shape], ...], "preprocessing": {...}}` in ASCII with
        sorted keys and no spaces, ended by a newline; the bytes are little-endian, in C order.
        """
        form = {
            "members": [[m.name, m.kind, m.data.dtype.name, list(m.data.shape)] for m in self.members],
            "preprocessing": self.preprocessing.to_json(),
        }
        line = json.dumps(form, sort_keys=True, separators=(",", ":")) + "\n"
        total = hashlib.sha256(line.encode("ascii"))
        for member in self.members:
            total.update(member.data.astype(member.data.dtype.newbyteorder("<"), copy=False).tobytes())
        return total.hexdigest()

    def of_kind(self, *kinds: str) -> "GoldenSet":
        """The members of these kinds, in the set's order.

        Raises:
            BadGoldenSet: there is none.
        """
        return self._subset((m for m in self.members if m.kind in kinds), f"of kind {' or '.join(kinds)}")

    def ordinary(self) -> "GoldenSet":
        """All but the amplified ones: what is judged in every precision.

        Raises:
            BadGoldenSet: there is none.
        """
        return self._subset((m for m in self.members if m.kind != Kind.AMPLIFIED), "but amplified ones")

    @property
    def ordinary_rows(self) -> list[int]:
        """Where in the set the images are that are not amplified."""
        return [row for row, kind in enumerate(self.kinds) if kind is not Kind.AMPLIFIED]

    def one_of_each_kind(self) -> "GoldenSet":
        """The first member of every kind: what is quick to run."""
        firsts = {member.kind: member for member in reversed(self.members)}
        return GoldenSet(tuple(reversed(firsts.values())), self.preprocessing, self.skipped)

    def with_pixels(self) -> "GoldenSet":
        """The 8-bit images: what a model that takes images can be given.

        Raises:
            BadGoldenSet: there is none.
        """
        return self._subset((m for m in self.members if m.has_pixels), "with 8-bit pixels")

    def amplified(self, factor: float) -> "GoldenSet":
        """This set with its amplified members, stored at unit scale, multiplied by `factor`; names stay.

        The caller finds the factor: the largest on which it is still well conditioned.

        Raises:
            BadOption: the factor is not above 0 and at most `LARGEST_FACTOR`.
        """
        if not 0 < factor <= LARGEST_FACTOR:
            raise BadOption(
                "the amplification cannot be used",
                expected=f"above 0, at most {LARGEST_FACTOR:g}",
                got=f"{factor}",
            )
        scale = np.float32(factor)
        members = (replace(m, data=m.data * scale) if m.kind == Kind.AMPLIFIED else m for m in self.members)
        return GoldenSet(tuple(members), self.preprocessing, self.skipped)

    def _subset(self, members: Iterable[GoldenImage], what: str) -> "GoldenSet":
        chosen = tuple(members)
        if not chosen:
            raise BadGoldenSet(f"the golden set has no images {what}", got=", ".join(self.unique_kinds))
        return GoldenSet(chosen, self.preprocessing, self.skipped)


def merge(first: GoldenSet, second: GoldenSet) -> GoldenSet:
    """Both sets' images, the first's before the second's.

    Raises:
        BadGoldenSet: they were preprocessed differently, or share a name.
    """
    if first.preprocessing != second.preprocessing:
        raise BadGoldenSet(
            "two golden sets were preprocessed differently",
            expected=json.dumps(first.preprocessing.to_json()),
            got=json.dumps(second.preprocessing.to_json()),
            next_step="make both with one Preprocessing",
        )
    return GoldenSet(first.members + second.members, first.preprocessing, first.skipped + second.skipped)
