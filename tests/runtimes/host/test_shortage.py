"""What runtimes and the system say when the host is short of something is said as that, and nothing else is."""

import errno
import tempfile
from pathlib import Path

import pytest

from efficientvit.errors import HostShortage, StageFailed
from export.exits import Exit, exit_code
from runtimes.host.shortage import shortage_of


@pytest.mark.parametrize(
    ("error", "what", "next_step"),
    [
        (MemoryError(), "too little memory", "ulimit -v"),
        (ImportError("libtorch_cpu.so: failed to map segment from shared object"), "too little memory", "--jobs 1"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), "memory", "ulimit -v"),
        (RuntimeError("std::bad_alloc"), "too little memory", "a container's memory"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "too little memory", "close other programs"),
        (OSError(errno.ENOSPC, "No space left on device", "/tmp/x"), "no disk space", "TMPDIR"),
        (RuntimeError("[ONNXRuntimeError] write failed: No space left on device"), "no disk space", "free some space"),
        (FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']"), "no disk space", "TMPDIR"),
        (OSError(errno.EMFILE, "Too many open files"), "no more files", "ulimit -n"),
        (RuntimeError("can't start new thread"), "no more processes", "--jobs 1"),
        (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), "no more processes", "ulimit -u"),
    ],
)
def test_a_shortage_is_named_with_what_to_do(error: Exception, what: str, next_step: str) -> None:
    found = shortage_of(error)
    assert found is not None
    assert what in found.what
    assert next_step in str(found.next_step)
    assert exit_code(found) is Exit.NOT_VERIFIED


@pytest.mark.parametrize(
    "error", [ValueError("no"), OSError(errno.ENOENT, "No such file or directory"), StageFailed("a converter failed")]
)
def test_what_is_no_shortage_stays_what_it_is(error: Exception) -> None:
    assert shortage_of(error) is None


def test_it_is_found_behind_what_it_was_raised_from() -> None:
    try:
        try:
            raise OSError(errno.ENOSPC, "No space left on device", "/tmp/some.onnx")
        except OSError as error:
            raise RuntimeError("the converter failed") from error
    except RuntimeError as error:
        found = shortage_of(error)
    assert isinstance(found, HostShortage)
    assert "/tmp/some.onnx" in str(found)


def test_no_folder_for_temporary_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`tempfile` itself says so, of all the folders that it has tried."""
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [str(tmp_path / "not-there")])
    with pytest.raises(FileNotFoundError) as raised:
        tempfile.gettempdir()
    assert shortage_of(raised.value) is not None
