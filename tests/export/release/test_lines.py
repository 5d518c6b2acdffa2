"""Every key of a recipe is found at its line."""

import pytest

from export.release.lines import Place, line_of, written

TEXT = """\
# a comment = no key
name = "x"

[options]
image-size = 64
"quoted" = 1
mean.red = 2

[models.m2]
weights = "a" # trailing

[[override]]
match = { target = "coreml" }
ios = 16

[[override]] # the second
ios = 17
[override.match]
target = "coreai"

[[artifact]]
model = "m0"
"""


@pytest.mark.parametrize(
    ("place", "number", "text"),
    [
        (("name",), 2, 'name = "x"'),
        (("options",), 4, "[options]"),
        (("options", "image-size"), 5, "image-size = 64"),
        (("options", "quoted"), 6, '"quoted" = 1'),
        (("options", "mean", "red"), 7, "mean.red = 2"),
        (("options", "gone"), 4, "[options]"),
        (("models", "m2", "weights"), 10, 'weights = "a" # trailing'),
        (("override", 0, "match", "target"), 13, 'match = { target = "coreml" }'),
        (("override", 0, "ios"), 14, "ios = 16"),
        (("override", 1), 16, "[[override]] # the second"),
        (("override", 1, "ios"), 17, "ios = 17"),
        (("override", 1, "match", "target"), 19, 'target = "coreai"'),
        (("artifact", 0, "model"), 22, 'model = "m0"'),
    ],
)
def test_a_key_is_found(place: Place, number: int, text: str) -> None:
    line = line_of(TEXT, place)
    assert line is not None
    assert (line.number, line.text) == (number, text)


def test_what_is_nowhere_has_no_line() -> None:
    assert line_of(TEXT, ("matrix", "target")) is None
    assert line_of(TEXT, ()) is None


def test_a_place_is_written_as_a_path() -> None:
    assert written(("override", 0, "match", "target")) == "override[0].match.target"
