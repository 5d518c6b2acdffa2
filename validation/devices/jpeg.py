"""A picture from file to logits the way an app goes, through a decoder and a resizer that are not ours.

Apple resizes otherwise than Pillow, and neither is wrong. How far an honest resizer may move the logits is measured:
the same picture through other filters than the contract's. How far a wrong one moves them is measured too
(another crop, swapped channels), and a picture on which that would pass is not used.
"""

import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from efficientvit.images.preprocessing import Preprocessing, to_uint8
from validation.inputs.golden_set import GoldenImage, GoldenSet, Kind
from validation.metrics import Float64, relative_error, scale_of

LogitsOf = Callable[[NDArray[np.uint8]], NDArray[np.floating]]
"""(n, H, W, 3) uint8 R G B -> (n, classes): the package's own answers on images that are already resized."""

JPEG_FACTOR = 2.0
"""Budget over the worst of the plausible resizers. Provisional: Apple's own has not been measured."""

RESIZERS = ("bicubic", "bilinear", "lanczos", "box", "hamming")
_QUALITY, _SUBSAMPLING = 95, 0  # 4:4:4: decoders differ in how they bring halved color back to size
_WIDTH, _HEIGHT = 20 / 7, 16 / 7  # of the input's: 640 x 512 at 224, well above what it is resized to
_TRIED = 3


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A JPEG, its right logits (classes,), and what other ways of resizing it come to.

    `floor`: the worst relative error of a plausible resizer. `wrong`: relative error of each mistake an app can make.
    """

    source: str
    jpeg: bytes
    size: tuple[int, int]
    logits: Float64
    floor: float
    wrong: Mapping[str, float]

    @property
    def budget(self) -> float:
        """What the resizing may cost; what the arithmetic costs comes on top."""
        return JPEG_FACTOR * self.floor

    def discriminates(self, arithmetic: float) -> bool:
        """Every mistake is over the budget, `arithmetic` (a relative error) added to it."""
        return all(error > self.budget + arithmetic for error in self.wrong.values())


def picture(golden: GoldenSet, logits_of: LogitsOf, arithmetic: float) -> Picture | None:
    """The first of a few pictures that tells a right way from the wrong ones; None if none does.

    `arithmetic`: the largest relative error that a compute unit may have on such an image.
    """
    made = (_measured(member, golden.preprocessing, logits_of) for member in _candidates(golden))
    return next((one for one in made if one.discriminates(arithmetic)), None)


def _candidates(golden: GoldenSet) -> Iterator[GoldenImage]:
    for kind in (Kind.PHOTO, Kind.NATURAL):
        yield from [member for member in golden.members if member.kind is kind and member.has_pixels][:_TRIED]


def _measured(member: GoldenImage, preprocessing: Preprocessing, logits_of: LogitsOf) -> Picture:
    from PIL import Image

    content, size = _jpeg(member)
    with Image.open(io.BytesIO(content)) as image:
        rgb = np.array(image.convert("RGB"))
    right = to_uint8(rgb, preprocessing)
    others = [replace(preprocessing, interpolation=name) for name in RESIZERS if name != preprocessing.interpolation]
    wrong = _wrong(rgb, right, preprocessing)
    images = np.stack([right, *(to_uint8(rgb, other) for other in others), *wrong.values()])
    logits = np.asarray(logits_of(images), dtype=np.float64)
    error = relative_error(logits[1:], logits[:1], scale_of(logits[:1]))
    plausible, mistaken = error[: len(others)], error[len(others) :]
    return Picture(
        source=member.name,
        jpeg=content,
        size=size,
        logits=logits[0],
        floor=float(plausible.max()),
        wrong={name: float(value) for name, value in zip(wrong, mistaken, strict=True)},
    )


def _jpeg(member: GoldenImage) -> tuple[bytes, tuple[int, int]]:
    """The member enlarged, and its top and bottom cut off: neither of the input's aspect ratio nor of its size."""
    from PIL import Image

    width, height = round(_WIDTH * member.size.width), round(_HEIGHT * member.size.height)
    whole = round(_WIDTH * member.size.height)
    top = (whole - height) // 2
    image = Image.fromarray(member.data).resize((width, whole), Image.Resampling.BICUBIC)
    stream = io.BytesIO()
    image.crop((0, top, width, top + height)).save(stream, "JPEG", quality=_QUALITY, subsampling=_SUBSAMPLING)
    return stream.getvalue(), (width, height)


def _wrong(
    rgb: NDArray[np.uint8], right: NDArray[np.uint8], preprocessing: Preprocessing
) -> dict[str, NDArray[np.uint8]]:
    """What an app gets that takes Vision's options at their word, or mixes up the channels."""
    size = preprocessing.image_size
    squeezed, whole = (replace(preprocessing, crop=crop, resize=size) for crop in ("squash", "center"))
    mistakes = {
        "the whole picture squeezed (.scaleFill)": to_uint8(rgb, squeezed),
        "the largest centered square (.centerCrop)": to_uint8(rgb, whole),
        "blue and red swapped": right[..., ::-1],
    }
    # What is a mistake under one contract may be what another one asks for.
    return {name: pixels for name, pixels in mistakes.items() if not np.array_equal(pixels, right)}
