"""The preprocessing contract: the one way from an image file to the model's input tensor.

    file ── load_rgb ──▶ (h, w, 3) uint8 ── to_uint8 ──▶ (H, W, 3) uint8 ── normalize ──▶ (3, H, W) float32

`to_tensor` is the last two steps, and equals timm's evaluation transform bit for bit. What an app has to
reproduce is `to_uint8` and `normalize`; `Preprocessing.to_json` describes it. Imports nothing heavy.
"""

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from efficientvit.errors import BadImage, BadOption
from efficientvit.images.decoding import MAX_PIXELS, read_rgb
from efficientvit.size import ImageSize, square
from efficientvit.spec import LARGEST_IMAGE, PUBLISHED_SIZE

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
_SIZES = f"height and width from 1 to {LARGEST_IMAGE}"
_UNSTATED = square(0)


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """What the input tensor depends on besides the image; the defaults are the published weights'.

    `image_size` (H, W): of the input, pixels. `resize`: what the image is resized to before the crop, pixels: so that
    it just covers this size (of a square: to this short side), with `squash` to exactly this size. Unstated it is
    timm's floor(H / 0.875), floor(W / 0.875): 256 at 224. `interpolation`: a Pillow filter, antialiased as Pillow's
    always are. `crop`: `center` keeps the aspect ratio and loses the ends, `squash` loses the aspect ratio. `mean`,
    `std`: per channel, R G B, on the scale 0..1. `background`: R G B, 0..255, what shows through transparency.

    Raises:
        BadOption: a value out of range or of the wrong type.
    """

    image_size: ImageSize = PUBLISHED_SIZE
    resize: ImageSize = _UNSTATED
    interpolation: str = "bicubic"
    crop: str = "center"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    background: tuple[int, int, int] = WHITE

    def __post_init__(self) -> None:
        size = self.image_size
        fits = all(1 <= side <= LARGEST_IMAGE for side in (size.height, size.width))
        _require("image_size", size, fits, _SIZES, "give another size: --image-size N or HxW")
        if self.resize == _UNSTATED:
            height, width = (math.floor(side / CROP_PCT) for side in (size.height, size.width))
            object.__setattr__(self, "resize", ImageSize(height=height, width=width))
        at_least = f"at least {size} pixels, the image size: the crop is taken from the resized image"
        larger = f"give {size} or more, as in --resize {size}"
        _require("resize", self.resize, self.resize.holds(size), at_least, larger)
        at_most = f"at most {MAX_PIXELS:,} pixels"
        _require("resize", self.resize, self.resize.area <= MAX_PIXELS, at_most, f"give less, as in --resize {size}")
        known = self.interpolation in INTERPOLATIONS
        filters = "give one of them: --interpolation NAME"
        _require("interpolation", self.interpolation, known, ", ".join(INTERPOLATIONS), filters)
        _require("crop", self.crop, self.crop in CROPS, ", ".join(CROPS), "give one of them")
        triple = _is_triple(self.mean, _is_number)
        _require("mean", self.mean, triple, "three finite numbers", "give them: --mean R G B")
        positive = _is_triple(self.std, _is_number) and min(self.std) > 0
        _require("std", self.std, positive, "three finite numbers above 0", "give them: --std R G B")
        _require_unit_scale(self.mean, self.std)
        byte = _is_triple(self.background, lambda value: _is_whole(value, 0, 255))
        whole = "three whole numbers from 0 to 255"
        _require("background", self.background, byte, whole, f"give {whole}")

    def to_json(self) -> dict[str, Any]:
        """Every field, as the manifest carries them; tuples become lists."""
        return {field.name: _plain(getattr(self, field.name)) for field in fields(self)}

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
        sizes = {name: ImageSize.from_json(values[name], name) for name in ("image_size", "resize")}
        return cls(**values | sizes)


def load_rgb(path: Path, preprocessing: Preprocessing) -> "Rgb":
    """The picture in the file as (h, w, 3) uint8, transparency on the contract's background: `read_rgb`.

    Raises:
        BadImage: the file is not a usable image, or its picture is too long and thin to resize.
    """
    rgb = read_rgb(path, preprocessing.background)
    require_resizable(ImageSize(height=rgb.shape[0], width=rgb.shape[1]), preprocessing, f"{path}: ")
    return rgb


