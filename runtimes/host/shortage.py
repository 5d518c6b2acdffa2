"""An error that a shortage of this host caused: memory, disk space, open files, processes. None of them is a defect."""

import errno
import re
import tempfile
from collections.abc import Iterator

import psutil

from efficientvit.errors import HostShortage

_NO_MEMORY = re.compile(
    r"failed to map segment|cannot allocate memory|can't allocate memory|failed to allocate memory|bad_?alloc|"
    r"bad allocation|out of memory|unable to allocate|insufficient memory",
    re.IGNORECASE,
)
"""What loaders, PyTorch, NumPy, ONNX Runtime and OpenVINO say, most of them in an error of no class of its own."""

_NO_SPACE = re.compile(r"no space left on device|disk quota exceeded|no usable temporary directory", re.IGNORECASE)
_NO_THREADS = re.compile(r"can't start new thread|thread creation failed|pthread_create failed", re.IGNORECASE)


def shortage_of(error: BaseException) -> HostShortage | None:
    """The host's shortage behind `error`, or behind what it was raised from; None where there is none."""
    for each in _chain(error):
        if isinstance(each, HostShortage):
            return each
        number, said = (each.errno if isinstance(each, OSError) else None), str(each)
        if isinstance(each, MemoryError) or number == errno.ENOMEM or _NO_MEMORY.search(said):
            return _memory(each)
        if number in (errno.ENOSPC, errno.EDQUOT) or _NO_SPACE.search(said):
            return _space(each)
        if number in (errno.EMFILE, errno.ENFILE):
            return HostShortage(
                "this host lets vit-export open no more files",
                got=_said(each),
                next_step="raise the limit with `ulimit -n 4096`, and run it again",
            )
        if number == errno.EAGAIN or _NO_THREADS.search(said):
            return HostShortage(
                "this host lets vit-export start no more processes or threads",
                got=_said(each),
                next_step="raise the limit (`ulimit -u`, a container's pids limit), or run it with --jobs 1",
            )
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    each: BaseException | None = error
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        yield each
        each = each.__cause__ or (None if each.__suppress_context__ else each.__context__)


def _memory(error: BaseException) -> HostShortage:
    return HostShortage(
        "this host has too little memory for what was asked",
        expected="about 4 GB free: PyTorch alone takes one, and address space beside it where `ulimit -v` limits that",
        got=f"{psutil.virtual_memory().available / 1e9:.1f} GB free{_limit()}; {_said(error)}",
        next_step="close other programs, raise the limit (`ulimit -v`, a container's memory), or use --jobs 1",
    )


def _limit() -> str:
    """What `ulimit -v` says, where the system has such limits."""
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return ""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return "" if limit == resource.RLIM_INFINITY else f", and `ulimit -v` allows {limit / 1e9:.1f} GB of address space"


def _space(error: BaseException) -> HostShortage:
    # `gettempdir` raises where it finds no folder: then that is the error, and its text lists those that it tried.
    where = getattr(error, "filename", None) or tempfile.tempdir
    return HostShortage(
        "this host has no disk space left",
        expected="about 1 GB in the folder for temporary files, which $TMPDIR names",
        got=_said(error) + (f" ({where})" if where and str(where) not in str(error) else ""),
        next_step="free some space there, or set TMPDIR to a folder on another disk",
    )


def _said(error: BaseException) -> str:
    first = str(error).strip().splitlines()[:1]
    return f"{type(error).__name__}: {first[0][:200]}" if first else type(error).__name__
