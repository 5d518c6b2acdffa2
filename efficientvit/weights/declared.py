"""What a checkpoint says of its input and its classes: in a `config.json` beside it, or in the file itself.

Read are timm's `config.json` (`save_for_hf`), the arguments and configurations of training scripts as they lie in a
checkpoint, and the metadata of our own safetensors. Pure data: nothing here imports torch.
"""

from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from efficientvit.errors import BadCheckpoint
from efficientvit.files import parse_json
from efficientvit.images.labels import answers
from efficientvit.spec import PUBLISHED_SIZE
from efficientvit.weights.values import (
    NAMES,
    NOTED,
    UNUSABLE,
    channels,
    described,
    mappings,
    normalization,
    of_blue_first,
    of_something_else,
    values_of,
)

CONFIG, PROCESSOR = "config.json", "preprocessor_config.json"
_PILLOW = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}

_METADATA = "its metadata"
_OURS = "vit-export"
_ODD = (UNUSABLE, NOTED)
_SHOWN = 8


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
    config = _object_in(path)
    pretrained, built = (config.get(part) for part in ("pretrained_cfg", "model_args"))
    layers = [each for each in (built, config, pretrained) if isinstance(each, dict)]
    # Above all others: of the sizes in `pretrained_cfg` one may be that of the weights it was fine-tuned from.
    found = [values_of(layer) for layer in layers]
    merged = {name: value for values in reversed(found) for name, value in values if name not in _ODD}
    descriptions = next((each.get("label_descriptions") for each in layers if each.get("label_descriptions")), None)
    if "labels" in merged:
        merged["labels"] = described(merged["labels"], descriptions)
    wrong = dict.fromkeys(pair for values in found for pair in values if pair[0] in _ODD)
    below = [
        (NOTED, f"{name} {shown(value)} in '{place}', where timm reads nothing")
        for place, mapping in mappings(config)
        if place not in ("", "pretrained_cfg", "model_args")
        for name, value in values_of(mapping)
        if name in ("image_size", "mean", "std") and name not in merged
    ]
    return tuple(Fact(name, value, path.name) for name, value in (*merged.items(), *wrong, *below))


def _object_in(path: Path) -> dict[str, Any]:
    try:
        content = path.read_bytes()
        if content.startswith((BOM_UTF16_BE, BOM_UTF16_LE)):
            raise ValueError("text in UTF-16; save it as UTF-8")
        config = parse_json(content.removeprefix(BOM_UTF8))
        if not isinstance(config, dict):
            raise ValueError(f"a JSON {type(config).__name__}")
    except (OSError, ValueError) as error:
        raise BadCheckpoint(
            f"'{path}' says what the checkpoint's input is, and cannot be read",
            expected="a JSON object as timm's save_for_hf writes it",
            got=str(error),
            next_step="mend it, or move it away and give the options instead",
        ) from error
    return config


def of_processor(path: Path) -> Facts:
    """What a `preprocessor_config.json` of transformers says.

    Raises:
        BadCheckpoint: it cannot be read, is no JSON object, or wants images in BGR order.
    """
    config = _object_in(path)
    if config.get("do_flip_channel_order"):
        raise BadCheckpoint(
            f"by {path.name} these weights take images in BGR order",
            expected="R, G, B",
            got="do_flip_channel_order",
            next_step="flip the input channels of the first convolution, weight.flip(1), take do_flip_channel_order "
            "out of the file, and have mean and std in the order R, G, B",
        )
    mean_std = normalization(config)
    size, crop = config.get("size"), config.get("crop_size")
    if isinstance(size, dict) and "shortest_edge" in size:
        sizes = {"image_size": crop, "resize_size": size["shortest_edge"]}
    elif crop is not None and config.get("do_center_crop") is not False:
        sizes = {"image_size": crop, "resize_size": size, "crop_mode": "squash" if isinstance(size, dict) else None}
    else:  # to exactly this size
        sizes = {"image_size": size, "resize_size": size, "crop_mode": size and "squash"}
    resample = config.get("resample")
    filters = {"interpolation": _PILLOW.get(resample, str(resample))} if resample is not None else {}
    return tuple(Fact(name, value, path.name) for name, value in values_of({**mean_std, **sizes, **filters}))


