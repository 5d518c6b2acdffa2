"""What a file does around the network: the preprocessing of a photo before it, probabilities or classes after it."""

import re
from dataclasses import dataclass
from enum import StrEnum

from efficientvit.errors import BadOption
from efficientvit.images.preprocessing import Preprocessing
from efficientvit.size import ImageSize

BEST = 5
"""Classes that `topk` gives unless a number is stated."""


class Takes(StrEnum):
    """What is fed to a file."""

    TENSOR = "tensor"
    """(B, 3, H, W) float32, normalized."""
    PIXELS = "pixels"
    """(B, H, W, 3) uint8, R G B, resized and cropped to the network's size: the file normalizes."""
    IMAGE = "image"
    """(B, h, w, 3) uint8, R G B, of a stated size or of any: the file resizes, crops and normalizes."""


class Gives(StrEnum):
    """What a classifier's file gives in addition to the logits."""

    LOGITS = "logits"
    """Nothing."""
    PROBABILITIES = "probabilities"
    """(B, classes) float32: the softmax of the logits; the sigmoid of a single one."""
    TOPK = "topk"
    """`scores` (B, k) float32, the largest probabilities, and `classes` (B, k) int64, whose they are; best first."""


@dataclass(frozen=True, slots=True)
class Feed:
    """What is fed to a file. `size`: of the images, where it is stated; else they may have any, one for each batch."""

    takes: Takes = Takes.TENSOR
    size: ImageSize | None = None

    def __str__(self) -> str:
        """As `--input` takes it."""
        if self.size is None:
            return self.takes.value
        return f"{self.takes}:{self.size.height}x{self.size.width}"

    @classmethod
    def parse(cls, text: str) -> "Feed":
        """Of `tensor`, `pixels`, `image` or `image:HxW`.

        Raises:
            BadOption: none of these.
        """
        name, colon, size = text.partition(":")
        if name in tuple(Takes) and not colon:
            return cls(Takes(name))
        if name == Takes.IMAGE and re.fullmatch(r"[1-9]\d{0,4}x[1-9]\d{0,4}", size, re.ASCII):
            return cls(Takes.IMAGE, ImageSize.parse(size))
        raise BadOption(
            f"there is no input '{text}'",
            expected="tensor, pixels, image, or image:HxW with a size in pixels",
            got=text,
            next_step="--input image takes photos of any size, --input image:480x640 those of 480 by 640, the height "
            "first",
        )


@dataclass(frozen=True, slots=True)
class Answers:
    """What a classifier's file gives. `best`: how many classes `topk` gives, 0 of the others."""

    gives: Gives = Gives.LOGITS
    best: int = 0

    def __str__(self) -> str:
        """As `--output` takes it."""
        return f"{self.gives}:{self.best}" if self.best else self.gives.value

    @classmethod
    def parse(cls, text: str) -> "Answers":
        """Of `logits`, `probabilities`, `topk` or `topk:K`.

        Raises:
            BadOption: none of these.
        """
        name, colon, number = text.partition(":")
        if name == Gives.TOPK and re.fullmatch(r"[1-9]\d{0,3}" if colon else "", number, re.ASCII):
            return cls(Gives.TOPK, int(number) if colon else BEST)
        if name in (Gives.LOGITS, Gives.PROBABILITIES) and not colon:
            return cls(Gives(name))
        raise BadOption(
            f"there is no output '{text}'",
            expected=f"logits, probabilities, topk for the {BEST} best classes, or topk:K, with K from 1 to 9999",
            got=text,
            next_step="leave --output out for logits alone, which every file gives",
        )


TENSOR, LOGITS = Feed(), Answers()
"""Nothing around the network."""


@dataclass(frozen=True, slots=True)
class Wrapping:
    """All that a file does around its network. `preprocessing`: whose arithmetic it has to equal."""

    feed: Feed
    answers: Answers
    preprocessing: Preprocessing

    @property
    def takes_images(self) -> bool:
        """It takes 8-bit images in the place of a tensor."""
        return self.feed.takes is not Takes.TENSOR

    @property
    def resizes(self) -> bool:
        """It takes photos as they are."""
        return self.feed.takes is Takes.IMAGE

    @property
    def fed_size(self) -> ImageSize | None:
        """The size of the images that are fed, pixels; None where they may have any."""
        return self.feed.size if self.resizes else self.preprocessing.image_size
