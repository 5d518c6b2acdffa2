"""A package that is not installed is found before any work, with the command that installs it."""

import sys
from pathlib import Path

import pytest

from efficientvit.errors import BadOption, MissingExtra
from efficientvit.installation import install_command
from export.request.request import Request


@pytest.fixture
def no_coremltools(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "coremltools", None)


def test_it_is_found_before_any_work(
    no_coremltools: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from export.cli.main import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["vit-export", "m0", "-w", "seeded", "-t", "onnx", "-t", "coreml"])
    with pytest.raises(SystemExit) as stopped:
        main()
    err = capfd.readouterr().err
    assert stopped.value.code == 3
    assert "making Core ML packages needs the package 'coremltools'" in err
    assert install_command("coreml") in err
    assert "weights:" not in err
    assert not list(tmp_path.iterdir())


def test_targets_that_are_not_asked_for_do_not_matter(no_coremltools: None) -> None:
    assert Request(("m0",), ("onnx", "openvino")).jobs()


def test_what_cannot_be_made_at_all_is_said_first(no_coremltools: None) -> None:
    with pytest.raises(BadOption, match="cannot be made in int8"):
        Request(("m0",), ("coreml",), "int8").jobs()
    with pytest.raises(MissingExtra):
        Request(("m0",), ("coreml",)).jobs()


def test_either_of_tensorrts_products_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    from export.targets.target import Target
    from runtimes.artifact import Format

    def target(*packages: str) -> Target:
        return Target("engine", "engines", Format.ENGINE, ".engine", {}, packages, "tensorrt")

    target("no_such_package", "numpy").require_installed()
    with pytest.raises(MissingExtra, match="'no_such_package'"):
        target("no_such_package", "none_either").require_installed()
