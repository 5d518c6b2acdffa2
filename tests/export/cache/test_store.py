"""What is kept is found only by what it was made of, only as it was, and a failure is never kept."""

import json
import os
import subprocess
import sys
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path

import numpy as np
import pytest

from export.cache import fingerprint
from export.cache.fingerprint import PACKAGES, code_files, key_of
from export.cache.store import Cache
from export.pipeline.stage_cache import Evaluations


def _keep(cache: Cache, key: str, text: str = "content") -> None:
    cache.keep("stage", key, "a thing", {"n": 1}, lambda into: (into / "file.txt").write_text(text))


def test_an_entry_comes_back_as_it_was_kept(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    key = key_of(a=1, b="x")
    out = tmp_path / "out"
    assert cache.fetch("stage", key, out) is None
    assert not cache.has("stage", key)
    _keep(cache, key)
    assert cache.has("stage", key)
    entry = cache.fetch("stage", key, out)
    assert entry is not None
    assert (out / "file.txt").read_text() == "content"
    assert (entry.record, entry.what, entry.kind) == ({"n": 1}, "a thing", "stage")
    assert cache.fetch("export", key, out) is None


def test_one_process_at_a_time_has_a_keys_lock(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    with cache.locked("abc"):
        (lock,) = (path for path in (tmp_path / "cache").rglob("*") if path.is_file())
        with lock.open("w") as another, pytest.raises(BlockingIOError):
            flock(another, LOCK_EX | LOCK_NB)
        with cache.locked("xyz"):
            pass
    with lock.open("w") as another:
        flock(another, LOCK_EX | LOCK_NB)
    _keep(cache, "abc")
    assert len(list(cache.entries())) == 1
    (tmp_path / "file").write_text("in the place of a folder")
    with Cache(tmp_path / "file").locked("abc"):  # what can't be locked is done all the same
        pass


@pytest.mark.parametrize("damage", ["changed", "missing", "no record"])
def test_a_damaged_entry_is_no_hit_and_goes(tmp_path: Path, damage: str) -> None:
    cache, key = Cache(tmp_path), key_of(a=1)
    _keep(cache, key)
    entry = cache.fetch("stage", key, tmp_path / "out")
    assert entry is not None
    file = entry.folder / ("entry.json" if damage == "no record" else "file.txt")
    if damage == "missing":
        file.unlink()
    else:
        file.write_text("other content")
    assert sum(each.size_bytes for each in cache.entries()) in (0, len("other content"))
    assert cache.fetch("stage", key, tmp_path / "out") is None
    if damage != "no record":
        assert not entry.folder.exists()


def test_a_writer_that_fails_keeps_nothing(tmp_path: Path) -> None:
    cache, key = Cache(tmp_path), key_of(a=1)

    def full(into: Path) -> None:
        (into / "half").write_text("half")
        raise OSError(28, "No space left on device")

    assert cache.keep("stage", key, "", {}, full) is False
    assert list(cache.entries()) == []
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def _forget() -> None:
    """As a new process begins."""
    fingerprint._at_first.cache_clear()
    fingerprint._ground.cache_clear()


def test_a_key_names_the_code_the_tools_and_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    before = key_of(a=1)
    assert key_of(a=1) == before != key_of(a=2)
    others: list[tuple[str, object]] = [
        ("_code_now", lambda: "other"),
        ("installed", lambda: ("torch-0.dist-info",)),
        ("this_host", lambda: "another CPU"),
        ("gpus", lambda: ("another GPU",)),
    ]
    for name, value in others:
        with monkeypatch.context() as changed:
            changed.setattr(fingerprint, name, value)
            _forget()
            assert key_of(a=1) != before, name
        _forget()
    with monkeypatch.context() as changed:
        changed.setenv("ONEDNN_DEFAULT_FPMATH_MODE", "BF16")
        _forget()
        assert key_of(a=1) != before
        _forget()
    _forget()
    assert key_of(a=1) == before


def test_the_code_is_every_file_of_the_four_packages() -> None:
    root = Path(__file__).parents[3]
    files = [path for package in PACKAGES for path in (root / package).rglob("*") if path.is_file()]
    assert [path for path in code_files() if root in path.parents] == sorted(
        path for path in files if path.suffix != ".pyc"
    )
    assert len(code_files()) > 200


def test_every_installed_distribution_is_part_of_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a converter that nobody has heard of yet, too."""
    before = fingerprint.installed()
    assert {name.partition("-")[0] for name in before} >= {"torch", "onnx_ir", "coremltools", "openvino"}
    (tmp_path / "converter_of_tomorrow-1.0.dist-info").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert set(fingerprint.installed()) == {*before, "converter_of_tomorrow-1.0.dist-info"}


def test_the_version_of_a_distribution_is_that_of_the_one_python_imports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once setuptools has been imported, what it brings along lies on the search path too (workers were refused)."""
    before = fingerprint.installed()
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "Torch-0.1.dist-info").mkdir()
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "own")])
    assert fingerprint.installed() == before
    vendored = tmp_path / "setuptools" / "_vendor"
    (vendored / "wheel_of_its_own-1.0.dist-info").mkdir(parents=True)
    monkeypatch.setattr(sys, "path", [*sys.path, str(vendored)])
    assert fingerprint.installed() == before


