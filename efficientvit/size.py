"""Height and width as one value, so that they cannot be swapped or mistaken for a single side."""

import re
from dataclasses import dataclass
from typing import TypeVar

from efficientvit.errors import BadOption

_B = TypeVar("_B")
_TEXT = re.compile(r"(\d{1,9})(?:x(\d{1,9}))?", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSize:
    """Height and width: of an image in pixels, of a stage's grid in tokens."""

    height: int
    width: int

    def __str__(self) -> str:
        """As `--image-size` takes it: `224` for a square, else `HxW`."""
        return str(self.height) if self.is_square else f"{self.height}x{self.width}"

    @property
    def is_square(self) -> bool:
        """Height and width are the same."""
        return self.height == self.width

    @property
    def shorter(self) -> int:
        """The smaller of height and width."""
        return min(self.height, self.width)

    @property
    def area(self) -> int:
        """Height times width."""
        return self.height * self.width

    def nchw(self, batch: _B) -> tuple[_B, int, int, int]:
        """The shape of `batch` RGB images, channels first."""
        return batch, 3, self.height, self.width

    def nhwc(self, batch: _B) -> tuple[_B, int, int, int]:
        """The shape of `batch` RGB images, channels last."""
        return batch, self.height, self.width, 3

    def holds(self, other: "ImageSize") -> bool:
        """Neither side of `other` is longer than this one's."""
        return other.height <= self.height and other.width <= self.width

    def to_json(self) -> int | list[int]:
        """The side of a square; `[height, width]` of a rectangle."""
        return self.height if self.is_square else [self.height, self.width]

    @classmethod
    def from_json(cls, value: object, name: str = "image_size") -> "ImageSize":
        """The inverse of `to_json`. `name`: the field, for a message.

        Raises:
            BadOption: neither a whole number nor two of them.
        """
        match value:
            case bool() | [bool(), _] | [_, bool()]:
                pass
            case int(side):
                return cls(height=side, width=side)
            case [int(height), int(width)]:
                return cls(height=height, width=width)
        raise BadOption(
            f"{name} cannot be used",
            expected="a whole number for a square, or [height, width]",
            got=repr(value),
        )

    @classmethod
    def parse(cls, text: str) -> "ImageSize":
        """The inverse of `str`: `N` or `HxW`, height first.

        Raises:
            BadOption: neither.
        """
        if (match := _TEXT.fullmatch(text.strip().lower())) is None:
            raise BadOption(
                f"image size '{text}' cannot be used",
                expected="N for a square, or HxW, the height first",
                got=text,
                next_step="--image-size 480x640 is 480 pixels high and 640 wide",
            )
        return cls(height=int(match[1]), width=int(match[2] or match[1]))


def square(side: int) -> ImageSize:
    """A square of this side."""
    return ImageSize(height=side, width=side)
