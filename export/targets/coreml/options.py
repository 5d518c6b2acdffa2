"""What can be asked of a Core ML package beyond its precision, checked before anything is made."""

from dataclasses import dataclass, replace
from typing import ClassVar, Self

from efficientvit.errors import BadOption
from export.targets.apple.options import AppleOptions
from export.targets.options import option
from runtimes.wrapping import TENSOR, Feed, Takes

IOS = (15, 16, 17, 18)
OLDEST_COMPRESSED = 16
"""The first iOS whose Core ML computes from compressed weights."""


@dataclass(frozen=True, slots=True)
class CoreMlOptions(AppleOptions):
    """One package's interface and form. `input`: `image`, of 8 bits and the network's size, or `tensor`.

    Raises:
        BadOption: a value out of range, or two that exclude each other.
    """

    called: ClassVar[str] = "Core ML"

    input: str = "image"
    ios: int = option(
        15,
        "--ios",
        "Oldest iOS version that the app supports. Compressed weights need 16. [default: 15]",
        choices=tuple(map(str, IOS)),
        parse=int,
    )

    def __post_init__(self) -> None:
        if self.ios not in IOS:
            raise BadOption(
                f"--ios {self.ios} is not known",
                expected=", ".join(map(str, IOS)),
                got=str(self.ios),
                next_step="name the oldest iOS that the app runs on; a later one runs the package as well",
            )
        if self.weights is not None and self.ios < OLDEST_COMPRESSED:
            raise BadOption(
                f"compressed weights need iOS {OLDEST_COMPRESSED}",
                expected=f"--ios {OLDEST_COMPRESSED} or later",
                got=f"--ios {self.ios}",
                next_step=f"add --ios {OLDEST_COMPRESSED}, or leave --weights-bits out for devices on iOS {self.ios}",
            )
        self.check_values()

    @property
    def takes_image(self) -> bool:
        """The package takes an 8-bit RGB image."""
        return self.input == "image"

    def fed(self, feed: Feed | None) -> tuple[Self, Feed]:
        """An image of Core ML's has the network's size, and the package normalizes it: nothing is left.

        That is what `pixels` are, and all that `image` can be here: the summary says of which size.

        Raises:
            BadOption: the image is to have another size.
        """
        if feed is None:
            return self, TENSOR
        if feed.size is not None:
            raise BadOption(
                f"a Core ML package does not take --input {feed}",
                expected="--input pixels, an image of the network's size, or --input tensor",
                got=f"--input {feed}",
                next_step="take --input pixels: Vision resizes and crops in the app, as docs/coreml.md says",
            )
        return replace(self, input="tensor" if feed.takes is Takes.TENSOR else "image"), TENSOR

    def check_batch(self, batch: int | None) -> None:
        """An image input takes one image too.

        Raises:
            BadOption: it is another number.
        """
        if self.takes_image and batch != 1:
            raise BadOption(
                "an image input takes one image",
                expected="--batch 1, or --input tensor",
                got=f"--batch {batch or 'dynamic'}",
                next_step="add --input tensor, and preprocess in the app",
            )
        AppleOptions.check_batch(self, batch)  # by name: a class with slots is another than `super()` knows

    def slug_parts(self, batch: int | None) -> list[str]:
        """What is not the default and changes the package, for the folder's name."""
        fed = [] if self.takes_image else [self.input]
        system = [] if self.ios == IOS[0] else [f"ios{self.ios}"]
        return [*self.weights_parts, *fed, *self.labels_parts, *system]
