"""The output folder: complete or not there, the last good one left alone until a new one takes its place."""

import contextlib
import ctypes
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from efficientvit.errors import BadOutput

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


@contextmanager
def writing(what: Path, option: str = "--out") -> Iterator[None]:
    """Turn the system's refusals into one of ours. `option`: what names another place.

    Raises:
        BadOutput: something below `what` could not be written.
    """
    try:
        yield
    except OSError as error:
        elsewhere = f"choose another place with {option}"
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise BadOutput(
            f"cannot write {what}",
            expected="a place that can be written",
            got=error.strerror or str(error),
            next_step=f"free some space there, or {elsewhere}" if full else elsewhere,
        ) from error


def require_writable(out: Path, option: str = "--out") -> None:
    """Find out before the work, not after it.

    Raises:
        BadOutput: `out` is no folder, or cannot be written.
    """
    with writing(out, option):
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out) as probe:
            probe.write(b"\0")


@contextmanager
def new_folder(out: Path, slug: str) -> Iterator[Path]:
    """A folder to fill; whoever leaves the block without `publish`ing it leaves nothing behind.

    Raises:
        BadOutput: `out` is no folder, or cannot be written.
    """
    partial = out / f".{slug}.{os.getpid()}.partial"
    try:
        with writing(out):
            out.mkdir(parents=True, exist_ok=True)
            _sweep(out, slug)
            partial.mkdir()
        yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def publish(partial: Path, final: Path) -> None:
    """Put `partial` in the place of `final` in one step; the old folder goes only when the new one stands.

    Raises:
        BadOutput: the folder cannot be moved there.
    """
    with writing(final):
        _flush(partial)
        if not os.path.lexists(final):
            partial.rename(final)
        elif _exchange(partial, final):
            _remove(partial)
        else:
            old = final.with_name(f".{final.name}.{os.getpid()}.old")
            final.rename(old)
            partial.rename(final)
            _remove(old)


def remove_failures(out: Path, slug: str) -> None:
    """Remove what an earlier run left of this artifact that failed: a good one stands now."""
    for old in ("rejected", "failed"):
        shutil.rmtree(out / f"{slug}.{old}", ignore_errors=True)


def _exchange(first: Path, second: Path) -> bool:
    """Swap two names atomically, where the system can (Linux: renameat2)."""
    function = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if function is None:
        return False
    swapped = function(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE)
    return bool(swapped == 0)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _flush(folder: Path) -> None:
    """A name that survives a power cut must not point at files that did not."""
    for path in (*folder.rglob("*"), folder):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _sweep(out: Path, slug: str) -> None:
    """Remove what a killed run left behind; one that still runs keeps its folder."""
    for leftover in (*out.glob(f".{slug}.*.partial"), *out.glob(f".{slug}.*.old")):
        owner = leftover.name.split(".")[-2]
        # In a container every run may have the same number: what bears ours was left by one before us.
        if owner.isdigit() and (int(owner) == os.getpid() or not psutil.pid_exists(int(owner))):
            with contextlib.suppress(FileNotFoundError):
                _remove(leftover)
