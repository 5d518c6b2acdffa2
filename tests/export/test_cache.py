"""What is kept is found only by what it was made of, only as it was, and a failure is never kept."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from export import cache as cache_module
from export.cache import Cache, key_of
from export.stage_cache import Evaluations


def _keep(cache: Cache, key: str, text: str = "content") -> None:
    cache.keep("stage", key, "a thing", {"n": 1}, lambda into: (into / "file.txt").write_text(text))


def test_an_entry_comes_back_as_it_was_kept(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    key = key_of(a=1, b="x")
    assert cache.find("stage", key) is None
    _keep(cache, key)
    entry = cache.find("stage", key)
    assert entry is not None
    assert (entry.folder / "file.txt").read_text() == "content"
    assert (entry.record, entry.what, entry.kind) == ({"n": 1}, "a thing", "stage")
    assert cache.find("export", key) is None


@pytest.mark.parametrize("damage", ["changed", "missing", "no record"])
def test_a_damaged_entry_is_no_hit_and_goes(tmp_path: Path, damage: str) -> None:
    cache, key = Cache(tmp_path), key_of(a=1)
    _keep(cache, key)
    entry = cache.find("stage", key)
    assert entry is not None
    file = entry.folder / ("entry.json" if damage == "no record" else "file.txt")
    if damage == "missing":
        file.unlink()
    else:
        file.write_text("other content")
    assert cache.find("stage", key) is None
    if damage != "no record":
        assert not entry.folder.exists()


def test_a_writer_that_fails_keeps_nothing(tmp_path: Path) -> None:
    cache, key = Cache(tmp_path), key_of(a=1)

    def full(into: Path) -> None:
        (into / "half").write_text("half")
        raise OSError(28, "No space left on device")

    cache.keep("stage", key, "", {}, full)
    assert list(cache.entries()) == []
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_key_names_the_code_the_tools_and_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    before = key_of(a=1)
    assert key_of(a=1) == before != key_of(a=2)
    for name, value in (("_code", lambda: "other"), ("versions", lambda *_: (("torch", "0"),))):
        with monkeypatch.context() as changed:
            changed.setattr(cache_module, name, value)
            cache_module._ground.cache_clear()
            assert key_of(a=1) != before, name
        cache_module._ground.cache_clear()
    assert key_of(a=1) == before


def test_pruning_removes_the_unused_and_then_the_least_recent(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    keys = [key_of(n=n) for n in range(3)]
    for age, key in enumerate(keys):
        _keep(cache, key, "x" * 100)
        entry = cache.find("stage", key)
        assert entry is not None
        then = entry.made - age * 86400
        os.utime(entry.folder / "entry.json", (then, then))
    assert cache.prune(oldest_s=1.5 * 86400, largest_bytes=1000) == (1, 100)
    assert cache.prune(oldest_s=1e9, largest_bytes=100) == (1, 100)
    assert [entry.key for entry in cache.entries()] == [keys[0]]


def test_an_evaluation_comes_back_bit_for_bit(tmp_path: Path) -> None:
    memo = Evaluations(Cache(tmp_path))
    values = np.array([[1.0, np.nan], [np.inf, 1e-300]])
    assert memo.find("a") is None
    memo.keep("a", values)
    found = memo.find("a")
    assert found is not None
    assert found.tobytes() == values.tobytes()
    assert memo.find("b") is None


def test_an_entry_that_somebody_else_wrote_is_none(tmp_path: Path) -> None:
    cache, key = Cache(tmp_path), key_of(a=1)
    folder = tmp_path / "stage" / key[:2] / key
    folder.mkdir(parents=True)
    (folder / "entry.json").write_text(json.dumps({"kind": "stage"}))
    assert cache.find("stage", key) is None
    assert list(cache.entries()) == []
