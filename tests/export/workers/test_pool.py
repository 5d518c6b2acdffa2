"""Worker processes: results and progress arrive, and whatever ends one of them leaves nothing running or half made."""

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from efficientvit.errors import BadOption, HostShortage, StageFailed
from export.workers.pool import in_processes
from tests.command_line import ROOT
from tests.export.workers.jobs import fail, half_made, tell
from tests.silent import Silent


class Shown(Silent):
    def __init__(self) -> None:
        self.said: list[Any] = []

    def step(self, text: str) -> None:
        self.said.append(text)

    def weights(self, about: Any) -> None:
        self.said.append(about.source)

    def stage(self, slug: str, name: str, seconds: float, status: str, *, cached: bool) -> None:
        self.said.append((slug, name, seconds, status, cached))


def test_results_and_progress_of_more_units_than_processes() -> None:
    shown = Shown()
    results = list(in_processes(tell, (1, 2, 3), shown, 2))
    assert sorted(value for value, _ in results) == [-3, -2, -1, 1, 2, 3]
    assert 1 <= len({process for _, process in results} - {os.getpid()}) <= 2
    assert shown.said.count("seeded:0") == 1
    assert shown.said.count(("m0", "trace", 1.0, "verified", True)) == 1
    assert {"unit 1", "unit 2", "unit 3"} <= {step for said in shown.said for step in str(said).split("   ")}


@pytest.mark.parametrize(
    ("unit", "error", "match"),
    [
        ("ours", BadOption, "no"),
        ("a defect", RuntimeError, "ZeroDivisionError"),
        ("no such file", RuntimeError, "FileNotFoundError"),
        ("killed", HostShortage, "memory"),
        ("ended", StageFailed, "exit code 7"),
        ("no memory", HostShortage, "too little memory"),
    ],
)
def test_what_ends_a_unit_is_raised(unit: str, error: type[Exception], match: str) -> None:
    children = set(psutil.Process().children())
    with pytest.raises(error, match=match):
        list(in_processes(fail, (unit,), Silent(), 1))
    assert not [child for child in set(psutil.Process().children()) - children if "spawn_main" in child.cmdline()]


def test_a_caller_that_stops_leaves_nothing(tmp_path: Path) -> None:
    class Stopping(Silent):
        def step(self, text: str) -> None:
            if len(list(tmp_path.iterdir())) == 2:
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(in_processes(partial(half_made, tmp_path), (1, 2), Stopping(), 2))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "group", "code"),
    [
        (signal.SIGINT, True, 130),
        (signal.SIGINT, False, 130),
        (signal.SIGTERM, False, 143),
        (signal.SIGKILL, False, -9),
    ],
)
def test_a_signal_ends_every_process_and_leaves_nothing_half_made(
    number: signal.Signals, group: bool, code: int, tmp_path: Path
) -> None:
    """Ctrl-C reaches the whole process group; a parent that is killed says nothing, and its workers notice."""
    parent = subprocess.Popen(
        [sys.executable, "-m", "tests.export.workers.jobs", str(tmp_path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert parent.stdout is not None
    workers = [psutil.Process(int(process)) for process in parent.stdout.readline().split()]
    assert len(workers) == 2
    if group:
        os.killpg(parent.pid, number)
    else:
        parent.send_signal(number)
    _, errors = parent.communicate(timeout=60)
    assert parent.returncode == code
    assert "Traceback" not in errors
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert not alive
    assert list(tmp_path.iterdir()) == []
