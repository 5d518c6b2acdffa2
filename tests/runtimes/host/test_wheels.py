"""Packages that have no wheel for some hosts: said before pip is tried, with what is needed and what is there."""

import pytest

from efficientvit.errors import MissingExtra, Unavailable
from runtimes.host import packages, wheels
from runtimes.host.wheels import WHEELS, ThisHost, without_a_wheel

DEBIAN12 = ThisHost((3, 11), "linux", "x86_64", (2, 36))
MAC = ThisHost((3, 14), "darwin", "arm64", (27, 1))
OLD = ThisHost((3, 11), "linux", "x86_64", (2, 31))


@pytest.mark.parametrize("host", [DEBIAN12, MAC, ThisHost((3, 12), "linux", "x86_64", (2, 34))], ids=str)
def test_core_ai_has_wheels_for_these(host: ThisHost) -> None:
    assert without_a_wheel("coreai", host) is None


@pytest.mark.parametrize(
    "host",
    [
        OLD,
        ThisHost((3, 15), "linux", "x86_64", (2, 36)),
        ThisHost((3, 10), "darwin", "arm64", (27,)),
        ThisHost((3, 11), "linux", "aarch64", (2, 36)),
        ThisHost((3, 11), "darwin", "x86_64", (27,)),
        ThisHost((3, 11), "darwin", "arm64", (15, 6)),
        ThisHost((3, 11), "linux", "x86_64", ()),  # musl
        ThisHost((3, 11), "win32", "AMD64", ()),
    ],
    ids=str,
)
def test_and_none_for_these(host: ThisHost) -> None:
    found = without_a_wheel("coreai", host)
    assert found is not None
    assert found == (str(WHEELS["coreai"]), str(host))


def test_what_is_needed_and_what_is_here_is_said() -> None:
    assert without_a_wheel("coreai", OLD) == (
        "Python 3.11 to 3.14; Linux with glibc 2.34 or later on x86_64, or macOS 26 or later on arm64",
        "Python 3.11, linux on x86_64, glibc 2.31",
    )


def test_other_extras_are_left_to_pip() -> None:
    assert without_a_wheel("coreml", OLD) is None
    assert without_a_wheel(None, OLD) is None


def test_this_host_is_the_one_that_runs_this() -> None:
    assert ThisHost.found().python >= (3, 11)


def test_no_remedy_is_offered_that_would_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheels.ThisHost, "found", lambda: OLD)
    monkeypatch.setattr(packages, "find_spec", lambda _: None)
    error = packages.missing("coreai", "coreai", "running a Core AI asset")
    assert isinstance(error, Unavailable)
    assert not isinstance(error, MissingExtra)
    assert "glibc 2.34 or later" in (error.next_step or "")
    assert isinstance(packages.missing("coremltools", "coreml", "running a package"), MissingExtra)
