"""A recipe that cannot be used is refused with the key, its line and the way on; its schema says the same."""

import json
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from export.cli.main import cli
from export.exits import Exit, exit_code
from export.release.artifacts import artifacts_of
from export.release.options import fields, key
from export.release.recipe import BadRecipe, read_recipe, recipe_schema
from export.request.options import RunOptions
from tests.export.release.recipes import HEAD, write

ROOT = Path(__file__).parents[3]

NOT_IN_A_RECIPE = {"json", "summary", "help", "cluster", "cluster-wait", "tls-ca", "tls-cert", "tls-key"}
"""How a result is shown, and on which machines it is made: of the run, and not of the release."""

REFUSED: dict[str, tuple[str, str, str]] = {
    # what the file holds after its head (lines 1 and 2), what is said of it, and the way on
    "no TOML": ("[options\n", "line 3: this is no TOML", "tomllib says"),
    "a misspelled option": ('[matrix]\nprecison = ["fp32"]\n', "line 4 (matrix.precison): unknown", "write precision"),
    "an underscore": ("[options]\nimage_size = 64\n", "line 4 (options.image_size): unknown key", "write image-size"),
    "an option at the top": ("image-size = 64\n", "line 3 (image-size): unknown key", "belongs into [options]"),
    "an unknown table": ("[matrices]\n", "line 3 (matrices): unknown key", "write matrix"),
    "an unknown model": ('[models]\nm7 = "seeded"\n', "line 4 (models.m7): unknown key", "one of: m0, m1"),
    "an option of a model": ("[models]\nm0 = { wieghts = 1 }\n", "line 4 (models.m0.wieghts): unknown key", "weights"),
    "a match of nothing": (
        '[[override]]\nmatch = { targt = "onnx" }\n', "line 4 (override[0].match.targt): unknown key", "write target",
    ),
    "an override without a match": ("[[override]]\nios = 16\n", "(override[0]): a value that cannot", "schema recipe"),
    "a list for one": ('[options]\ntarget = ["onnx"]\n', "line 4 (options.target): one artifact has", "into [matrix]"),
    "one for a list": ('[matrix]\ntarget = "onnx"\n', "line 4 (matrix.target): a value that cannot", "schema recipe"),
    "an empty list": ("[matrix]\ntarget = []\n", "line 4 (matrix.target): a value that cannot", "schema recipe"),
    "a text for a number": ('[options]\nsize-budget = "8"\n', "line 4 (options.size-budget): a value", "schema recipe"),
    "a choice that is none": ("[options]\nios = 3\n", "line 4 (options.ios): a value that cannot", "schema recipe"),
    "two means": ("[options]\nmean = [0.5, 0.5]\n", "line 4 (options.mean): a value that cannot", "schema recipe"),
    "nothing to make": ("", "there is nothing to make", "[models]"),
    "an unknown target": (
        '[models]\nm0 = "seeded"\n[matrix]\ntarget = ["onnx", "tflite"]\n',
        "line 6 (matrix.target[1]): m0 tflite: unknown target 'tflite'", "name one of them",
    ),
    "a precision that a target lacks": (
        '[models]\nm0 = "seeded"\n[matrix]\ntarget = ["coreml"]\nprecision = ["int8"]\n',
        "line 7 (matrix.precision[0]): m0 coreml int8: target 'coreml' cannot be made in int8", "leave -p out",
    ),
    "an option out of range": (
        '[models]\nm0 = "seeded"\n[options]\nopset = 99\n', "line 6 (options.opset): m0 onnx fp32", "",
    ),
    "two that exclude each other": (
        '[options]\neval = "."\n[[artifact]]\nmodel = "m0"\nhead = "features"\ntarget = "onnx"\naccuracy-budget = 1\n',
        "line 9 (artifact[0].accuracy-budget): m0 onnx fp32: --accuracy-budget is for labeled images", "",
    ),
    "a file that is not there": (
        '[models]\nm0 = "gone.pth"\n', "line 4 (models.m0): --weights names nothing that is there", "recipe's folder",
    ),
    "a folder that is not there": (
        '[models]\nm0 = "seeded"\n[options]\ngolden = "photos"\n', "line 6 (options.golden): --golden names", "folder",
    ),
    "int8 without photos": (
        '[models]\nm0 = "seeded"\n[matrix]\nprecision = ["int8"]\n', "int8 has to be calibrated", "--calibrate",
    ),
    "one artifact twice": (
        '[models]\nm0 = "seeded"\n[[artifact]]\nmodel = "m0"\n[[artifact]]\nmodel = "m0"\n',
        "line 7 (artifact[1]): two artifacts have the folder releases/demo-1.0/m0-onnx-fp32-untrained", "out =",
    ),
    "an option that nothing uses": (
        '[models]\nm0 = "seeded"\n[options]\nios = 16\n', "line 6 (options.ios): no artifact of the recipe uses", "",
    ),
    "an option that everything overrides": (
        '[models]\nm0 = "seeded"\n[options]\nbatch = 2\n[matrix]\nbatch = [1, 4]\n', "(options.batch): no artifact", "",
    ),
    "a model that nothing uses": (
        '[models]\nm0 = "seeded"\nm1 = "seeded"\n[matrix]\nmodel = ["m0"]\n', "line 5 (models.m1): no artifact", "",
    ),
    "an override that matches nothing": (
        '[models]\nm0 = "seeded"\n[[override]]\nmatch = { target = "coreml" }\nios = 16\n',
        "line 5 (override[0]): no artifact", "",
    ),
    "an exclusion that matches nothing": (
        '[models]\nm0 = "seeded"\n[[exclude]]\ntarget = "coreml"\n', "line 5 (exclude[0]): no artifact", "",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_it_is_refused_with_the_line(what: str, tmp_path: Path) -> None:
    text, said, way_on = REFUSED[what]
    path = write(tmp_path, text)
    with pytest.raises(BadRecipe) as refused:
        artifacts_of(read_recipe(path))
    assert said in refused.value.what, refused.value
    assert way_on in str(refused.value.next_step)
    assert exit_code(refused.value) is Exit.BAD_INPUT
    if "line " in refused.value.what:
        number = int(refused.value.what.partition("line ")[2].partition(" ")[0].rstrip(":"))
        assert path.read_text().splitlines()[number - 1].strip() in str(refused.value.got)


@pytest.mark.parametrize(
    ("head", "said"),
    [
        ('name = "demo"\n', "a field 'version'"),
        ('name = "../demo"\nversion = "1"\n', "name"),
        ('name = "demo"\nversion = 1.0\n', "version"),
    ],
)
def test_a_release_has_a_name_and_a_version(head: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(BadRecipe) as refused:
        read_recipe(write(tmp_path, "", head))
    assert said in f"{refused.value.what} {refused.value.expected}"


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadRecipe, match="cannot read the recipe"):
        read_recipe(tmp_path / "gone.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(BadRecipe) as refused:
        read_recipe(tmp_path / "bytes.toml")
    assert refused.value.got == "not UTF-8"


def test_a_recipe_can_ask_for_all_that_the_command_line_can() -> None:
    command = cli.commands["export"]
    typed = {
        option.removeprefix("--")
        for param in command.get_params(command.make_context("export", ["m0"]))
        for option in param.opts
        if option.startswith("--")
    }
    assert {key(name) for name in (*fields(), *RunOptions.__annotations__)} == typed - NOT_IN_A_RECIPE


def _documented() -> list[str]:
    text = (ROOT / "docs/release.md").read_text(encoding="utf-8")
    return [block.partition("```")[0] for block in text.split("```toml\n")[1:]]


def test_the_schema_takes_what_the_documentation_shows(command: Any) -> None:
    schema = json.loads(command("schema", "recipe").out)
    assert schema == json.loads(json.dumps(recipe_schema()))
    validator = jsonschema.Draft202012Validator(schema)
    validator.check_schema(schema)
    assert len(_documented()) == 2
    for text in _documented():
        assert list(validator.iter_errors(tomllib.loads(text))) == []
    assert schema["$defs"]["Options"]["properties"]["image-size"]["description"].startswith("Size of the input")


@pytest.mark.parametrize(
    "what", [name for name, (_, said, _) in REFUSED.items() if "unknown key" in said or "a value that" in said]
)
def test_the_schema_refuses_what_the_reader_does(what: str) -> None:
    document = tomllib.loads(HEAD + REFUSED[what][0])
    assert list(jsonschema.Draft202012Validator(recipe_schema()).iter_errors(document))
