"""Whoever times is alone, nobody is left waiting, and an error inside leaves the others their turn."""

import multiprocessing
import threading
import time

import pytest

from export.workers.exclusive import Beside


@pytest.fixture
def beside() -> Beside:
    context = multiprocessing.get_context("spawn")
    return Beside(context.Condition(), context.Value("i", 0, lock=False), context.Value("i", 0, lock=False))


def test_whoever_is_alone_is_alone(beside: Beside) -> None:
    working: list[int] = []
    seen: list[list[int]] = []

    def work(number: int) -> None:
        for _ in range(3):
            with beside.working():
                working.append(number)
                time.sleep(0.005 * number)
                working.remove(number)
                with beside.alone():
                    seen.append(list(working))
                    time.sleep(0.005)
                    seen.append(list(working))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not any(thread.is_alive() for thread in threads)
    assert seen == [[]] * 24
    assert (beside.busy.value, beside.wanting.value) == (0, 0)


def test_an_error_while_alone_lets_the_others_go_on(beside: Beside) -> None:
    with pytest.raises(ZeroDivisionError), beside.working(), beside.alone():
        raise ZeroDivisionError
    assert (beside.busy.value, beside.wanting.value) == (0, 0)
    with beside.working():
        assert beside.busy.value == 1
