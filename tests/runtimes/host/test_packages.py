import sys

import pytest

from efficientvit.errors import MissingExtra, Unavailable
from efficientvit.installation import install_command
from runtimes.host import packages
from runtimes.host.packages import in_one_sentence, missing


def test_an_installed_package_is_not_missing_and_not_imported() -> None:
    before = set(sys.modules)
    assert missing("antigravity", "fun", "flying") is None
    assert "antigravity" not in set(sys.modules) - before


def test_a_missing_package_is_answered_with_its_extra() -> None:
    error = missing("no_such_package", "openvino", "running an IR")
    assert isinstance(error, MissingExtra)
    assert error.next_step == install_command("openvino")
    assert in_one_sentence(error) == (
        f"running an IR needs the package 'no_such_package', which is not installed: {install_command('openvino')}"
    )


def test_a_package_that_every_install_has_needs_no_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "find_spec", lambda name: None)
    error = missing("onnxruntime", None, "running an ONNX file")
    assert type(error) is Unavailable
    assert error.next_step == "pip install vit-export"


def test_nothing_missing_is_nothing_to_say() -> None:
    assert in_one_sentence(None) is None
