"""One thing that a configuration says, by the names that training scripts have for it, and in the forms they write.

Numbers may be text, as YAML's and the command line's are: `'224x224'`, `'[0.5, 0.5, 0.5]'`. Pure data.
"""

import math
import re
from collections.abc import Container, Iterator, Mapping
from typing import Any

from efficientvit.images.label_file import names_in
from efficientvit.size import ImageSize

# The names that a training script may have for each. A later one is for files without the ones before it.
NAMES: Mapping[str, tuple[str, ...]] = {
    "image_size": (
        "input_size", "img_size", "image_size", "val_crop_size", "imgsz", "input_resolution", "resolution", "crop_size",
    ),
    "resize": ("val_resize_size", "resize_size"),
    "mean": ("mean", "image_mean", "img_mean", "pixel_mean", "norm_mean"),
    "std": ("std", "image_std", "img_std", "pixel_std", "norm_std"),
    "crop_pct": ("crop_pct", "eval_crop_ratio"),
    "crop": ("crop_mode",),
    "interpolation": ("interpolation",),
    "classes": ("num_classes", "nb_classes", "n_classes"),
    "labels": (
        "label_names", "class_names", "classes", "labels", "id2label", "idx_to_class", "class_to_idx", "CLASSES",
        "names",
    ),
    "model": ("architecture", "arch", "model", "model_name"),
}  # fmt: skip
UNUSABLE = "unusable"
_SHOWN = 60  # characters of a value
_OF_THE_INPUT = ("image_size", "resize", "mean", "std", "crop_pct", "crop", "interpolation")
_BETWEEN = re.compile(r"[\s,;x]+")


def values_of(mapping: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """(our name, value) of what one mapping says, of several names the first that has a usable value.

    What it says of the input in a form that is not understood comes as `UNUSABLE`: it must not be passed over.
    """
    found: dict[str, Any] = {}
    for name, theirs in NAMES.items():
        read = _READ[name]
        values = (read(mapping[each]) for each in theirs if mapping.get(each) is not None)
        if (value := next((value for value in values if value is not None), None)) is not None:
            found[name] = value
    return [*found.items(), *_unusable(mapping, found)]


def _unusable(mapping: Mapping[str, Any], understood: Container[str]) -> Iterator[tuple[str, str]]:
    for name in _OF_THE_INPUT:
        for theirs in NAMES[name]:
            if name not in understood and mapping.get(theirs) not in (None, ""):
                yield UNUSABLE, f"{theirs} {str(mapping[theirs])[:_SHOWN]}"


def numbers(value: Any) -> list[float] | None:
    """One number, or several, also as text; None of anything else."""
    if isinstance(value, str):
        try:
            value = [float(part) for part in _BETWEEN.split(value.strip("[]() "))]
        except ValueError:
            return None
    found = list(value) if isinstance(value, list | tuple) else [value]
    return found if found and all(map(_number, found)) else None


def _size(value: Any) -> ImageSize | None:
    """The size that is meant by 256, (256, 256), (3, 256, 256) or {height: 256, width: 256}."""
    if isinstance(value, dict):
        value = [value.get("height"), value.get("width")]
    sides = numbers(value)
    if sides is None or len(sides) > 3 or not all(side > 0 and side == int(side) for side in sides):
        return None
    height, width = (int(side) for side in (sides * 2)[-2:])
    return ImageSize(height=height, width=width)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def channels(value: Any) -> tuple[float, float, float] | None:
    """A value for each of R, G and B; of a single one the same."""
    found = numbers(value)
    if found is None or len(found) not in (1, 3):
        return None
    first, second, third = map(float, found * (3 // len(found)))
    return first, second, third


def normalization(config: Mapping[str, Any]) -> dict[str, Any]:
    """What a processor of transformers says of mean and std: of pixels from 0 to 1, whatever it scales them to."""
    mean_std = {name: config.get(name) for name in ("image_mean", "image_std")}
    rescale, factor, offset = (config.get(each) for each in ("do_rescale", "rescale_factor", "rescale_offset"))
    if config.get("do_normalize") is False:
        mean_std = {"image_mean": 0, "image_std": 1}
        if rescale is False:
            return dict.fromkeys(mean_std, "with neither do_rescale nor do_normalize")
    if rescale is False or (factor is None and not offset):
        return mean_std
    span = 255 * factor if isinstance(factor, int | float) else 1.0  # what a pixel of 255 becomes, before the offset
    if math.isclose(span, 1) and not offset:
        return mean_std
    mean, std = (channels(each) for each in mean_std.values())
    if mean is None or std is None or not span > 0:
        return dict.fromkeys(mean_std, f"after rescale_factor {factor}")
    shift = 1 if offset else 0
    return {"image_mean": [(each + shift) / span for each in mean], "image_std": [each / span for each in std]}


def _share(value: Any) -> float | None:
    found = numbers(value)
    return float(found[0]) if found is not None and len(found) == 1 and 0 < found[0] <= 1 else None


def _count(value: Any) -> int | None:
    found = numbers(value)
    return int(found[0]) if found is not None and len(found) == 1 and found[0] == int(found[0]) > 0 else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _filter(value: Any) -> str | None:
    """`bicubic` of `InterpolationMode.BICUBIC`. A number may be Pillow's or OpenCV's, which differ."""
    return value.rpartition(".")[2].lower() if isinstance(value, str) and value else None


_READ = {
    "image_size": _size,
    "resize": _size,
    "mean": channels,
    "std": channels,
    "crop_pct": _share,
    "crop": _text,
    "interpolation": _filter,
    "classes": _count,
    "labels": names_in,
    "model": _text,
}