def test_nothing_is_kept_once_the_code_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache, key = Cache(tmp_path), key_of(a=1)
    monkeypatch.setattr(fingerprint, "_code_now", lambda: "an update in the middle of a run")
    _keep(cache, key)
    assert list(cache.entries()) == []


def test_nothing_is_kept_once_a_tool_or_the_environment_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, key = Cache(tmp_path), key_of(a=1)
    with monkeypatch.context() as changed:
        changed.setattr(fingerprint, "installed", lambda: ("openvino-0.dist-info",))
        _keep(cache, key)
    with monkeypatch.context() as changed:
        changed.setenv("ONEDNN_DEFAULT_FPMATH_MODE", "BF16")
        _keep(cache, key)
    assert list(cache.entries()) == []
    _keep(cache, key)
    assert len(list(cache.entries())) == 1


def test_what_an_import_says_to_openmp_changes_nothing(tmp_path: Path) -> None:
    """In a process that has not imported threadpoolctl yet."""
    told = (
        "import os\n"
        "from export.cache import fingerprint\n"
        "key = fingerprint.key_of(a=1)\n"
        "import threadpoolctl\n"
        "assert 'KMP_DUPLICATE_LIB_OK' in os.environ\n"
        "assert fingerprint.unchanged()\n"
        "os.environ['KMP_BLOCKTIME'] = '7'\n"
        "assert not fingerprint.unchanged()\n"
    )
    variables = {name: value for name, value in os.environ.items() if not name.startswith("KMP_")}
    subprocess.run([sys.executable, "-c", told], cwd=tmp_path, env=variables, check=True)


def test_pruning_removes_the_unused_and_then_the_least_recent(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    keys = [key_of(n=n) for n in range(3)]
    for age, key in enumerate(keys):
        _keep(cache, key, "x" * 100)
        entry = cache.fetch("stage", key, tmp_path / "out")
        assert entry is not None
        then = entry.made - age * 86400
        os.utime(entry.folder / "entry.json", (then, then))
    assert cache.prune(oldest_days=1.5, largest_gb=1) == (1, 100)
    assert cache.prune(oldest_days=1e6, largest_gb=1e-7) == (1, 100)
    assert [entry.key for entry in cache.entries()] == [keys[0]]
    assert cache.clear() == (1, 100)
    assert not cache.root.exists() or not list(cache.entries())


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
    assert cache.fetch("stage", key, tmp_path / "out") is None
    assert list(cache.entries()) == []
