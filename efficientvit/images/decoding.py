"""From an image file to 8-bit RGB, in one defined way, with Pillow. Imports nothing heavy."""

import struct
import warnings
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from efficientvit.content import FIRST, described
from efficientvit.errors import BadImage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    Rgb = NDArray[np.uint8]

# Pillow's own default; held here as well, because any library in the process can switch Pillow's off.
MAX_PIXELS = 1024**3 // 4 // 3
# Decoders that ship with Pillow and read pixels only. Its EPS decoder, for one, runs Ghostscript.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
_HEIF = dict.fromkeys((b"heic", b"heix", b"hevc", b"hevx", b"mif1", b"msf1"), "a HEIC") | {b"avif": "an AVIF"}
_EXPECTED = f"a {', '.join(FORMATS[:-1])} or {FORMATS[-1]} file of at most {MAX_PIXELS:,} pixels"
# What Pillow's decoders raise on broken files: they document no common class.
_DECODER_ERRORS = (
    OSError, SyntaxError, ValueError, TypeError, EOFError, LookupError, OverflowError,
    NotImplementedError, struct.error, zlib.error,
)  # fmt: skip
_TIFF_BITS, _TIFF_PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0


def read_rgb(path: Path, background: tuple[int, int, int]) -> "Rgb":
    """The picture in the file, as (H, W, 3) uint8.

    - EXIF orientation is applied. (timm and torchvision ignore it; a viewer, a phone and Core ML don't.)
    - Gray, palette and 1-bit pictures are expanded. Of 16-bit samples the high byte is kept, in gray
      pictures as in colored ones, where Pillow does it; 12-bit gray is scaled likewise.
    - CMYK, YCbCr and Lab are converted by Pillow's fixed formulas.
    - Transparency (RGBA, LA, a palette's or a key color's) is composited on `background`.
    - Of an animation or a multi-page file, the first frame counts.
    - An embedded ICC profile is ignored, as timm and torchvision do.
    - Warnings about damaged metadata are passed over: only pixels count here.

    Raises:
        BadImage: missing, unreadable, not an image of a known format, damaged or cut off, over `MAX_PIXELS`
            (decompression bomb), or of a sample format without a defined white (32-bit integer, float).
    """
    from PIL import Image, UnidentifiedImageError

    try:
        if not path.is_file():
            raise _no_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            # A stream, not the path: given a path, Pillow (13.0 still) maps plain TIFFs into memory, and
            # scrambles those whose orientation swaps the sides.
            with path.open("rb") as stream, Image.open(stream, formats=FORMATS) as image:
                return _decode(image, path, background)
    except UnidentifiedImageError as error:
        raise _bad(path, _unknown(path)) from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise _bad(path, "has too many pixels", str(error)) from error
    except _DECODER_ERRORS as error:
        raise _bad(path, "cannot be decoded", f"{type(error).__name__}: {error}") from error


def _unknown(path: Path) -> str:
    """What it is, where it is a picture of a format that nothing here decodes."""
    with path.open("rb") as stream:
        start = stream.read(FIRST)
    if start[4:8] != b"ftyp":
        return f"is not an image of a known format, but {described(start)}"
    if (brand := start[8:12]) in _HEIF:
        return f"is {_HEIF[brand]} picture, which is not read"
    return "is a film (MP4 or MOV), not an image"


def _decode(image: "Image", path: Path, background: tuple[int, int, int]) -> "Rgb":
    import numpy as np
    from PIL import Image, ImageOps

    if not 0 < image.width * image.height <= MAX_PIXELS:
        raise _bad(path, "has no pixels, or too many", f"{image.width} x {image.height}")
    picture = ImageOps.exif_transpose(image)
    if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):
        picture = _eight_bit(picture, image, path)
    if picture.has_transparency_data:
        backdrop = Image.new("RGBA", picture.size, (*background, 255))
        picture = Image.alpha_composite(backdrop, picture.convert("RGBA"))
    return np.array(picture.convert("RGB"))


def _eight_bit(picture: "Image", source: "Image", path: Path) -> "Image":
    """Deep gray as 8-bit gray, with its transparent key as alpha. `source` still knows the file's format."""
    import numpy as np
    from PIL import Image

    # Pillow reads a deep PGM as 32-bit integers, already scaled to a range of 16 bits.
    if picture.mode == "F" or (picture.mode == "I" and source.format != "PPM"):
        raise _bad(path, "has 32-bit samples, which have no defined white", f"Pillow mode {picture.mode}")
    tags = getattr(source, "tag_v2", {})
    samples = np.asarray(picture).astype(np.int64)
    high = (samples >> (tags.get(_TIFF_BITS, (16,))[0] - 8)).astype(np.uint8)
    if tags.get(_TIFF_PHOTOMETRIC) == _WHITE_IS_ZERO:
        high = 255 - high
    gray = Image.fromarray(high)
    if (key := source.info.get("transparency")) is not None:
        gray.putalpha(Image.fromarray(np.where(samples == key, 0, 255).astype(np.uint8)))
    return gray


def _no_file(path: Path) -> BadImage:
    if path.is_dir():
        return BadImage(f"{path} is a folder", expected=_EXPECTED, next_step="name the pictures in it")
    if path.exists():
        return BadImage(f"{path} is no regular file", expected=_EXPECTED, next_step="name a picture")
    gone = f"a link to '{path.readlink()}', which is not there" if path.is_symlink() else None
    return BadImage(f"{path} does not exist", expected=_EXPECTED, got=gone, next_step="check its path")


def _bad(path: Path, what: str, got: str | None = None) -> BadImage:
    return BadImage(
        f"{path} {what}",
        expected=_EXPECTED,
        got=got,
        next_step="remove the file, or save it again as an 8-bit RGB JPEG or PNG",
    )
