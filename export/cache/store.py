"""A store on disk for what was made before, found by a key that names everything that it depends on.

An entry is a folder: the files, and `entry.json` with their digests. A file that is no longer the one that was kept is
no hit. What fails is never kept, and a store that can't be read or written costs time, not the export.
"""

import contextlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fcntl import LOCK_EX, flock
from pathlib import Path
from typing import Any

import msgspec

from efficientvit.digests import file_digest
from efficientvit.files import parse_json
from efficientvit.weights.pretrained import cache_folder
from export.cache.fingerprint import unchanged

OLDEST_DAYS = 30.0
LARGEST_GB = 4.0
"""Of what is kept: beyond, the least recently used goes."""

_ENTRY = "entry.json"
_PARTIAL = ".partial-"
_LOCKS = ".locks"
_ABANDONED_S = 86400.0


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
        """Of those of its files that are there."""
        return sum(path.stat().st_size for name in self.files if (path := self.folder / name).is_file())


@dataclass(frozen=True, slots=True)
class Cache:
    """The store below `root`."""

    root: Path

    def has(self, kind: str, key: str) -> bool:
        """Whether there is such an entry; its files may be damaged, which `fetch` finds."""
        return _read(self._folder(kind, key)) is not None

    def fetch(self, kind: str, key: str, into: Path) -> Entry | None:
        """Copy the entry's files into the folder `into`, where each is hashed again; one that is damaged is removed.

        None where there is no such entry, or it could not be read: then `into` may hold a part of it.
        """
        folder = self._folder(kind, key)
        try:
            entry = _read(folder)
            if entry is None:
                return None
            for name in entry.files:
                copy = into / name
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(folder / name, copy)
            if any(file_digest(into / name) != kept for name, kept in entry.files.items()):
                shutil.rmtree(folder, ignore_errors=True)
                return None
            os.utime(folder / _ENTRY)
        except OSError:  # another process has just removed it, or a file of it is lost
            shutil.rmtree(folder, ignore_errors=True)
            return None
        return entry

    def keep(self, kind: str, key: str, what: str, record: Mapping[str, Any], fill: Callable[[Path], object]) -> bool:
        """Let `fill` put the files into an empty folder, which becomes the entry whole or not at all; True if it did.

        Nothing is kept once our code, a tool or the environment has changed under the running process.
        """
        if not unchanged():
            return False
        folder = self._folder(kind, key)
        partial = None
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            partial = Path(tempfile.mkdtemp(prefix=_PARTIAL, dir=folder.parent))
            fill(partial)
            files = sorted(path for path in partial.rglob("*") if path.is_file())
            written = {
                "kind": kind,
                "key": key,
                "what": what,
                "made": time.time(),
                "record": record,
                "files": {path.relative_to(partial).as_posix(): file_digest(path) for path in files},
            }
            (partial / _ENTRY).write_text(json.dumps(written, indent=1), encoding="utf-8")
            if not folder.exists():
                partial.rename(folder)
        except OSError:
            return False
        finally:
            if partial is not None:
                shutil.rmtree(partial, ignore_errors=True)
        return True

    @contextlib.contextmanager
    def locked(self, key: str) -> Iterator[None]:
        """Inside the block no other process is in one for the key, as far as the file system can tell."""
        with contextlib.ExitStack() as held:
            with contextlib.suppress(OSError):
                path = self.root / _LOCKS / key[:2]
                path.parent.mkdir(parents=True, exist_ok=True)
                flock(held.enter_context(path.open("w")), LOCK_EX)
            yield

    def entries(self) -> Iterator[Entry]:
        """All, in no order; their files are not looked at."""
        for path in self.root.glob(f"*/??/*/{_ENTRY}"):
            if (entry := _read(path.parent)) is not None:
                yield entry

    def prune(self, *, oldest_days: float = OLDEST_DAYS, largest_gb: float = LARGEST_GB) -> tuple[int, int]:
        """Remove what was not used for so long, and the least recently used beyond that size; (entries, bytes) gone."""
        now, total, gone, freed = time.time(), 0, 0, 0
        for partial in self.root.glob(f"*/??/{_PARTIAL}*"):  # of a run that was killed
            with contextlib.suppress(OSError):
                if now - partial.stat().st_mtime > _ABANDONED_S:
                    shutil.rmtree(partial)
        for entry in sorted(self.entries(), key=_used, reverse=True):
            size = entry.size_bytes
            if now - _used(entry) <= oldest_days * 86400 and total + size <= largest_gb * 1e9:
                total += size
                continue
            shutil.rmtree(entry.folder, ignore_errors=True)
            gone, freed = gone + 1, freed + size
        return gone, freed

    def clear(self) -> tuple[int, int]:
        """Remove all; (entries, bytes) gone."""
        sizes = [entry.size_bytes for entry in self.entries()]
        shutil.rmtree(self.root, ignore_errors=True)
        return len(sizes), sum(sizes)

    def _folder(self, kind: str, key: str) -> Path:
        return self.root / kind / key[:2] / key


def default_cache() -> Cache:
    """Below the folder of the downloads, `$XDG_CACHE_HOME/vit-export` or `~/.cache/vit-export`."""
    return Cache(cache_folder() / "made")


def _used(entry: Entry) -> float:
    """When it was last found, or made: seconds since 1970; long ago if it is just being removed."""
    try:
        return (entry.folder / _ENTRY).stat().st_mtime
    except OSError:
        return 0.0


def _read(folder: Path) -> Entry | None:
    try:
        found = parse_json((folder / _ENTRY).read_bytes())
        return msgspec.convert({**found, "folder": folder}, Entry, dec_hook=lambda _, path: path)
    except (OSError, ValueError, TypeError):
        return None  # nothing there, or nothing that we wrote
