"""The preprocessing contract: the one way from an image file to the model's input tensor.

    file ── load_rgb ──▶ (H, W, 3) uint8 ── to_uint8 ──▶ (S, S, 3) uint8 ── normalize ──▶ (3, S, S) float32

`to_tensor` is the last two steps, and equals timm's evaluation transform bit for bit. What an app has to
reproduce is `to_uint8` and `normalize`; `Preprocessing.to_json` describes it. Imports nothing heavy.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from efficientvit.errors import BadImage, BadOption
from efficientvit.images.decoding import MAX_PIXELS, read_rgb
from efficientvit.spec import LARGEST_IMAGE

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Rgb = NDArray[np.uint8]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
WHITE = (255, 255, 255)
CROP_PCT = 0.875  # the share of the resized short side that the crop keeps: 224 of 256
INTERPOLATIONS = ("bicubic", "bilinear", "lanczos", "hamming", "box", "nearest")
CROPS = ("center", "squash")
_SIZES = f"a whole number from 1 to {LARGEST_IMAGE}"


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """What the input tensor depends on besides the image; the defaults are the published weights'.

    `image_size` (S): side of the input, pixels. `resize`: the short side (with `squash`: both sides) before
    the crop, pixels; 0 stands for timm's floor(S / 0.875), which is 256 at 224, and is replaced by it.
    `interpolation`: a Pillow filter, antialiased as Pillow's always are. `crop`: `center` keeps the aspect
    ratio and loses the ends, `squash` loses the aspect ratio. `mean`, `std`: per channel, R G B, on the scale
    0..1. `background`: R G B, 0..255, what shows through transparency.

    Raises:
        BadOption: a value out of range or of the wrong type.
    """

    image_size: int = 224
    resize: int = 0
    interpolation: str = "bicubic"
    crop: str = "center"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    background: tuple[int, int, int] = WHITE

    def __post_init__(self) -> None:
        _require("image_size", self.image_size, _is_whole(self.image_size, 1, LARGEST_IMAGE), _SIZES)
        if self.resize == 0:
            object.__setattr__(self, "resize", math.floor(self.image_size / CROP_PCT))
        at_least = f"at least {self.image_size} pixels, the image size: the crop is taken from the resized image"
        _require("resize", self.resize, _is_whole(self.resize, self.image_size, MAX_PIXELS), at_least)
        known = self.interpolation in INTERPOLATIONS
        _require("interpolation", self.interpolation, known, ", ".join(INTERPOLATIONS))
        _require("crop", self.crop, self.crop in CROPS, ", ".join(CROPS))
        _require("mean", self.mean, _is_triple(self.mean, _is_number), "three finite numbers")
        positive = _is_triple(self.std, _is_number) and min(self.std) > 0
        _require("std", self.std, positive, "three finite numbers above 0")
        _require_unit_scale("mean", self.mean)
        _require_unit_scale("std", self.std)
        byte = _is_triple(self.background, lambda value: _is_whole(value, 0, 255))
        _require("background", self.background, byte, "three whole numbers from 0 to 255")

    def to_json(self) -> dict[str, Any]:
        """Every field, as the manifest carries them; tuples become lists."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Preprocessing":
        """The inverse of `to_json`. Every field has to be there: a contract has no unstated parts.

        Raises:
            BadOption: a field is missing, unknown, out of range or of the wrong type.
        """
        names = sorted(field.name for field in fields(cls))
        if sorted(data) != names:
            raise BadOption(
                "the preprocessing does not have the fields that it should",
                expected=", ".join(names),
                got=", ".join(sorted(data)) or "none",
                next_step="take it from a manifest that this version wrote",
            )
        values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in data.items()}
        return cls(**values)


def load_rgb(path: Path, preprocessing: Preprocessing) -> "Rgb":
    """The picture in the file as (H, W, 3) uint8, transparency on the contract's background: `read_rgb`.

    Raises:
        BadImage: the file is not a usable image.
    """
    return read_rgb(path, preprocessing.background)


