"""Whoever measures is alone, nobody is left waiting, and an error or a death inside leaves the others their turn."""

import threading
from concurrent.futures import ThreadPoolExecutor
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path

import pytest

from export.workers.exclusive import Exclusive


def test_whoever_is_alone_is_alone(tmp_path: Path) -> None:
    """Each worker is a thread: the locks are of open files, and each opens its own."""
    working: list[int] = []
    seen: list[list[int]] = []
    together = threading.Barrier(4, timeout=20)

    def work(number: int) -> None:
        exclusive = Exclusive(tmp_path)
        for turn in range(3):
            with exclusive.working():
                working.append(number)
                if turn == 0:
                    together.wait()  # all four work at once
                working.remove(number)
                with exclusive.alone():
                    seen.append(list(working))
                    working.append(number)
                    working.remove(number)
                    seen.append(list(working))

    with ThreadPoolExecutor(4) as threads:
        for done in [threads.submit(work, number) for number in range(4)]:
            done.result(20)
    assert seen == [[]] * 24
    _free(tmp_path)


def test_nobody_starts_while_one_waits_to_be_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, third = (Exclusive(tmp_path) for _ in range(3))
    order: list[str] = []
    waits = threading.Event()

    def locked(file: int, how: int) -> None:
        if file == second._room and how == LOCK_EX:
            waits.set()  # it has the door by now
        flock(file, how)

    monkeypatch.setattr("export.workers.exclusive.flock", locked)

    def measure() -> None:
        with second.working(), second.alone():
            order.append("alone")

    def late() -> None:
        with third.working():
            order.append("late")

    with ThreadPoolExecutor(2) as threads:
        with first.working():
            measuring = threads.submit(measure)
            assert waits.wait(20)
            starting = threads.submit(late)
            assert order == []
        measuring.result(20)
        starting.result(20)
    assert order == ["alone", "late"]


def test_an_error_while_alone_lets_the_others_go_on(tmp_path: Path) -> None:
    exclusive = Exclusive(tmp_path)
    with pytest.raises(ZeroDivisionError), exclusive.working(), exclusive.alone():
        raise ZeroDivisionError
    _free(tmp_path)


def _held(path: Path) -> bool:
    with path.open("w") as file:
        try:
            flock(file, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            return True
        return False


def _free(folder: Path) -> None:
    assert [name for name in ("door", "room") if _held(folder / name)] == []
