"""Garbage collection is put back as it was."""

import gc
from collections.abc import Iterator

import pytest

from export.workers.gc_freeze import collector_at_rest


@pytest.fixture(autouse=True)
def not_at_rest(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As in a process that begins: the suite has frozen what it loaded."""
    monkeypatch.setattr("export.workers.gc_freeze._at_rest", False)
    gc.unfreeze()
    yield
    gc.freeze()


def test_the_collector_is_put_back() -> None:
    def fail() -> None:
        assert gc.get_freeze_count() > 0
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), collector_at_rest():
        fail()
    assert gc.get_freeze_count() == 0


def test_a_block_in_another_lets_go_of_nothing() -> None:
    with collector_at_rest():
        with collector_at_rest():
            pass
        assert gc.get_freeze_count() > 0
    assert gc.get_freeze_count() == 0


def test_whoever_froze_what_is_loaded_lets_go_of_it() -> None:
    gc.freeze()
    try:
        with collector_at_rest():
            pass
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()
