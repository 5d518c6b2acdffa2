"""The output folder is complete or not there, whatever happens on the way."""

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from efficientvit.errors import BadOutput
from export.folder import atomic

SLUG = "m0-onnx-fp32"
ROOT = Path(__file__).parents[3]

# Begins a folder, or puts one in the old one's place, and is killed at the worst moment.
KILLED = """
import os, signal, sys
from pathlib import Path
from export.folder import atomic as folder

out = Path(sys.argv[1])
die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
with folder.new_folder(out, "m0-onnx-fp32") as partial:
    (partial / "half").write_text("new")
    if sys.argv[2] == "writing":
        die()
    if sys.argv[2] == "flushing":
        folder._flush = die
    if sys.argv[2] == "removing":
        folder._remove = die
    folder.publish(partial, out / "m0-onnx-fp32")
"""


def _names(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir())


def _publish(out: Path, text: str) -> Path:
    with atomic.new_folder(out, SLUG) as partial:
        (partial / "ship").mkdir()
        (partial / "ship" / "file").write_text(text)
        atomic.publish(partial, out / SLUG)
    return out / SLUG / "ship" / "file"


def test_a_new_folder_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    out = tmp_path / "made" / "on the way"
    assert _publish(out, "first").read_text() == "first"
    assert _publish(out, "second").read_text() == "second"
    assert _names(out) == [SLUG]


def test_so_it_does_where_names_cannot_be_swapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic, "_exchange", lambda *_: False)
    _publish(tmp_path, "first")
    assert _publish(tmp_path, "second").read_text() == "second"
    assert _names(tmp_path) == [SLUG]


def test_a_file_in_its_place_gives_way(tmp_path: Path) -> None:
    (tmp_path / SLUG).write_text("in the way")
    assert _publish(tmp_path, "new").read_text() == "new"
    assert _names(tmp_path) == [SLUG]


def _fail(partial: Path, error: type[BaseException]) -> None:
    (partial / "half").write_text("half")
    raise error


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, RuntimeError, MemoryError])
def test_what_is_not_published_is_gone(error: type[BaseException], tmp_path: Path) -> None:
    kept = _publish(tmp_path, "good")
    with pytest.raises(error), atomic.new_folder(tmp_path, SLUG) as partial:
        _fail(partial, error)
    assert _names(tmp_path) == [SLUG]
    assert kept.read_text() == "good"


@pytest.mark.parametrize("moment", ["writing", "flushing", "removing"])
def test_killed_at_any_moment_one_whole_folder_stands(moment: str, tmp_path: Path) -> None:
    kept = _publish(tmp_path, "good")
    ran = subprocess.run([sys.executable, "-c", KILLED, tmp_path, moment], cwd=ROOT, check=False)
    assert ran.returncode < 0
    assert _names(tmp_path / SLUG) == (["half"] if moment == "removing" else ["ship"])
    assert moment == "removing" or kept.read_text() == "good"
    assert len(_names(tmp_path)) == 2
    assert _publish(tmp_path, "next").read_text() == "next"
    assert _names(tmp_path) == [SLUG]


def test_a_run_that_is_still_at_work_keeps_its_folder(tmp_path: Path) -> None:
    theirs = tmp_path / f".{SLUG}.{os.getppid()}.partial"
    theirs.mkdir()
    foreign = tmp_path / f".{SLUG}.notes.partial"
    foreign.mkdir()
    other = tmp_path / f".m1-onnx-fp32.{os.getppid()}.partial"
    other.mkdir()
    _publish(tmp_path, "mine")
    assert _names(tmp_path) == sorted([SLUG, theirs.name, foreign.name, other.name])


def test_a_file_where_the_folders_should_go(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(BadOutput, match="cannot write") as caught:
            atomic.require_writable(out)
        assert caught.value.got
        assert caught.value.next_step == "choose another place with --out"
    assert (tmp_path / "file").read_text() == "in the way"


@pytest.mark.parametrize(("number", "says"), [(errno.ENOSPC, "free some space"), (errno.EROFS, "another place")])
def test_the_system_s_refusals_say_what_to_do(number: int, says: str, tmp_path: Path) -> None:
    with pytest.raises(BadOutput) as caught, atomic.writing(tmp_path):
        raise OSError(number, os.strerror(number))
    assert caught.value.got == os.strerror(number)
    assert says in str(caught.value.next_step)


def test_being_writable_leaves_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    atomic.require_writable(tmp_path / "out")
    assert _names(tmp_path / "out") == []

    def refuse(**_: Any) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with pytest.raises(BadOutput, match="cannot write"):
        atomic.require_writable(tmp_path / "out")
