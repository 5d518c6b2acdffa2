"""Golden sets on disk: one safetensors file, the same bytes for the same set, its digest checked on loading.

Tensors: `pixels` (m, H, W, 3) uint8 and `values` (k, 3, H, W) float32, each in the set's order; one that
would be empty is left out. Metadata: one key, `golden_set`, a JSON object with `version`, `sha256`,
`preprocessing`, `members` ([name, kind, "pixels" or "values"], in the set's order) and `skipped`. One key
only, because safetensors writes several in no fixed order.
"""

import json
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from efficientvit.errors import BadGoldenSet, BadInput, BadOutput
from efficientvit.files import replace_file
from efficientvit.images.preprocessing import Preprocessing
from validation.inputs.golden_set import GoldenImage, GoldenSet, Kind

VERSION = 1
_KEY = "golden_set"


def save(golden: GoldenSet, path: Path) -> None:
    """Write the set to `path`, whole or not at all; an older file there is replaced.

    Raises:
        BadOutput: the file cannot be written.
    """
    import safetensors.numpy

    header = {
        "version": VERSION,
        "sha256": golden.sha256,
        "preprocessing": golden.preprocessing.to_json(),
        "members": [[member.name, member.kind, _tensor_of(member)] for member in golden.members],
        "skipped": golden.skipped,
    }
    tensors: dict[str, NDArray[Any]] = {}
    for name in ("pixels", "values"):
        if rows := [member.data for member in golden.members if _tensor_of(member) == name]:
            tensors[name] = np.stack(rows)
    content = safetensors.numpy.save(tensors, {_KEY: json.dumps(header, sort_keys=True)})
    try:
        replace_file(path, lambda part: part.write_bytes(content))
    except OSError as error:
        raise BadOutput(f"the golden set cannot be written to {path}", got=str(error)) from error


def load(path: Path) -> GoldenSet:
    """The set that `save` wrote.

    Raises:
        BadGoldenSet: missing, unreadable, no golden set, of another version, or not what its digest says.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
    except (OSError, SafetensorError) as error:
        raise _bad(path, "cannot be read", "a golden set in safetensors form", str(error)) from error
    try:
        header = json.loads(metadata[_KEY])
        if header["version"] != VERSION:
            raise ValueError(f"version {header['version']}, where this program reads {VERSION}")
        golden, recorded = _from_parts(header, tensors), header["sha256"]
    except (LookupError, TypeError, ValueError, RecursionError, BadInput) as error:
        got = f"{type(error).__name__}: {error}"
        raise _bad(path, "is no golden set", "the header and tensors that `save` writes", got) from error
    if golden.sha256 != recorded:
        got = f"sha256 {golden.sha256}"
        raise _bad(path, "is not what it was when it was saved", f"sha256 {recorded}", got)
    return golden


def _from_parts(header: dict[str, Any], tensors: dict[str, NDArray[Any]]) -> GoldenSet:
    rows = {name: deque(tensor) for name, tensor in tensors.items()}
    members = tuple(GoldenImage(name, Kind(kind), rows[tensor].popleft()) for name, kind, tensor in header["members"])
    if any(rows.values()):
        raise ValueError("the tensors hold more images than the header names")
    preprocessing = Preprocessing.from_json(header["preprocessing"])
    return GoldenSet(members, preprocessing, tuple(header["skipped"]))


def _tensor_of(member: GoldenImage) -> str:
    return "pixels" if member.has_pixels else "values"


def _bad(path: Path, what: str, expected: str, got: str) -> BadGoldenSet:
    return BadGoldenSet(f"{path} {what}", expected=expected, got=got, next_step="make the golden set again")
