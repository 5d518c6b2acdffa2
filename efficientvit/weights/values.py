"""What configurations say, by the names that training scripts have for it, and in the forms they write.

Numbers may be text, as YAML's and the command line's are: `'224x224'`, `'[0.5, 0.5, 0.5]'`. Pure data.
"""

import math
import re
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any

from efficientvit.files import parse_json
from efficientvit.images.label_file import names_in
from efficientvit.images.preprocessing import CROPS, IMAGENET_MEAN
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
UNUSABLE, NOTED = "unusable", "noted"
_DEPTH = 100
_WORDNET = re.compile(r"n\d{8}")
_SHOWN = 60  # characters of a value
_OF_THE_INPUT = ("image_size", "resize", "mean", "std", "crop_pct", "crop", "interpolation")
_CHANNELS = ("in_chans", "input_channels")
_BETWEEN = re.compile(r"[\s,;x]+")
_IN_TEXT = re.compile(
    r"(?<![\w.-])(?:--)?(?P<name>{0})(?=[\"']?\s*[=:])|(?<![\w-])--(?P<option>{0})(?!\w)".format(
        "|".join(each.replace("_", "[_-]") for name in ("image_size", "mean", "std") for each in NAMES[name])
    )
)
_WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_MEASURED = re.compile(
    r"(?<![a-z])(metrics?|loss(es)?|criterions?|acc(uracy)?|scores?|history|results?|logs?|grads?)(?![a-z])"
)
_ELSEWHERE = re.compile(
    r"(?<![a-z])(lpips|perceptual|vgg|teacher|targets?|labels?|latents?|features?|embed\w*|outputs?)(?![a-z])"
)
_WRAPPING = re.compile(r"\[?\d+\]?|(\w*_)?(model|module|net|network|state_dict)|_orig_mod")
_INPUT = re.compile(
    r"norm|preproc|processor|transf|data|imag|img|pixel|input|rgb|scal|standardi|augment|cfg|config|args|param"
)


def snake(place: str) -> str:
    """`model_ema` of `modelEma`."""
    return _WORDS.sub("_", place).lower()


def of_something_else(place: str) -> bool:
    """Whether a mean and standard deviation in this place are those of a metric or a loss."""
    return _MEASURED.search(snake(place)) is not None


def normalizes(place: str, prefix: str = "") -> bool:
    """Whether the name of a tensor says that it is of the normalization of the input.

    Args:
        place: its name, from the top of the file: `normalize.mean`.
        prefix: of the model's names. What wraps the model may keep the mean itself.
    """
    owners, around = place.split(".")[:-1], prefix.split(".")
    while owners and owners[0] == around[0]:
        owners, around = owners[1:], around[1:]
    segments = [each for each in owners if each and not _WRAPPING.fullmatch(each)]
    if not segments:
        return True
    within = snake(".".join(owners))
    return bool(_INPUT.search(snake(segments[-1]))) and not (_MEASURED.search(within) or _ELSEWHERE.search(within))


