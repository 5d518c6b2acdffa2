"""What is to be taken where a checkpoint says something of its input, and an option perhaps something else.

Nothing is guessed: two statements that differ are asked about, and an option that contradicts what is said is refused
unless it is repeated with `--override`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from efficientvit.errors import BadOption
from efficientvit.images.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from efficientvit.size import ImageSize
from efficientvit.weights.declared import Fact, Facts, shown

OVERRIDE = "--override"
_TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True)
class Settled:
    """What was said of the input or the classes, by whom, and whether it was taken."""

    name: str
    value: str
    source: str
    taken: bool


def settle(name: str, facts: Facts, given: Any, override: bool, flag: str | None = None) -> Any:
    """The value of `name` to take: the option's, else what is said; None where there is neither.

    Args:
        name: of the facts.
        facts: everything that is said.
        given: the option's value, in the facts' form; None where it was left out.
        override: it may contradict what is said.
        flag: the option, if it is not `name`'s own.

    Raises:
        BadOption: the option contradicts what is said, or two things are said.
    """
    flag = flag or f"--{name.replace('_', '-')}"
    said = [fact for fact in facts if fact.name == name]
    if given is not None:
        if said and not override and not any(_same(fact.value, given) for fact in said):
            raise BadOption(
                f"{flag} {shown(given)} contradicts what the checkpoint says of its input",
                expected=" and ".join(map(str, said)),
                got=f"{flag} {shown(given)}",
                next_step=f"leave {flag} out, or add {OVERRIDE} if the checkpoint is wrong",
            )
        return given
    if said and not all(_same(fact.value, said[0].value) for fact in said):
        raise BadOption(
            f"the checkpoint says two things of its {name.replace('_', ' ')}",
            expected="one",
            got="; ".join(map(str, said)),
            next_step=f"give the right one with {flag}: {' or '.join(dict.fromkeys(shown(f.value) for f in said))}",
        )
    return said[0].value if said else None


def preprocessing_of(
    image_size: ImageSize, facts: Facts, options: Mapping[str, Any], *, override: bool = False
) -> Preprocessing:
    """The preprocessing of a checkpoint: what the options give, what it says, and the published weights' for the rest.

    Args:
        image_size: of the model, pixels.
        facts: what the checkpoint says.
        options: fields of `Preprocessing`, as far as they were given.
        override: options may contradict the checkpoint.

    Raises:
        BadOption: they do so without that, two things are said, or a value cannot be used.
    """
    fields = {
        name: value
        for name in ("mean", "std", "interpolation", "crop")
        if (value := settle(name, facts, options.get(name), override)) is not None
    }
    _require_both(fields, facts)
    resize = _resize(image_size, facts, options.get("resize"), override)
    used = {**{name: value for name, value in options.items() if name not in fields}, **fields}
    if resize is not None:
        used["resize"] = resize
    try:
        return Preprocessing(image_size=image_size, **used)
    except BadOption as error:
        said = [fact for fact in facts if _about(fact.name, error.what) and fact.name not in options]
        if not said:
            raise
        raise BadOption(
            error.what,
            expected=error.expected,
            got=f"{error.got}; the checkpoint says {', '.join(map(str, said))}",
            next_step=f"{error.next_step or 'give the right value as an option'}, with {OVERRIDE}",
        ) from error


def _about(name: str, what: str) -> bool:
    """Whether a message is about what a fact says."""
    return ("resize" if name == "crop_pct" else name) in what


def _require_both(fields: Mapping[str, Any], facts: Facts) -> None:
    """A mean that is said without a standard deviation, or the reverse, is half a normalization.

    Raises:
        BadOption: it is, and is not ImageNet's, whose other half everybody means.
    """
    halves = {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}
    given = [name for name in halves if name in fields]
    said = [fact for fact in facts if fact.name in given]
    if len(given) != 1 or not said or _same(fields[given[0]], halves[given[0]]):
        return
    (missing,) = halves.keys() - set(given)
    raise BadOption(
        f"the checkpoint says a {given[0]} and no {missing}",
        expected="both, or neither",
        got=", ".join(map(str, said)),
        next_step=f"give it with --{missing} R G B, or write it beside the {given[0]}",
    )


def _resize(image_size: ImageSize, facts: Facts, given: ImageSize | None, override: bool) -> ImageSize | None:
    """What images are resized to before the crop, from its own size or from the share that the crop keeps."""
    sizes = tuple(fact for fact in facts if fact.name == "resize")
    shares = tuple(
        Fact("resize", _before(image_size, fact.value), f"{fact.source} (crop_pct {fact.value:g})")
        for fact in facts
        if fact.name == "crop_pct"
    )
    found: ImageSize | None = settle("resize", (*sizes, *shares), given, override)
    return found


def _before(image_size: ImageSize, share: float) -> ImageSize:
    """Of which a crop of `image_size` keeps this share of each side."""
    return ImageSize(height=math.floor(image_size.height / share), width=math.floor(image_size.width / share))


def settled(facts: Sequence[Fact], preprocessing: Preprocessing, classes: int) -> tuple[Settled, ...]:
    """Everything that was said, for the record; `taken` where the export is made so."""
    made: dict[str, Any] = {
        **preprocessing.to_json(),
        "image_size": preprocessing.image_size,
        "classes": classes,
        "resize": preprocessing.resize,
    }
    taken = []
    for fact in facts:
        if fact.name == "crop_pct":
            same = _before(preprocessing.image_size, fact.value) == preprocessing.resize
        else:
            same = fact.name not in made or _same(fact.value, _tupled(made[fact.name]))
        taken.append(Settled(fact.name, shown(fact.value), fact.source, same))
    return tuple(taken)


def _tupled(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _same(said: Any, given: Any) -> bool:
    if isinstance(said, tuple) and isinstance(given, tuple | list):
        return len(said) == len(given) and all(map(_same, said, given))
    if isinstance(said, float | int) and isinstance(given, float | int):
        return math.isclose(said, given, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)
    return bool(said == given)
