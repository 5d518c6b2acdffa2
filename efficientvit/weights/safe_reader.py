"""Opening a file of weights safely: tensors by name and what the file says about itself, nothing more.

The format is recognized by the content, not by the suffix: a downloaded `.pth` may be an error page.
No code of a pickle is ever run: PyTorch's `weights_only=True` reads it, and where that stops at a type of the metadata
`inert.py`, which restores tensors alone.
"""

import argparse
import pickle
import re
import struct
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from efficientvit.content import FIRST, ITS_SOURCE, described, exported, remedy
from efficientvit.errors import BadCheckpoint
from efficientvit.weights.inert import Inert, plain, read_inertly
from efficientvit.weights.state_dicts import ENTRIES, parts_of, state_dicts_in, subscripts, tells, values_in

_PICKLE = b"\x80"
_MAGIC = torch.serialization.MAGIC_NUMBER.to_bytes(10, "little")  # in files of torch.save before its archives

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
    zipfile.BadZipFile,
    OSError,
)


@dataclass(frozen=True, slots=True)
class StateDict:
    """Tensors by name, and the `entry` of the file that they were found under ('' at its top)."""

    entry: str
    tensors: Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class WeightFile:
    """What a file holds: every state dict, the usual places first, and what else it says.

    `metadata`: of a safetensors file. `said`: the entries of a PyTorch file that are no tensors, as plain data: the
    training script's arguments, the architecture's name. `skipped`: types of other packages in it that were not
    restored.
    """

    state_dicts: tuple[StateDict, ...]
    container: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    said: Mapping[str, Any] = field(default_factory=dict)
    skipped: tuple[str, ...] = ()


def read_weight_files(paths: Sequence[Path]) -> WeightFile:
    """One file, or the shards of one state dict together.

    Raises:
        BadCheckpoint: as `read_weight_file`, or a tensor is in two shards.
    """
    if len(paths) == 1:
        return read_weight_file(paths[0])
    tensors: dict[str, Tensor] = {}
    files = [read_weight_file(path) for path in paths]
    for path, file in zip(paths, files, strict=True):
        shard = file.state_dicts[0].tensors
        if doubled := tensors.keys() & shard.keys():
            raise BadCheckpoint(
                f"'{path.name}' holds tensors of another shard",
                got=", ".join(sorted(doubled)[:5]),
                next_step="download the shards again",
            )
        tensors |= shard
    return WeightFile((StateDict("", tensors),), f"{files[0].container} in shards", files[0].metadata)


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
            got=f"a link to '{path.readlink()}', which is not there" if path.is_symlink() else "nothing of that name",
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
            start = file.read(FIRST)
    except OSError as error:
        raise BadCheckpoint(f"'{path}' cannot be read", got=str(error), next_step="check its permissions") from error
    if start[8:9] == b"{":  # after the 8-byte length of its JSON header
        return _read_safetensors(path)
    if start.startswith(_PICKLE) and _MAGIC not in start[:16]:
        line = f"torch.save(pickle.load(open('{path.name}', 'rb')), 'weights.pth')"
        raise _not_torchs(path, "a pickle that torch.save did not write", line)
    if start.startswith((b"PK", _PICKLE)):
        return _read_pytorch(path)
    other = exported(path, start)
    raise BadCheckpoint(
        f"'{path.name}' is not a file of weights",
        expected="safetensors, or a state dict written by torch.save",
        got=described(start) if other is None else other,
        next_step=remedy(start, "download it again, or save the weights as safetensors")
        if other is None
        else ITS_SOURCE,
    )


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
    return WeightFile((StateDict("", tensors),), "safetensors", metadata)