def understood(facts: Facts, notes: list[str]) -> Facts:
    """The facts without what is said in a form that is not understood, which goes to the notes."""
    why = {UNUSABLE: ", which is not understood", NOTED: ""}
    notes += [f"{fact.source} says {fact.value}{why[fact.name]}: not used" for fact in facts if fact.name in _ODD]
    blue_first = [fact for fact in facts if fact.name == "mean" and of_blue_first(fact.value)]
    notes += [
        f"{fact} is ImageNet's in the order blue, green, red: if the weights take images so, flip the input channels "
        "of the first convolution, weight.flip(1), and have mean and std in the order red, green, blue"
        for fact in blue_first
    ]
    return tuple(fact for fact in facts if fact.name not in _ODD)


def all_understood(facts: Facts) -> Facts:
    """The facts of a file that is about nothing but the model and its input.

    Raises:
        BadCheckpoint: it says something of the input in a form that is not understood.
    """
    if odd := [fact for fact in facts if fact.name == UNUSABLE]:
        raise BadCheckpoint(
            f"{odd[0].source} says of the input what is not understood",
            expected="sizes in pixels, mean and std of one or three channels, crop_pct up to 1, names of filters, "
            "crop_mode center or squash",
            got=", ".join(str(fact.value) for fact in odd),
            next_step=f"edit {', '.join(str(fact.value).partition(' ')[0] for fact in odd)} in {odd[0].source}, or "
            "move the file away and give the options instead",
        )
    return facts


def of_checkpoint(said: Mapping[str, Any], whose: str = "the checkpoint") -> Facts:
    """What the entries of a training checkpoint say: `args`, `hyper_parameters`, `cfg`, and what is at the top."""
    found = list(_said(said, lambda place: _place(whose, place)))
    if not any(fact.name == "image_size" for fact in found):
        found += _timm_default(said, whose)
    return _distinct(found)


def _said(said: Mapping[str, Any], source: Callable[[str], str]) -> Iterator[Fact]:
    for place, mapping in mappings(said):
        for name, value in values_of(mapping):
            if name in ("mean", "std") and of_something_else(place):
                yield Fact(NOTED, f"{name} {shown(value)}, by its place not of the input", source(place))
            else:
                yield Fact(name, value, source(place))


def _place(whose: str, place: str) -> str:
    return f"{whose}'s '{place}'" if place else whose


def of_buffers(buffers: Mapping[str, Sequence[float]]) -> Facts:
    """What tensors beside the model say: the mean and standard deviation of a normalization in front of it."""
    found = []
    for place, values in buffers.items():
        leaf = place.rpartition(".")[2]
        name = next((each for each in ("mean", "std") if leaf in NAMES[each]), None)
        if name is not None and (value := channels(list(values))) is not None:
            found.append(Fact(name, value, f"the tensor '{place}'"))
    return tuple(found)


def of_metadata(metadata: Mapping[str, str]) -> Facts:
    """What the header of safetensors says: of ours the size and `said`, of others anything by its usual names.

    Raises:
        BadCheckpoint: of ours an image size that is none, or `said` that is no JSON.
    """
    values = {name: _decoded(text) for name, text in metadata.items()}
    if metadata.get("format") == _OURS:
        said = values.get("said", {})
        if not isinstance(said, dict):
            raise BadCheckpoint(
                "what the metadata of the weights say of their input cannot be read",
                expected="a JSON object in 'said'",
                got=str(said)[:_SHOWN],
                next_step="give an unaltered checkpoint",
            )
        values = {"image_size": values.get("image_size"), **said}
    found = _distinct(_said(values, lambda _: _METADATA))
    if "image_size" in metadata and not any(fact.name == "image_size" for fact in found):
        raise BadCheckpoint(
            "the metadata of the weights say an input size that is none",
            expected="a number of pixels, or HxW",
            got=repr(metadata["image_size"][:20]),
            next_step="give an unaltered checkpoint",
        )
    return found


def _decoded(text: str) -> Any:
    """Metadata are text, in which others keep JSON."""
    try:
        return parse_json(text)
    except ValueError:
        return text


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


def _timm_default(said: Mapping[str, Any], whose: str) -> list[Fact]:
    """timm's training script keeps all its arguments: where both sizes were left out, it trained at the model's own."""
    for place, mapping in mappings(said):
        if {"img_size", "input_size"} <= mapping.keys() and mapping["img_size"] is mapping["input_size"] is None:
            why = "timm's default, as neither img_size nor input_size is set"
            return [Fact("image_size", PUBLISHED_SIZE, f"{_place(whose, place)}: {why}")]
    return []


def _distinct(facts: Iterable[Fact]) -> Facts:
    """Of equal statements the first."""
    return tuple({(fact.name, fact.value): fact for fact in reversed(list(facts))}.values())[::-1]