def mappings(
    value: Any, place: str = "", depth: int = _DEPTH, seen: dict[int, Any] | None = None
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(place, mapping) of every mapping in a value, at any depth, in lists as well; each once.

    Text that is a list or an object in JSON counts as what it says.
    """
    seen = {} if seen is None else seen
    if not depth or not isinstance(value, dict | list) or id(value) in seen:
        return
    seen[id(value)] = value
    if isinstance(value, dict):
        opened = {str(name): _opened(each) for name, each in value.items()}
        yield place, opened
        parts = [(f"{place}.{name}" if place else name, each) for name, each in opened.items()]
    else:
        parts = [(f"{place}[{index}]", _opened(each)) for index, each in enumerate(value)]
    for where, each in parts:
        yield from mappings(each, where, depth - 1, seen)


def _opened(value: Any) -> Any:
    if not isinstance(value, str) or value.lstrip()[:1] not in ("{", "["):
        return value
    try:
        return parse_json(value)
    except ValueError:
        return value


def values_of(mapping: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """(our name, value) of what one mapping says, of several names the first that has a usable value.

    What it says of the input in a form that is not understood comes as `UNUSABLE`, and as `NOTED` what people should
    know of: it must not be passed over.
    """
    found: dict[str, Any] = {}
    for name, theirs in NAMES.items():
        read = _READ[name]
        values = (read(mapping[each]) for each in theirs if mapping.get(each) is not None)
        if (value := next((value for value in values if value is not None), None)) is not None:
            found[name] = value
    return [*found.items(), *_unusable(mapping, found), *_noted(mapping, found)]


def _unusable(mapping: Mapping[str, Any], understood: Container[str]) -> Iterator[tuple[str, str]]:
    for name in _OF_THE_INPUT:
        for theirs in NAMES[name]:
            if name not in understood and mapping.get(theirs) not in (None, ""):
                yield UNUSABLE, f"{theirs} {str(mapping[theirs])[:_SHOWN]}"


def _noted(mapping: Mapping[str, Any], understood: Container[str]) -> Iterator[tuple[str, str]]:
    if "labels" not in understood:
        for theirs in NAMES["labels"]:
            if _like_labels(mapping.get(theirs)):
                what = f"{theirs} {str(mapping[theirs])[:_SHOWN]}"
                yield NOTED, f"{what}, which does not name each of the classes 0, 1 and so on once"
    for theirs in NAMES["image_size"]:
        shape = numbers(mapping.get(theirs))
        if shape is not None and len(shape) == 3 and not {1, 3} & {shape[0], shape[-1]}:
            yield NOTED, f"other channels in {theirs} {str(mapping[theirs])[:_SHOWN]}, and the weights take 3"
    for theirs in _CHANNELS:
        if numbers(mapping.get(theirs)) not in (None, [3]):
            yield NOTED, f"{theirs} {str(mapping[theirs])[:_SHOWN]}, and the weights take 3 channels"
    for name, text in mapping.items():
        if isinstance(text, str) and (said := {each["name"] or each["option"] for each in _IN_TEXT.finditer(text)}):
            yield NOTED, f"{', '.join(sorted(said))} in the text '{name}', and text is not read"


def _like_labels(value: Any) -> bool:
    """A list with names in it, or a dictionary from numbers or to numbers."""
    if isinstance(value, dict):
        return bool(value) and (all(str(each).isdigit() for each in value) or all(map(_index, value.values())))
    return isinstance(value, list | tuple) and any(isinstance(each, str) for each in value)


def _index(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def described(names: tuple[str, ...], descriptions: Any) -> tuple[str, ...]:
    """WordNet's ids say nothing to people: their descriptions, where each has one of its own."""
    if isinstance(descriptions, dict) and all(map(_WORDNET.fullmatch, names)):
        described = [descriptions.get(name) for name in names]
        if all(isinstance(each, str) for each in described) and len(set(described)) == len(names):
            return tuple(map(str, described))
    return names


def of_blue_first(mean: Sequence[float]) -> bool:
    """It is ImageNet's mean in the order blue, green, red: on the scale to 1, or to 255."""
    scale = 255 if max(mean) > 1 else 1
    return all(
        math.isclose(own / scale, theirs, abs_tol=0.002) for own, theirs in zip(mean, IMAGENET_MEAN[::-1], strict=True)
    )


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
    if len(sides) == 3 and sides[-1] in (1, 3) and sides[0] not in (1, 3):  # the channels last
        sides = sides[:2]
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


def _crop(value: Any) -> str | None:
    """timm's `border` is none that is made here, and no option says the crop."""
    return value if value in CROPS else None


def _filter(value: Any) -> str | None:
    """`bicubic` of `InterpolationMode.BICUBIC`. A number may be Pillow's or OpenCV's, which differ."""
    return value.rpartition(".")[2].lower() if isinstance(value, str) and value else None


_READ = {
    "image_size": _size,
    "resize": _size,
    "mean": channels,
    "std": channels,
    "crop_pct": _share,
    "crop": _crop,
    "interpolation": _filter,
    "classes": _count,
    "labels": names_in,
    "model": _text,
}
