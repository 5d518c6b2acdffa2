"""What people see is what was meant: no square bracket taken for markup."""

import dataclasses

import pytest

from efficientvit.size import square
from efficientvit.spec import model_spec
from efficientvit.weights.source import Weights
from export.cli import console, tables
from export.commands.doctor import examine


def test_a_remedy_can_be_copied(capfd: pytest.CaptureFixture[str]) -> None:
    host, abilities = examine()
    missing = [dataclasses.replace(abilities[0], remedy="pip install 'vit-export[openvino]'")]
    with console.console() as screen:
        tables.show_host(screen, host, missing)
    assert "pip install 'vit-export[openvino]'" in capfd.readouterr().err


def test_a_file_s_name_is_shown_as_it_is(capfd: pytest.CaptureFixture[str]) -> None:
    from efficientvit.model import build

    name = "run[best].pth"
    weights = Weights(
        build(model_spec("m0", square(64))), name, "0" * 64, trained=False, suffix="", notes=("from [/tmp/x]",)
    )
    with console.console() as screen:
        console.Live(screen).weights(weights.about)
    shown = capfd.readouterr().err
    assert f"weights: {name}" in shown
    assert "from [/tmp/x]" in shown
    assert console.BANNER in shown
