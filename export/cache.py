"""A store on disk for what was made before, found by a key that names everything that it depends on.

An entry is a folder: the files, and `entry.json` with their digests. A file that is no longer the one that was kept is
no hit. What fails is never kept, and a store that can't be written costs time, not the export.
"""

import contextlib
import functools
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from efficientvit.pretrained import cache_folder
from runtimes.artifact import digest
from runtimes.gpu import count_gpus
from runtimes.host import this_host, versions

_ENTRY = "entry.json"
_PACKAGES = ("efficientvit", "runtimes", "validation", "export")
_TOOLS = ("torch", "numpy", "onnx", "onnxscript", "onnx-ir", "onnxruntime", "onnxsim", "onnxconverter-common",
          "openvino", "coremltools", "tensorrt", "tensorrt_rtx_cu13", "pillow", "safetensors", "jinja2")  # fmt: skip
_OLDEST_S = 30 * 86400.0
_LARGEST_BYTES = 4 << 30


@dataclass(frozen=True, slots=True)
class Entry:
    """What was kept. `what`: for people; `record`: for whoever kept it; `made`: seconds since 1970."""

    folder: Path
    kind: str
    key: str
    what: str
    made: float
    record: Mapping[str, Any]
    files: Mapping[str, str]

    @property
    def size_bytes(self) -> int:
        """Of its files."""
        return sum((self.folder / name).stat().st_size for name in self.files)

    @property
    def used(self) -> float:
        """When it was last found, or made: seconds since 1970."""
        return (self.folder / _ENTRY).stat().st_mtime


@dataclass(frozen=True, slots=True)
class Cache:
    """The store below `root`."""

    root: Path

    def find(self, kind: str, key: str) -> Entry | None:
        """The entry, every file of it hashed again; one that is damaged is removed."""
        folder = self._folder(kind, key)
        entry = _read(folder)
        if entry is None:
            return None
        if any(not (folder / name).is_file() or digest(folder / name) != kept for name, kept in entry.files.items()):
            shutil.rmtree(folder, ignore_errors=True)
            return None
        with contextlib.suppress(OSError):
            os.utime(folder / _ENTRY)
        return entry

    def keep(self, kind: str, key: str, what: str, record: Mapping[str, Any], fill: Callable[[Path], object]) -> None:
        """Let `fill` put the files into an empty folder, which becomes the entry whole or not at all."""
        with contextlib.suppress(OSError):
            folder = self._folder(kind, key)
            folder.parent.mkdir(parents=True, exist_ok=True)
            partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=folder.parent))
            try:
                fill(partial)
                files = sorted(path for path in partial.rglob("*") if path.is_file())
                written = {
                    "kind": kind,
                    "key": key,
                    "what": what,
                    "made": time.time(),
                    "record": record,
                    "files": {path.relative_to(partial).as_posix(): digest(path) for path in files},
                }
                (partial / _ENTRY).write_text(json.dumps(written, indent=1), encoding="utf-8")
                if not folder.exists():
                    partial.rename(folder)
            finally:
                shutil.rmtree(partial, ignore_errors=True)

    def entries(self) -> Iterator[Entry]:
        """All, in no order; their files are not looked at."""
        for path in self.root.glob(f"*/??/*/{_ENTRY}"):
            if (entry := _read(path.parent)) is not None:
                yield entry

    def prune(self, *, oldest_s: float = _OLDEST_S, largest_bytes: int = _LARGEST_BYTES) -> tuple[int, int]:
        """Remove what was not used for so long, and the least recently used beyond that size; (entries, bytes) gone."""
        gone = freed = total = 0
        now = time.time()
        for entry in sorted(self.entries(), key=lambda each: each.used, reverse=True):
            with contextlib.suppress(OSError):  # another process may have removed it
                size = entry.size_bytes
                if now - entry.used <= oldest_s and total + size <= largest_bytes:
                    total += size
                    continue
                shutil.rmtree(entry.folder)
                gone, freed = gone + 1, freed + size
        return gone, freed

    def _folder(self, kind: str, key: str) -> Path:
        return self.root / kind / key[:2] / key


def default_cache() -> Cache:
    """Below the folder of the downloads, `$XDG_CACHE_HOME/vit-export` or `~/.cache/vit-export`."""
    return Cache(cache_folder() / "made")


def key_of(**parts: object) -> str:
    """SHA-256 over the parts' text, and over what everything here depends on: our code, the tools, the host."""
    text = json.dumps({name: str(value) for name, value in parts.items()}, sort_keys=True)
    return hashlib.sha256(f"{_ground()}\n{text}".encode()).hexdigest()


@functools.cache
def _ground() -> str:
    """Any change of our own code, of a tool or of the CPU makes all entries strangers."""
    host = this_host()
    return json.dumps([_code(), versions(*_TOOLS), str(host), count_gpus()])


def _code() -> str:
    root = Path(__file__).parent.parent
    total = hashlib.sha256()
    for package in _PACKAGES:
        for path in sorted((root / package).rglob("*")):
            if path.is_file() and path.suffix != ".pyc":
                total.update(f"{path.relative_to(root).as_posix()}\0".encode() + path.read_bytes())
    return total.hexdigest()


def _read(folder: Path) -> Entry | None:
    try:
        found = json.loads((folder / _ENTRY).read_text(encoding="utf-8"))
        return Entry(
            folder,
            str(found["kind"]),
            str(found["key"]),
            str(found["what"]),
            float(found["made"]),
            dict(found["record"]),
            dict(found["files"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None  # nothing there, or nothing that we wrote
