"""Opening a file of weights safely: tensors by name and what the file says about itself, nothing more.

The format is recognized by the content, not by the suffix: a downloaded `.pth` may be an error page.
A pickle is only ever read with `weights_only=True`; one that would run code is refused.
"""

import argparse
import pickle
import re
import struct
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from efficientvit.errors import BadCheckpoint

# Where training scripts put the state dict, the documented places first: the authors' release has it under
# 'model', timm's and Lightning's checkpoints under 'state_dict'. Running averages come last.
_ENTRIES = (
    "model",
    "state_dict",
    "model_state_dict",
    "net",
    "module",
    "model_ema",
    "state_dict_ema",
    "ema",
    "ema_state_dict",
)

# A damaged pickle fails in whatever instruction the damage has made of it.
_DAMAGED = (
    pickle.UnpicklingError,
    EOFError,
    RuntimeError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    AssertionError,
    ImportError,
    OverflowError,
    MemoryError,
    struct.error,
    OSError,
)


@dataclass(frozen=True, slots=True)
class WeightFile:
    """The tensors of a file, with `entry` as the place inside it where they were found ('' at its top)."""

    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str]
    container: str
    entry: str = ""
    unused_entries: tuple[str, ...] = ()


def read_weight_file(path: Path) -> WeightFile:
    """The tensors of a `.safetensors` or PyTorch file, on the CPU, in the dtype they were stored in.

    Raises:
        BadCheckpoint: there is no such file, it cannot be read, it is damaged or of another format, it would
            run code, or it holds no state dict.
    """
    if not path.exists():
        raise BadCheckpoint(
            f"there is no file '{path}'",
            expected="a .pth or .safetensors file",
            got="nothing of that name",
            next_step="check the path; `-w seeded` needs no file",
        )
    if not path.is_file():
        kind = "a directory" if path.is_dir() else "not a regular file"
        raise BadCheckpoint(
            f"'{path}' cannot be read as weights",
            expected="a .pth or .safetensors file",
            got=kind,
            next_step="name the file itself",
        )
    try:
        with path.open("rb") as file:
            start = file.read(512)
    except OSError as error:
        raise BadCheckpoint(f"'{path}' cannot be read", got=str(error), next_step="check its permissions") from error
    if start[8:9] == b"{":  # after the 8-byte length of its JSON header
        return _read_safetensors(path)
    if start.startswith((b"PK", b"\x80")):
        return _read_pytorch(path)
    raise BadCheckpoint(
        f"'{path.name}' is not a file of weights",
        expected="safetensors, or a state dict written by torch.save",
        got=_description(start),
        next_step="download it again, or save the weights as safetensors",
    )


def _description(start: bytes) -> str:
    if not start:
        return "an empty file"
    if start.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer: the file itself was never fetched"
    if start.lstrip()[:1] == b"<":
        return "an HTML or XML page, as a server sends with an error"
    return f"{len(start)} bytes or more that start with {start[:8]!r}"


def _damaged(path: Path, error: BaseException) -> BadCheckpoint:
    reason = str(error).split(". ")[0].strip() or type(error).__name__
    return BadCheckpoint(
        f"'{path.name}' is damaged or incomplete",
        got=f"{path.stat().st_size} bytes; {reason}",
        next_step="copy or download it again",
    )


def _read_safetensors(path: Path) -> WeightFile:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
            metadata = file.metadata() or {}
    except (SafetensorError, *_DAMAGED) as error:
        raise _damaged(path, error) from error
    return WeightFile(tensors, metadata, "safetensors")


def _read_pytorch(path: Path) -> WeightFile:
    try:
        # DeiT's training script, which the authors' follows, saves its argparse.Namespace with the weights:
        # a bag of attributes, whose unpickling runs nothing.
        with warnings.catch_warnings(), torch.serialization.safe_globals([argparse.Namespace]):
            warnings.simplefilter("ignore")  # about protocols and archives that we refuse below
            payload = torch.load(path, map_location="cpu", weights_only=True)
    except _DAMAGED as error:
        code = _code_in(error)
        if code is None:
            raise _damaged(path, error) from error
        raise BadCheckpoint(
            f"'{path.name}' was refused: reading it would run code that the file brings along",
            expected="tensors and plain containers only",
            got=code,
            next_step="if you trust its origin, re-save the bare state dict as safetensors where it was made",
        ) from error
    found = list(_state_dicts(payload))
    if not found:
        keys = ", ".join(map(str, list(payload)[:6])) if isinstance(payload, Mapping) else type(payload).__name__
        raise BadCheckpoint(
            f"'{path.name}' holds no state dict",
            expected=f"tensors by name, at the top or under {_ENTRIES[0]!r}, {_ENTRIES[1]!r}",
            got=keys or "an empty dictionary",
            next_step="save `{'model': model.state_dict()}`",
        )
    (entry, tensors), *others = found
    return WeightFile(tensors, {}, "PyTorch", entry, tuple(name for name, _ in others if name))


def _code_in(error: BaseException) -> str | None:
    """What a refused pickle would have called; None when it is merely damaged."""
    message = str(error)
    if "TorchScript" in message:
        return "a TorchScript program"
    refused = re.search(r"GLOBAL ([\w.]+)", message)
    if refused:
        return f"a call of {refused[1]}"
    if "Unsupported operand" in message:
        return "a pickle with instructions outside those that tensors need"
    return None


def _state_dicts(payload: object, entry: str = "") -> Iterator[tuple[str, dict[str, Tensor]]]:
    """(where, tensors) of every state dict in a checkpoint, in the order of preference."""
    if not isinstance(payload, Mapping):
        return
    for name in _ENTRIES:
        yield from _state_dicts(payload.get(name), f"{entry}.{name}" if entry else name)
    tensors = {name: value for name, value in payload.items() if isinstance(name, str) and isinstance(value, Tensor)}
    if tensors:
        yield entry, tensors
