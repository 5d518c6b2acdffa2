"""What a checkpoint says of its input and its classes: in a `config.json` beside it, or in the file itself.

Read are timm's `config.json` (`save_for_hf`), the arguments and configurations of training scripts as they lie in a
checkpoint, and the metadata of our own safetensors. Pure data: nothing here imports torch.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from efficientvit.errors import BadCheckpoint, BadOption
from efficientvit.files import parse_json
from efficientvit.images.labels import answers
from efficientvit.size import ImageSize, square
from efficientvit.spec import PUBLISHED_SIZE

CONFIG = "config.json"

# The names that a training script may have for each. A later one is for files without the ones before it.
_NAMES: Mapping[str, tuple[str, ...]] = {
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
    "labels": ("label_names", "class_names", "classes", "labels", "id2label", "idx_to_class", "class_to_idx"),
    "model": ("architecture", "arch", "model", "model_name"),
}  # fmt: skip
_WORDNET = re.compile(r"n\d{8}")
_METADATA = "its metadata"
_SHOWN = 8
_DEPTH = 4


ABOUT_CLASSES = frozenset({"classes", "labels"})
"""Facts that are of a classifier alone."""


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing that is said: its name here, its value, and who says it.

    `image_size` and `resize` are an `ImageSize`, `labels` a tuple of names, `mean` and `std` triples.
    """

    name: str
    value: Any
    source: str

    def __str__(self) -> str:
        return f"{self.name} {shown(self.value)} in {self.source}"


Facts = tuple[Fact, ...]


def shown(value: Any) -> str:
    """A value as an option would have it: `256`, `128x256`, `0.5 0.5 0.5`."""
    if isinstance(value, tuple) and len(value) > _SHOWN:
        return f"{len(value)} names"
    if isinstance(value, tuple):
        return " ".join(format(each, "g") if isinstance(each, float) else str(each) for each in value)
    return format(value, "g") if isinstance(value, float) else str(value)


def of_config(path: Path) -> Facts:
    """What a `config.json` says, read as timm's `local-dir:` reads it.

    `model_args` say what the saved weights are; `pretrained_cfg` says the rest, or the top of the file where it has
    none. A file that describes no image model says nothing.

    Raises:
        BadCheckpoint: it cannot be read, or is no JSON object.
    """
    try:
        config = parse_json(path.read_bytes())
        if not isinstance(config, dict):
            raise ValueError(f"a JSON {type(config).__name__}")
    except (OSError, ValueError) as error:
        raise BadCheckpoint(
            f"'{path}' says what the checkpoint's input is, and cannot be read",
            expected="a JSON object as timm's save_for_hf writes it",
            got=str(error),
            next_step="mend it, or move it away and give the options instead",
        ) from error
    pretrained, built = (config.get(part) for part in ("pretrained_cfg", "model_args"))
    layers = [each for each in (built, config, pretrained) if isinstance(each, dict)]
    # Above all others: of the sizes in `pretrained_cfg` one may be that of the weights it was fine-tuned from.
    found = [dict(_values(layer)) for layer in layers]
    merged = {name: value for values in reversed(found) for name, value in values.items()}
    described = next((each.get("label_descriptions") for each in layers if each.get("label_descriptions")), None)
    if "labels" in merged:
        merged["labels"] = _described(merged["labels"], described)
    return tuple(Fact(name, value, path.name) for name, value in merged.items())


def of_checkpoint(said: Mapping[str, Any]) -> Facts:
    """What the entries of a training checkpoint say: `args`, `hyper_parameters`, `cfg`, and what is at the top."""
    found: list[Fact] = []
    for place, mapping in _mappings(said):
        source = f"the checkpoint's '{place}'" if place else "the checkpoint"
        found += [Fact(name, value, source) for name, value in _values(mapping)]
    if not any(fact.name == "image_size" for fact in found):
        found += _timm_default(said)
    return _distinct(found)


def of_buffers(buffers: Mapping[str, Sequence[float]]) -> Facts:
    """What tensors beside the model say: the mean and standard deviation of a normalization in front of it."""
    found = []
    for place, values in buffers.items():
        leaf = place.rpartition(".")[2]
        name = next((each for each in ("mean", "std") if leaf in _NAMES[each]), None)
        if name is not None and (value := _channels(list(values))) is not None:
            found.append(Fact(name, value, f"the tensor '{place}'"))
    return tuple(found)


def of_metadata(metadata: Mapping[str, str]) -> Facts:
    """What the header of our own safetensors says.

    Raises:
        BadCheckpoint: an image size that is none, or `said` that is no JSON.
    """
    text = metadata.get("image_size")
    if text is None:
        return ()
    try:
        size = Fact("image_size", ImageSize.parse(text), _METADATA)
    except BadOption as error:
        raise BadCheckpoint(
            "the metadata of the weights say an input size that is none",
            expected="a number of pixels, or HxW",
            got=repr(text[:20]),
            next_step="give an unaltered checkpoint",
        ) from error
    try:
        said = parse_json(metadata.get("said", "{}").encode())
    except ValueError as error:
        raise BadCheckpoint(
            "what the metadata of the weights say of their input cannot be read",
            expected="a JSON object in 'said'",
            got=str(error),
            next_step="give an unaltered checkpoint",
        ) from error
    return (size, *(Fact(name, value, _METADATA) for name, value in _values(said if isinstance(said, dict) else {})))


