"""Options of Core AI assets, whose flags are Core ML's: one value for both, or for the one that takes it."""

from typing import Any

import pytest

from efficientvit.errors import BadOption
from export.cli.target_options import options_of_targets
from export.request.request import Request
from export.request.target_options import target_options
from export.targets.coreai.options import CoreAiOptions
from export.targets.coreml.options import CoreMlOptions

FLAGS = {param.opts[0]: param for param in options_of_targets()}


def given(*targets: str, **values: Any) -> Any:
    """What the command line makes of these flags."""
    return target_options(values, targets)


def test_a_flag_of_several_targets_is_one_option_with_the_choices_of_all() -> None:
    names = [param.opts[0] for param in options_of_targets()]
    assert len(names) == len(set(names))
    assert list(FLAGS["--ios"].type.choices) == ["15", "16", "17", "18", "27"]  # type: ignore[attr-defined]


def test_a_value_is_for_every_target_that_takes_it() -> None:
    options = given("coreml", "coreai", license="MIT", ios=27)
    assert options == {"coreml": CoreMlOptions(license="MIT"), "coreai": CoreAiOptions(license="MIT", ios=27)}
    assert given("all", ios=16) == {"coreml": CoreMlOptions(ios=16)}
    assert given("coreai", license="MIT") == {"coreai": CoreAiOptions(license="MIT")}


def test_a_value_that_no_target_asked_for_takes_is_refused_by_it() -> None:
    with pytest.raises(BadOption, match="--ios 16 has no Core AI"):
        given("coreai", ios=16)
    with pytest.raises(BadOption, match="--ios 27 is not known"):
        given("coreml", ios=27)


def test_a_flag_without_its_targets_is_refused() -> None:
    with pytest.raises(BadOption, match="add -t coreml"):
        Request(("m0",), ("onnx",), options=given("onnx", license="MIT")).jobs()


@pytest.mark.parametrize(
    ("options", "request_of", "said"),
    [
        ({"labels": "imagenet"}, {"batch": 2}, "takes one image"),
        ({"ane_budget": 2.0}, {}, "budget"),
    ],
)
def test_what_does_not_go_together_is_refused(options: dict[str, Any], request_of: dict[str, Any], said: str) -> None:
    with pytest.raises(BadOption, match=said):
        Request(("m0",), ("coreai",), options={"coreai": CoreAiOptions(**options)}, **request_of)._job(
            "m0", __import__("export.targets.registry").targets.registry.find_target("coreai"), "fp16"
        )


def test_a_folder_is_named_by_what_changes_the_asset() -> None:
    assert CoreAiOptions(labels="none", license="MIT").slug_parts(1) == ["nolabels"]