def _read_pytorch(path: Path) -> WeightFile:
    skipped: tuple[str, ...] = ()
    try:
        _require_state_dict(path)
        # DeiT's training script, which the authors' follows, saves its argparse.Namespace with the weights:
        # a bag of attributes, whose unpickling runs nothing.
        with warnings.catch_warnings(), torch.serialization.safe_globals([argparse.Namespace]):
            warnings.simplefilter("ignore")  # about protocols and archives that we refuse below
            try:
                payload = torch.load(path, map_location="cpu", weights_only=True)
            except pickle.UnpicklingError as error:
                if not _STOPPED_AT_A_TYPE.search(str(error)):
                    raise
                restored = read_inertly(path)
                payload, skipped = restored.payload, restored.skipped
                if restored.refused or _whole_module(payload) is not None:
                    raise _refused(path, payload, restored.refused) from error
    except _DAMAGED as error:
        raise _damaged(path, error) from error
    found = tuple(StateDict(entry, tensors) for entry, tensors in state_dicts_in(payload))
    if not found and _of_numpy(payload):
        loaded = f"torch.load('{path.name}', weights_only=False)"
        arrays = f"{{name: torch.from_numpy(array) for name, array in {loaded}.items()}}"
        raise _not_torchs(path, "NumPy arrays in the place of tensors", f"torch.save({arrays}, 'weights.pth')")
    if not found:
        keys = ", ".join(map(str, list(payload)[:6])) if isinstance(payload, Mapping) else type(payload).__name__
        raise BadCheckpoint(
            f"'{path.name}' holds no state dict",
            expected=f"tensors by name, at the top or under {ENTRIES[0]!r}, {ENTRIES[1]!r}",
            got=keys or "an empty dictionary",
            next_step="save `{'model': model.state_dict()}`",
        )
    said = plain({name: each for name, each in parts_of(payload).items() if tells(name)})
    return WeightFile(found, "PyTorch", said=said, skipped=skipped)


# What PyTorch's reader says of a name that it does not know, and of instructions that only other types need.
_STOPPED_AT_A_TYPE = re.compile(r"GLOBAL|Unsupported operand|Can only|unrecognized function|allowlisted")


def _require_state_dict(path: Path) -> None:
    """Refuse an archive that torch.save did not write; older files of its are no archives."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if any(name.endswith("/constants.pkl") for name in names):
        raise _torchscript(path)
    if any(name.rpartition("/")[2] == "data.pkl" for name in names):
        return
    if any(name.rpartition("/")[2] == "archive_format" for name in names):
        line = f"torch.save(torch.export.load('{path.name}').state_dict, 'weights.pth')"
        raise _not_torchs(path, "a program of torch.export", line)
    if names and all(name.endswith(".npy") for name in names):
        arrays = f"{{name: torch.from_numpy(array) for name, array in numpy.load('{path.name}').items()}}"
        raise _not_torchs(path, "NumPy arrays", f"torch.save({arrays}, 'weights.pth')")
    raise BadCheckpoint(
        f"'{path.name}' is not a file of weights",
        expected="safetensors, or a state dict written by torch.save",
        got=f"a ZIP archive of {', '.join(names[:3]) or 'nothing'}",
        next_step="unpack it, and name the file in it",
    )


def _not_torchs(path: Path, what: str, line: str) -> BadCheckpoint:
    return BadCheckpoint(
        f"'{path.name}' is not a file of weights",
        expected="safetensors, or a state dict written by torch.save",
        got=what,
        next_step=f"where you trust it: {line}",
    )


def _torchscript(path: Path) -> BadCheckpoint:
    return BadCheckpoint(
        f"'{path.name}' was refused: it is a TorchScript program, code and weights in one",
        expected="a state dict",
        got="a TorchScript program",
        next_step=f"where you trust it: torch.save(torch.jit.load('{path.name}').state_dict(), 'weights.pth')",
    )


def _of_numpy(payload: Any) -> bool:
    values = list(payload.values()) if isinstance(payload, Mapping) else []
    return bool(values) and all(isinstance(each, Inert) and each.name.startswith("numpy") for each in values)


def _whole_module(payload: Any) -> tuple[str, Inert] | None:
    """A whole module that was pickled in the place of its state dict, and the Python that takes it from the payload."""
    if any(True for _ in state_dicts_in(payload)):
        return None
    return next(
        ((place, each) for place, each in values_in(payload) if isinstance(each, Inert) and each.is_module), None
    )


def _refused(path: Path, payload: Any, names: tuple[str, ...]) -> BadCheckpoint:
    loaded = f"torch.load('{path.name}', weights_only=False)"
    if (found := _whole_module(payload)) is not None:
        place, module = found
        return BadCheckpoint(
            f"'{path.name}' was refused: it holds a whole module, and reading that would run code",
            expected="a state dict",
            got=f"an object of the class {module.name}",
            next_step=f"where it was made: torch.save({loaded}{place}.state_dict(), 'weights.pth')",
        )
    entry, _ = next(state_dicts_in(payload), ("", {}))
    return BadCheckpoint(
        f"'{path.name}' was refused: reading it would run code that the file brings along",
        expected="tensors, plain containers, and types of known packages",
        got=", ".join(names),
        next_step=f"if you trust its origin, where it was made: torch.save({loaded}{subscripts(entry)}, 'weights.pth')",
    )
