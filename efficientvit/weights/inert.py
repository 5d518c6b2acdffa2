"""Reading a pickle whose metadata names types of other packages, without importing or calling any of them.

PyTorch's own safe reader stops at the first type that it does not know: a path, a NumPy scalar, a configuration of
OmegaConf. Here every name but those that tensors need becomes an `Inert`, which keeps what it was given and does
nothing. So the tensors can be read, and what the metadata says of the input; whether a file with such a name is
accepted is decided afterwards.
"""

import argparse
import pickle
import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

_HARMLESS = re.compile(
    r"(pathlib|datetime|zoneinfo|collections|decimal|fractions|uuid|enum|typing|copyreg|copy_reg|numpy|omegaconf|hydra"
    r"|argparse|easydict|addict|yacs|munch|box|ml_collections|mmengine|mmcv|pytorch_lightning|lightning"
    r"|lightning_fabric|lightning_utilities|transformers|timm|torch|torchmetrics)\..+"
    r"|types\.SimpleNamespace|_codecs\.encode"
    r"|(builtins|__builtin__)\.(set|frozenset|complex|slice|range|xrange|bytearray|bytes|list|dict|tuple|int|long|float|str"
    r"|unicode|bool|object|type)"
)
"""Packages whose types lie in checkpoints for a good reason. What else is named may be meant to run."""

_DEPTH, _LONGEST = 100, 100_000


class Inert:
    """An object of a type that was not restored: what it was made from, its state, and what was put into it."""

    name = ""

    def __new__(cls, *args: Any, **_: Any) -> "Inert":
        """Whatever would have made it."""
        made = super().__new__(cls)
        made.args, made.state, made.members, made.entries = args, None, [], {}
        return made

    def __init__(self, *_: Any, **__: Any) -> None:
        self.args: tuple[Any, ...]
        self.state: Any
        self.members: list[Any]
        self.entries: dict[Any, Any]

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        self.entries[key] = value

    def append(self, value: Any) -> None:
        """As a list's."""
        self.members.append(value)

    @property
    def attributes(self) -> Mapping[Any, Any]:
        """Its state, where that is a dictionary of attributes."""
        state = self.state[0] if isinstance(self.state, tuple) and self.state else self.state
        return state if isinstance(state, Mapping) else {}

    @property
    def is_module(self) -> bool:
        """It was a torch.nn.Module, pickled whole."""
        return "_modules" in self.attributes


@dataclass(frozen=True, slots=True)
class Restored:
    """What a pickle held, and the names in it that were not restored, the harmless ones apart."""

    payload: Any
    skipped: tuple[str, ...]
    refused: tuple[str, ...]


def read_inertly(path: Path) -> Restored:
    """A file of torch.save with tensors restored and everything else inert.

    Raises whatever a damaged pickle comes to: the caller knows which errors those are.
    """
    asked: dict[str, type[Inert]] = {}

    class Unpickler(pickle.Unpickler):
        """Python's, with names looked up here alone."""

        def find_class(self, module: str, name: str) -> Any:
            full = f"{module}.{name}"
            if full in _TENSORS:
                return _TENSORS[full]
            if module == "torch" and isinstance(dtype := getattr(torch, name, None), torch.dtype):
                return dtype
            return asked.setdefault(full, type("Inert", (Inert,), {"name": full}))

    def load(file: Any, **options: Any) -> Any:
        return Unpickler(file, **options).load()

    shim = SimpleNamespace(Unpickler=Unpickler, load=load, __name__="inert")
    # Not `weights_only`: that is PyTorch's own list of names. This one is shorter.
    payload = torch.load(path, map_location="cpu", pickle_module=shim, weights_only=False)
    harmless = [name for name in asked if _HARMLESS.fullmatch(name)]
    return Restored(payload, tuple(sorted(harmless)), tuple(sorted(set(asked) - set(harmless))))


def plain(value: Any) -> Any:
    """Numbers, strings, lists and dictionaries, as far as `value` consists of them; None for what doesn't.

    Tensors and state dicts are left out. Namespaces, configurations of OmegaConf and NumPy's scalars and arrays are
    taken for what they hold. What holds itself ends there.
    """
    return _plain(value, _DEPTH, {})


def _plain(value: Any, depth: int, known: dict[int, tuple[Any, Any]]) -> Any:
    """`known`: what was met, and became: each object is taken once, however many hold it."""
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if depth == 0 or isinstance(value, Tensor):
        return None
    if id(value) not in known:
        known[id(value)] = value, None
        known[id(value)] = value, _plain_parts(value, depth - 1, known)
    return known[id(value)][1]


def _plain_parts(value: Any, depth: int, known: dict[int, tuple[Any, Any]]) -> Any:
    if isinstance(value, argparse.Namespace):
        value = vars(value)
    if isinstance(value, Mapping):
        told = {name: each for name, each in value.items() if isinstance(name, str | int) and not _is_state(each)}
        return {str(name): _plain(each, depth, known) for name, each in told.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(each, depth, known) for each in list(value)[:_LONGEST]]
    return _plain_object(value, depth, known) if isinstance(value, Inert) else None


def _is_state(value: Any) -> bool:
    """A tensor, or a dictionary of nothing but tensors."""
    return isinstance(value, Tensor) or (
        isinstance(value, Mapping) and bool(value) and all(isinstance(each, Tensor) for each in value.values())
    )


def _plain_object(value: Inert, depth: int, known: dict[int, tuple[Any, Any]]) -> Any:
    if value.name.startswith("numpy"):
        return _plain_numbers(value)
    for attribute in ("_content", "_val"):  # OmegaConf's containers and leaves
        if attribute in value.attributes:
            return _plain(value.attributes[attribute], depth, known)
    if value.name.startswith("pathlib."):
        return "/".join(map(str, value.args))
    for held in (value.members, value.entries, value.attributes):
        if held:
            return _plain(held, depth, known)
    return None


def _plain_numbers(value: Inert) -> Any:
    """NumPy's scalar(dtype, bytes), or an array's state (version, shape, dtype, Fortran order, bytes)."""
    try:
        if value.name.endswith(".scalar"):
            dtype, content = value.args
            return np.frombuffer(content, _dtype(dtype))[0].item()
        _, shape, dtype, fortran, content = value.state
        if isinstance(content, list):
            return [each for each in content[:_LONGEST] if isinstance(each, str | int | float)]
        return np.frombuffer(content, _dtype(dtype)).reshape(shape, order="F" if fortran else "C").tolist()
    except (TypeError, ValueError, IndexError):
        return None


def _dtype(made: Inert) -> np.dtype[Any]:
    dtype: np.dtype[Any] = np.dtype(made.args[0])
    if dtype.hasobject:
        raise ValueError("an array of objects")
    return dtype


def _encode(text: str, *_: str) -> bytes:
    """Bytes, which pickles of protocol 2 hold as Latin-1 text."""
    return text.encode("latin1")


def _dictionary(*_: Any) -> dict[Any, Any]:
    """A defaultdict without its default."""
    return {}


_TENSORS: Mapping[str, Any] = {
    "torch._utils._rebuild_tensor": torch._utils._rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": torch._utils._rebuild_tensor_v2,
    "torch._utils._rebuild_parameter": torch._utils._rebuild_parameter,
    "torch.Size": torch.Size,
    "collections.OrderedDict": OrderedDict,
    "collections.defaultdict": _dictionary,
    "argparse.Namespace": argparse.Namespace,
    "_codecs.encode": _encode,
}
