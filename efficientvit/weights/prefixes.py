"""The model among the tensors of a file: which names are its own, what was put before them, what else is there.

Training scripts keep the network as an attribute of what they save (`net.`, `model.backbone.`, `student.`), beside
weights of the loss and of metrics, and often a running average of it as well.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from efficientvit.weights.keymaps import is_ignored, prefix_of
from efficientvit.weights.values import snake

T = TypeVar("T")

# Segments that wrappers put anywhere into a name: torch.compile, DataParallel, FSDP, activation checkpointing.
_WRAPPERS = {"_orig_mod", "module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
_AVERAGE = re.compile(r"(?<![a-z])(ema|swa|averaged?|avg)(?![a-z])")


@dataclass(frozen=True, slots=True)
class Copy:
    """One model in a file: the prefix of its names, and its names in the file by its own names for them."""

    prefix: str
    names: Mapping[str, str]
    unwrapped: int

    def of(self, tensors: Mapping[str, T]) -> dict[str, T]:
        """Its tensors, by its own names."""
        return {own: tensors[name] for own, name in self.names.items()}


@dataclass(frozen=True, slots=True)
class Found:
    """Every copy of the model, and the names that belong to none."""

    copies: tuple[Copy, ...]
    outside: tuple[str, ...]


def is_average(place: str) -> bool:
    """Whether a prefix or an entry is that of a running average of the weights."""
    return _AVERAGE.search(snake(place)) is not None


def find_copies(names: Sequence[str]) -> Found:
    """The copies of the model among `names`, by the prefixes of the names that only this family has."""
    prefixes = _prefixes(names)
    own: dict[str, dict[str, str]] = {prefix: {} for prefix in prefixes}
    unwrapped = dict.fromkeys(prefixes, 0)
    outside = []
    for name in names:
        prefix = next((each for each in prefixes if name.startswith(each)), None)
        if prefix is None:
            if not is_ignored(name):
                outside.append(name)
            continue
        short = _without_wrappers(name.removeprefix(prefix))
        unwrapped[prefix] += prefix + short != name
        own[prefix][short] = name
    return Found(tuple(Copy(each, own[each], unwrapped[each]) for each in sorted(own)), tuple(outside))


def _prefixes(names: Iterable[str]) -> list[str]:
    """The longest first. A wrapper's segment belongs to the prefix where every name has it."""
    found = set()
    for name in names:
        if prefix_of(_without_wrappers(name)) is None:
            continue
        rest, taken = name, ""
        while prefix_of(_without_wrappers(rest)) or _is_wrapped(rest):
            segment, _, rest = rest.partition(".")
            taken += segment + "."
        found.add(taken)
    return sorted(found, key=len, reverse=True)


def _is_wrapped(name: str) -> bool:
    return name.partition(".")[0] in _WRAPPERS


def _without_wrappers(name: str) -> str:
    return ".".join(segment for segment in name.split(".") if segment not in _WRAPPERS)
