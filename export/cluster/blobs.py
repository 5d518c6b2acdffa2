"""Files by their SHA-256: what a client sends to a worker, and what a worker keeps of it."""

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from efficientvit.digests import file_digest

LARGEST_BYTES = 16_000_000_000
"""Of what a worker keeps between jobs: beyond, the least recently used goes."""


@dataclass(frozen=True, slots=True)
class Tree:
    """A file, or the files below a folder: names relative to it, with `/`, and their digests. `name`: its own."""

    name: str
    files: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, path: Path) -> "Tree":
        """What lies there now. A file has the empty name within itself.

        Raises:
            OSError: it cannot be read.
        """
        name = path.resolve().name
        if not path.is_dir():
            return cls(name, (("", file_digest(path)),))
        files = sorted(file for file in path.rglob("*") if file.is_file())
        return cls(name, tuple((file.relative_to(path).as_posix(), file_digest(file)) for file in files))

    @property
    def digests(self) -> frozenset[str]:
        """Of all files."""
        return frozenset(digest for _, digest in self.files)


@dataclass(frozen=True, slots=True)
class Blobs:
    """A folder of files named by their digests."""

    root: Path

    def missing(self, digests: Iterable[str]) -> frozenset[str]:
        """Those that are not here."""
        return frozenset(digest for digest in digests if not (self.root / digest).is_file())

    def put(self, digest: str, content: bytes) -> None:
        """Keep it, whole or not at all.

        Raises:
            ValueError: the content has another digest.
            OSError: it cannot be written.
        """
        if (found := hashlib.sha256(content).hexdigest()) != digest:
            raise ValueError(f"a file arrived with sha256 {found}, where {digest} was announced")
        self.root.mkdir(parents=True, exist_ok=True)
        descriptor, part = tempfile.mkstemp(prefix=".", dir=self.root)
        try:
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(content)
            Path(part).replace(self.root / digest)
        finally:
            Path(part).unlink(missing_ok=True)

    def read(self, digest: str) -> bytes:
        """Its content."""
        return (self.root / digest).read_bytes()

    def place(self, tree: Tree, into: Path) -> Path:
        """Put the tree below the folder `into`, under its own name; the path of the file or folder."""
        target = into / tree.name
        into.mkdir(parents=True, exist_ok=True)
        if any(name for name, _ in tree.files) or not tree.files:
            target.mkdir()
        for name, digest in tree.files:
            copy = target / name if name else target
            copy.parent.mkdir(parents=True, exist_ok=True)
            os.utime(self.root / digest)  # used
            _link(self.root / digest, copy)
        return target

    def prune(self, largest_bytes: int = LARGEST_BYTES) -> None:
        """Remove the least recently used beyond that size."""
        found: list[tuple[float, int, Path]] = []
        for path in self.root.glob("[0-9a-f]*"):
            with contextlib.suppress(FileNotFoundError):
                status = path.stat()
                found.append((status.st_mtime, status.st_size, path))
        total = 0
        for _, size, path in sorted(found, reverse=True):
            total += size
            if total > largest_bytes:
                path.unlink(missing_ok=True)


def in_parts(sizes: Mapping[str, int], largest_bytes: int) -> Iterator[list[str]]:
    """The digests in groups of about so many bytes."""
    group: list[str] = []
    total = 0
    for digest, size in sizes.items():
        if group and total + size > largest_bytes:
            yield group
            group, total = [], 0
        group.append(digest)
        total += size
    if group:
        yield group


def is_inside(name: str) -> bool:
    """A relative path that leads into the folder that it is relative to."""
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and "\0" not in name


def _link(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)