def to_uint8(rgb: "Rgb", preprocessing: Preprocessing) -> "Rgb":
    """Resize and crop (h, w, 3) uint8 to (H, W, 3) uint8: what an app hands to a model that takes images.

    The arithmetic is that with which timm evaluates (torchvision's `Resize` and `CenterCrop` on a Pillow image, timm's
    `ResizeKeepRatio` where `resize` is no square): the long side is cut off to whole pixels, rounded for a rectangle,
    and the crop's offset rounds halves to even. Rows are resampled before columns, as in Pillow before 13.

    Raises:
        BadImage: not a uint8 RGB image, or so long and thin that resized it would exceed `MAX_PIXELS`.
    """
    import numpy as np
    from PIL import Image

    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or 0 in rgb.shape:
        raise BadImage("not an RGB image", expected="(H, W, 3) uint8", got=f"{rgb.shape} {rgb.dtype}")
    size = ImageSize(height=rgb.shape[0], width=rgb.shape[1])
    resized = resized_size(size, preprocessing)
    require_resizable(size, preprocessing)
    image, pillow_filter = Image.fromarray(rgb), Image.Resampling[preprocessing.interpolation.upper()]
    # One side at a time: in one call Pillow 13 takes the columns first where the height shrinks much more, and gives
    # other pixels than Pillow before it, with which the published weights were evaluated.
    for sides in ((resized.width, size.height), (resized.width, resized.height)):
        if image.size != sides:
            image = image.resize(sides, pillow_filter)
    cut, (top, left) = preprocessing.image_size, crop_corner(resized, preprocessing)
    return np.array(image.crop((left, top, left + cut.width, top + cut.height)))


def normalize(pixels: "Rgb", preprocessing: Preprocessing) -> "NDArray[np.float32]":
    """(..., H, W, 3) uint8 -> (..., 3, H, W) float32: (pixel / 255 - mean) / std, each step in float32.

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
    """(h, w, 3) uint8 -> (3, H, W) float32, bit-equal to timm's evaluation transform.

    Raises:
        BadImage: as `to_uint8`.
    """
    return normalize(to_uint8(rgb, preprocessing), preprocessing)


def require_resizable(size: ImageSize, preprocessing: Preprocessing, where: str = "") -> None:
    """Refuse an image of this size if, resized, it would exceed `MAX_PIXELS`. `where`: its file, for the message.

    Raises:
        BadImage: it would.
    """
    resized = resized_size(size, preprocessing)
    if resized.area > MAX_PIXELS:
        raise BadImage(
            f"{where}an image of {size.width} x {size.height} is too long and thin to resize",
            expected=f"at most {MAX_PIXELS:,} pixels once it covers {preprocessing.resize}",
            got=f"{resized.width} x {resized.height}",
            next_step="crop it first",
        )


def resized_size(size: ImageSize, preprocessing: Preprocessing) -> ImageSize:
    """The size before the crop, pixels, of an image of this size."""
    target = preprocessing.resize
    if preprocessing.crop == "squash":
        return target
    if not target.is_square:
        ratio = min(size.height / target.height, size.width / target.width)
        return ImageSize(height=round(size.height / ratio), width=round(size.width / ratio))
    short, upright = target.height, size.width <= size.height
    long = int(short * max(size.height, size.width) / size.shorter)
    return ImageSize(height=long if upright else short, width=short if upright else long)


def crop_corner(resized: ImageSize, preprocessing: Preprocessing) -> tuple[int, int]:
    """Top and left of the crop in the resized image, pixels."""
    cut = preprocessing.image_size
    return round((resized.height - cut.height) / 2), round((resized.width - cut.width) / 2)


def _plain(value: object) -> object:
    match value:
        case ImageSize():
            return value.to_json()
        case tuple():
            return list(value)
        case _:
            return value


def _require(name: str, value: object, holds: bool, expected: str, next_step: str) -> None:
    if not holds:
        got = str(value) if isinstance(value, ImageSize) else repr(value)
        raise BadOption(f"the preprocessing's {name} cannot be used", expected=expected, got=got, next_step=next_step)


def _require_unit_scale(mean: tuple[float, float, float], std: tuple[float, float, float]) -> None:
    """Pixels are scaled to 0..1 before the normalization; other tools state mean and std for pixels from 0 to 255."""
    both = {"mean": mean, "std": std}
    wrong = {name: value for name, value in both.items() if min(value) < 0 or max(value) > 1}
    if not wrong:
        return
    if negative := [name for name, value in wrong.items() if min(value) < 0]:
        advice = f"give the {' and '.join(negative)} of pixels from 0 to 1"
    else:  # of a mean of such pixels a standard deviation of 1 is one, too
        scaled = wrong | ({"std": std} if "mean" in wrong and max(std) == 1 else {})
        options = " ".join(
            f"--{name} {_shown(tuple(each / 255 for each in value), '.4g')}" for name, value in scaled.items()
        )
        advice = f"if {_they(scaled)} of pixels from 0 to 255, divide by 255: {options}"
    raise BadOption(
        f"the preprocessing's {' and '.join(wrong)} {'is' if len(wrong) == 1 else 'are'} not of pixels from 0 to 1",
        expected="three numbers from 0 to 1",
        got="; ".join(f"{name} {_shown(value, 'g')}" for name, value in wrong.items()),
        next_step=advice,
    )


def _they(names: Collection[str]) -> str:
    return "it is" if len(names) == 1 else "they are"


def _shown(value: tuple[float, ...], form: str) -> str:
    return " ".join(format(each, form) for each in value)


def _is_whole(value: object, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_triple(value: object, holds: Callable[[object], bool]) -> bool:
    return isinstance(value, tuple) and len(value) == 3 and all(map(holds, value))
