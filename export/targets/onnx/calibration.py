"""`--calibrate`: the images on which int8 finds its ranges."""

from pathlib import Path
from typing import TYPE_CHECKING

from efficientvit.errors import BadOption
from export.targets.workshop import Workshop

if TYPE_CHECKING:
    from runtimes.runtime import Array

ENOUGH = 50
"""Fewer images say too little of the ranges to give up on int8."""

_SHOWN = 5
GOLDEN = "golden"
"""`--calibrate golden`: the golden images themselves."""


def require_calibration(calibrate: str | None, precision: str) -> None:
    """int8 needs images, and nothing else does.

    Args:
        calibrate: a folder of photos, or `golden`; None where nothing was given.
        precision: as `--precision` has it.

    Raises:
        BadOption: none are given, or the folder is none.
    """
    if precision != "int8":
        if calibrate is not None:
            raise BadOption(
                "--calibrate is for int8",
                expected="-p int8 with it",
                got=f"-p {precision}",
                next_step="add -p int8, or leave --calibrate out",
            )
        return
    if calibrate is None:
        raise BadOption(
            "int8 has to be calibrated",
            expected="--calibrate DIR with photos like those that the app will see",
            got="no --calibrate",
            next_step="for a trial, --calibrate golden takes the golden images themselves",
        )
    if calibrate != GOLDEN and not Path(calibrate).is_dir():
        raise BadOption(
            "--calibrate names no folder",
            expected="a folder of photos",
            got=calibrate,
            next_step="a hundred photos like those that the app will see are enough to begin with",
        )


def calibration_notes(shop: Workshop, calibrate: str | None) -> tuple[str, ...]:
    """The files of `--calibrate` that are no images and were left out."""
    skipped = () if calibrate in (None, GOLDEN) else shop.photos(Path(str(calibrate))).skipped
    more = ", …" if len(skipped) > _SHOWN else ""
    return (f"{len(skipped)} files of --calibrate left out: {', '.join(skipped[:_SHOWN])}{more}",) if skipped else ()


def too_few(images: int) -> str | None:
    """What to do about an int8 file that is over its budget, where it was calibrated on few images."""
    if images >= ENOUGH:
        return None
    return (
        f"calibrated on {images} images: too few to know the ranges; use about a hundred photos like those that the "
        "app will see (--calibrate DIR), then -p fp16 or a larger --quality-budget"
    )


def calibration_images(shop: Workshop, calibrate: str | None) -> "Array":
    """(n, 3, H, W) float32: the photos of `--calibrate`, or the golden images where it asks for them.

    Raises:
        BadGoldenSet: the folder holds no photo that can be used.
    """
    assert calibrate is not None, "int8 without images is refused before"
    return shop.ordinary_images() if calibrate == GOLDEN else shop.photos(Path(calibrate)).images
