"""Where state dicts lie in what was loaded from a checkpoint."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

# Where training scripts put the state dict, the documented places first: the authors' release has it under
# 'model', timm's and Lightning's checkpoints under 'state_dict'. What else holds tensors comes after these.
ENTRIES = ("model", "state_dict", "model_state_dict", "net", "module")
_NO_MODEL = re.compile(r"optim|sched|scaler|callback|loops")
_DEEPEST, _LISTED = 6, 16
"""How deep a state dict may lie, and how many members of a list are looked at."""


def tells(name: object) -> bool:
    """Whether what bears this name may be, or say something of, a model: no optimizer's state."""
    return isinstance(name, str) and not _NO_MODEL.search(name)


def parts_of(payload: object) -> Mapping[Any, Any]:
    """What a container holds, by name or `[place]`; nothing of what is none."""
    if isinstance(payload, list | tuple):
        return {f"[{place}]": each for place, each in enumerate(payload[:_LISTED])}
    return payload if isinstance(payload, Mapping) else {}


def subscripts(entry: str) -> str:
    """Python that takes the entry from what was loaded: `['model'][0]` of `model.[0]`."""
    return "".join(_subscript(part) for part in entry.split(".") if part)


def _subscript(part: str) -> str:
    return part if part.startswith("[") else f"[{part!r}]"


def values_in(payload: object, place: str = "", depth: int = _DEEPEST) -> Iterator[tuple[str, object]]:
    """Everything in a checkpoint that may be a model, with the Python that takes it from there."""
    yield place, payload
    if depth:
        for name, each in parts_of(payload).items():
            if tells(name):
                yield from values_in(each, place + _subscript(name), depth - 1)


def state_dicts_in(payload: object, entry: str = "", depth: int = _DEEPEST) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """(where, tensors) of every state dict in a checkpoint, in the order of preference."""
    if depth == 0:
        return
    parts = parts_of(payload)
    names = [name for name in parts if tells(name)]
    for name in sorted(names, key=lambda name: ENTRIES.index(name) if name in ENTRIES else len(ENTRIES)):
        yield from state_dicts_in(parts[name], f"{entry}.{name}" if entry else name, depth - 1)
    tensors = {name: value for name, value in parts.items() if isinstance(name, str) and isinstance(value, Tensor)}
    if tensors and isinstance(payload, Mapping):  # in a list they have no names
        yield entry, tensors