def required(facts: Facts, classes: int) -> Facts:
    """The facts, which are about a head of so many classes.

    Raises:
        BadCheckpoint: they are not.
    """
    for fact in _unfitting(facts, classes):
        raise BadCheckpoint(
            f"{fact.source} is not about these weights",
            expected=f"{classes} classes, as the head has",
            got=f"{len(fact.value)} labels" if fact.name == "labels" else f"{fact.value} classes",
            next_step=f"take the {fact.source} that was written with them, or move it away and give options instead",
        )
    return facts


def fitting(facts: Facts, classes: int, notes: list[str]) -> Facts:
    """Those of the facts that can be about a head of so many classes; the others go to the notes."""
    others = _unfitting(facts, classes)
    notes += [f"{fact.name} in {fact.source} are not those of the head, of {classes}: not used" for fact in others]
    return tuple(fact for fact in facts if fact not in others)


def unique(facts: Facts, notes: list[str]) -> Facts:
    """The facts without labels of which two are the same: apps get probabilities by label. That goes to the notes."""
    doubled = [fact for fact in facts if fact.name == "labels" and len(set(fact.value)) < len(fact.value)]
    notes += [f"labels in {fact.source} name two classes alike: not used" for fact in doubled]
    return tuple(fact for fact in facts if fact not in doubled)


def _unfitting(facts: Facts, classes: int) -> list[Fact]:
    return [
        fact
        for fact in facts
        if (fact.name == "classes" and fact.value != classes)
        or (fact.name == "labels" and len(fact.value) != answers(classes))
    ]


def _mappings(
    value: Mapping[str, Any], place: str = "", depth: int = _DEPTH
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield place, value
    for name, each in value.items():
        if isinstance(each, dict) and depth:
            yield from _mappings(each, f"{place}.{name}" if place else name, depth - 1)


def _values(mapping: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """(our name, value) of what one mapping says, of several names the first that has a usable value."""
    for name, theirs in _NAMES.items():
        read = _READ[name]
        values = (read(mapping[each]) for each in theirs if mapping.get(each) is not None)
        if (value := next((value for value in values if value is not None), None)) is not None:
            yield name, value


def _timm_default(said: Mapping[str, Any]) -> list[Fact]:
    """timm's training script keeps all its arguments: where both sizes were left out, it trained at the model's own."""
    for place, mapping in _mappings(said):
        if {"img_size", "input_size"} <= mapping.keys() and mapping["img_size"] is mapping["input_size"] is None:
            source = f"the checkpoint's '{place}': timm's default, as neither img_size nor input_size is set"
            return [Fact("image_size", PUBLISHED_SIZE, source)]
    return []


def _distinct(facts: Iterable[Fact]) -> Facts:
    """Of equal statements the first."""
    return tuple({(fact.name, fact.value): fact for fact in reversed(list(facts))}.values())[::-1]


def _size(value: Any) -> ImageSize | None:
    """The size that is meant by 256, (256, 256) or (3, 256, 256)."""
    if isinstance(value, list | tuple) and len(value) in (1, 2, 3) and all(map(_whole, value)):
        sides = list(value)[-2:] if len(value) > 1 else list(value) * 2
        return ImageSize(height=sides[0], width=sides[1])
    return square(value) if _whole(value) else None


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _index(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _channels(value: Any) -> tuple[float, float, float] | None:
    if _number(value):
        value = [value] * 3
    if isinstance(value, list | tuple) and len(value) in (1, 3) and all(map(_number, value)):
        first, *rest = map(float, value)
        return (first, *rest) if len(rest) == 2 else (first, first, first)  # type: ignore[return-value]
    return None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _labels(value: Any) -> tuple[str, ...] | None:
    """A list of names, or a dictionary from class index to name or from name to class index."""
    if isinstance(value, dict) and value and all(map(_index, value.values())):
        value = {index: name for name, index in value.items()}
    if isinstance(value, dict) and value and all(str(index).isdigit() for index in value):
        by_index = {int(index): name for index, name in value.items()}
        if sorted(by_index) == list(range(len(by_index))):
            value = [by_index[index] for index in range(len(by_index))]
    if isinstance(value, list | tuple) and value and all(isinstance(name, str) and name.strip() for name in value):
        return tuple(name.strip() for name in value)
    return None


def _described(names: tuple[str, ...], descriptions: Any) -> tuple[str, ...]:
    """WordNet's ids say nothing to people: their descriptions, where each has one of its own."""
    if isinstance(descriptions, dict) and all(map(_WORDNET.fullmatch, names)):
        described = [descriptions.get(name) for name in names]
        if all(isinstance(each, str) for each in described) and len(set(described)) == len(names):
            return tuple(map(str, described))
    return names


_READ = {
    "image_size": _size,
    "resize": _size,
    "mean": _channels,
    "std": _channels,
    "crop_pct": lambda value: float(value) if _number(value) and value > 0 else None,
    "crop": _text,
    "interpolation": _text,
    "classes": lambda value: value if _whole(value) else None,
    "labels": _labels,
    "model": _text,
}
