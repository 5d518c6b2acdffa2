"""`vit-export doctor`: what it says of a host that lacks something."""

import pytest

from export.commands import doctor
from runtimes.host import packages, wheels


def test_no_pip_is_advised_where_pip_finds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a host without coreai-core, and too old for it."""
    old = wheels.ThisHost((3, 11), "linux", "x86_64", (2, 31))
    monkeypatch.setattr(wheels.ThisHost, "found", lambda: old)
    monkeypatch.setattr(packages, "find_spec", lambda _: None)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    _, abilities = doctor.examine()
    remedies = {ability.target: ability.remedy or "" for ability in abilities}
    assert "glibc 2.34 or later" in remedies["coreai"]
    assert "this host is Python 3.11, linux on x86_64, glibc 2.31" in remedies["coreai"]
    assert "pip install" in remedies["coreml"]
