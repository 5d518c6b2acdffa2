"""What really lies in the folder of a bundle: files by path, and what has no place in one."""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from export.bundle.layout import misnamed, same_name


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong with one file of a bundle (path relative to it)."""

    file: str
    what: str

    def __str__(self) -> str:
        name = self.file if self.file.isprintable() else ascii(self.file)
        return f"{name}: {self.what}"


@dataclass(frozen=True, slots=True)
class Tree:
    """Regular files by path relative to the folder, with slashes, and everything else as problems."""

    files: frozenset[str]
    problems: tuple[Problem, ...]


def look_into(folder: Path, *, links: bool = False) -> Tree:
    """Everything below `folder`, following nothing. `links`: hard links are as good as files."""
    files: set[str] = set()
    problems = list(_walk(folder, "", files, links=links))
    names: dict[str, str] = {}
    problems += [
        Problem(path, f"on some systems it is the same file as {other}")
        for path in sorted(files)
        if (other := names.setdefault(same_name(path), path)) != path
    ]
    return Tree(frozenset(files), tuple(problems))


def _walk(folder: Path, prefix: str, files: set[str], *, links: bool) -> Iterator[Problem]:
    entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    if not entries and prefix:
        yield Problem(prefix.rstrip("/"), "an empty folder, which no index lists")
    for entry in entries:
        path = f"{prefix}{entry.name}"
        status = entry.stat(follow_symlinks=False)
        if (why := misnamed(path)) is not None:
            yield Problem(path, f"not a name for a bundle: {why}")
        elif stat.S_ISLNK(status.st_mode):
            yield Problem(path, "a symbolic link: a bundle has files of its own alone")
        elif stat.S_ISDIR(status.st_mode):
            yield from _walk(folder / entry.name, f"{path}/", files, links=links)
        elif not stat.S_ISREG(status.st_mode):
            yield Problem(path, "no regular file")
        else:
            files.add(path)
            if status.st_nlink > 1 and not links:
                yield Problem(path, "a hard link: it can be changed under its other name; copy the folder")