def to_uint8(rgb: "Rgb", preprocessing: Preprocessing) -> "Rgb":
    """Resize and crop (H, W, 3) uint8 to (S, S, 3) uint8: what an app hands to a model that takes images.

    The arithmetic is torchvision's (`Resize`, `CenterCrop` on a Pillow image), with which timm evaluates: the
    long side is cut off to whole pixels, and the crop's offset rounds halves to even.

    Raises:
        BadImage: not a uint8 RGB image, or so long and thin that resized it would exceed `MAX_PIXELS`.
    """
    import numpy as np
    from PIL import Image

    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or 0 in rgb.shape:
        raise BadImage("not an RGB image", expected="(H, W, 3) uint8", got=f"{rgb.shape} {rgb.dtype}")
    size = rgb.shape[1], rgb.shape[0]
    width, height = _resized(size, preprocessing)
    if width * height > MAX_PIXELS:
        raise BadImage(
            f"an image of {size[0]} x {size[1]} is too long and thin to resize",
            expected=f"at most {MAX_PIXELS:,} pixels once its short side is {preprocessing.resize}",
            got=f"{width} x {height}",
            next_step="crop it first",
        )
    image = Image.fromarray(rgb)
    if (width, height) != size:
        image = image.resize((width, height), Image.Resampling[preprocessing.interpolation.upper()])
    side = preprocessing.image_size
    left, top = round((width - side) / 2), round((height - side) / 2)
    return np.array(image.crop((left, top, left + side, top + side)))


def normalize(pixels: "Rgb", preprocessing: Preprocessing) -> "NDArray[np.float32]":
    """(..., S, S, 3) uint8 -> (..., 3, S, S) float32: (pixel / 255 - mean) / std, each step in float32.

    A folded form (pixel * scale + bias) rounds differently, and is not bit-equal to timm's.
    """
    import numpy as np

    channels_first = np.ascontiguousarray(np.moveaxis(pixels, -1, -3), dtype=np.float32)
    mean = np.array(preprocessing.mean, dtype=np.float32)[:, None, None]
    std = np.array(preprocessing.std, dtype=np.float32)[:, None, None]
    unit = channels_first / np.float32(255)
    normal: NDArray[np.float32] = (unit - mean) / std
    return normal


def to_tensor(rgb: "Rgb", preprocessing: Preprocessing) -> "NDArray[np.float32]":
    """(H, W, 3) uint8 -> (3, S, S) float32, bit-equal to timm's evaluation transform.

    Raises:
        BadImage: as `to_uint8`.
    """
    return normalize(to_uint8(rgb, preprocessing), preprocessing)


def _resized(size: tuple[int, int], preprocessing: Preprocessing) -> tuple[int, int]:
    """(width, height) before the crop, from (width, height)."""
    target = preprocessing.resize
    if preprocessing.crop == "squash":
        return target, target
    width, height = size
    long = int(target * max(size) / min(size))
    return (target, long) if width <= height else (long, target)


def _require(name: str, value: object, holds: bool, expected: str) -> None:
    if not holds:
        raise BadOption(f"the preprocessing's {name} cannot be used", expected=expected, got=repr(value))


def _require_unit_scale(name: str, value: tuple[float, float, float]) -> None:
    """Pixels are scaled to 0..1 before the normalization; other tools state mean and std for pixels from 0 to 255."""
    if min(value) >= 0 and max(value) <= 1:
        return
    converted = " ".join(f"{each / 255:.4g}" for each in value)
    raise BadOption(
        f"the preprocessing's {name} is not of pixels from 0 to 1",
        expected="three numbers from 0 to 1",
        got=" ".join(f"{each:g}" for each in value),
        next_step=f"if it is of pixels from 0 to 255, divide it by 255: --{name} {converted}"
        if min(value) >= 0
        else f"give the {name} of pixels from 0 to 1",
    )


def _is_whole(value: object, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_triple(value: object, holds: Callable[[object], bool]) -> bool:
    return isinstance(value, tuple) and len(value) == 3 and all(map(holds, value))
