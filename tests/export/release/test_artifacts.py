"""Which artifacts a recipe asks for, and with what."""

from pathlib import Path

import pytest

from export.release.artifacts import Artifact, artifacts_of
from export.release.matrix import folder_of, run_options
from export.release.recipe import read_recipe
from export.request.keywords import request_of
from export.request.options import ExportOptions
from runtimes.runtime import Evidence
from tests.export.release.recipes import write


def made(folder: Path, text: str) -> dict[str, Artifact]:
    found = artifacts_of(read_recipe(write(folder, text)))
    return {each.name: each for each in found}


def test_models_alone_are_exported_to_the_default(tmp_path: Path) -> None:
    assert list(made(tmp_path, '[models]\nm0 = "seeded"\nm1 = "seeded:2"\n')) == [
        "m0-onnx-fp32-untrained",
        "m1-onnx-fp32-seed2-untrained",
    ]


def test_the_matrix_is_every_combination_but_those_excluded(tmp_path: Path) -> None:
    found = made(
        tmp_path,
        """
        [options]
        weights = "seeded"
        image-size = 64
        [matrix]
        model = ["m0", "m1"]
        target = ["onnx", "openvino"]
        precision = ["fp32", "fp16"]
        [[exclude]]
        model = "m1"
        precision = ["fp16", "int8"]
        """,
    )
    assert list(found) == [
        "m0-64-onnx-fp32-untrained",
        "m0-64-onnx-fp16-untrained",
        "m0-64-openvino-fp32-untrained",
        "m0-64-openvino-fp16-untrained",
        "m1-64-onnx-fp32-untrained",
        "m1-64-openvino-fp32-untrained",
    ]


def test_later_tables_count(tmp_path: Path) -> None:
    found = made(
        tmp_path,
        """
        [options]
        require = "reference"
        no-time = true
        [models]
        m0 = { weights = "seeded", image-size = 96 }
        [matrix]
        target = ["onnx", "openvino"]
        [[override]]
        match = { target = "openvino" }
        image-size = 128
        require = "native"
        [[override]]
        match = { image-size = 128 }
        no-time = false
        [[artifact]]
        model = "m0"
        precision = "fp16"
        image-size = 64
        """,
    )
    asked = {
        name: (str(each.request.image_size), each.request.require, each.request.time) for name, each in found.items()
    }
    assert asked == {
        "m0-96-onnx-fp32-untrained": ("96", Evidence.REFERENCE, False),
        "m0-128-openvino-fp32-untrained": ("128", Evidence.NATIVE, True),
        "m0-64-onnx-fp16-untrained": ("64", Evidence.REFERENCE, False),
    }


def test_a_shared_option_is_for_those_that_it_applies_to(tmp_path: Path) -> None:
    (tmp_path / "labeled").mkdir()
    found = made(
        tmp_path,
        """
        [options]
        weights = "seeded"
        calibrate = "golden"
        reduce-range = true
        quality-budget = 0.5
        ios = 27
        eval = "labeled"
        [matrix]
        model = ["m0"]
        target = ["onnx", "coreml", "coreai"]
        [[override]]
        match = { target = "coreml" }
        ios = 16
        weights-bits = 8
        [[artifact]]
        model = "m0"
        target = "onnx"
        precision = "int8"
        [[artifact]]
        model = "m0"
        target = "onnx"
        head = "embedding"
        """,
    )
    requests = {name: each.request for name, each in found.items()}
    float32 = requests["m0-onnx-fp32-untrained"]
    assert (float32.calibrate, float32.int8.reduce_range, float32.budgets.quality) == (None, False, None)
    assert float32.evaluation is not None
    assert float32.options == {}
    packed = requests["m0-coreml-fp16-int8-ios16-untrained"]
    assert (packed.calibrate, packed.budgets.quality) == (None, 0.5)
    assert "m0-coreai-fp16-untrained" in requests
    int8 = requests["m0-onnx-int8-reduced-untrained"]
    assert (int8.calibrate, int8.int8.reduce_range, int8.budgets.quality) == ("golden", True, 0.5)
    assert requests["m0-embedding-onnx-fp32-untrained"].evaluation is None


def test_a_target_may_have_no_such_option_but_of_its_own(tmp_path: Path) -> None:
    """Core ML has no int8; an override says what to make instead."""
    found = made(
        tmp_path,
        """
        [options]
        calibrate = "golden"
        [models]
        m0 = "seeded"
        [matrix]
        target = ["onnx", "coreml"]
        precision = ["int8"]
        [[override]]
        match = { target = "coreml", precision = "int8" }
        precision = "fp16"
        weights-bits = 8
        ios = 16
        """,
    )
    assert list(found) == ["m0-onnx-int8-untrained", "m0-coreml-fp16-int8-ios16-untrained"]


def test_files_are_seen_from_the_recipes_folder(tmp_path: Path) -> None:
    (tmp_path / "m0.pth").touch()
    (tmp_path / "photos").mkdir()
    found = made(tmp_path, '[options]\ngolden = "photos"\n[models]\nm0 = "m0.pth"\n')
    (each,) = found.values()
    assert (each.request.weights, each.request.golden) == (str(tmp_path / "m0.pth"), tmp_path / "photos")
    assert each.name == "m0-onnx-fp32-m0"


def test_the_folder_is_the_releases(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        '[options]\nout = "dist"\njobs = 2\nno-cache = true\n[models]\nm0 = { weights = "seeded", out = "a" }\n',
    )
    recipe = read_recipe(path)
    assert folder_of(recipe) == tmp_path / "dist"
    assert run_options(recipe) == {"jobs": 2, "no_cache": True}
    (each,) = artifacts_of(recipe)
    assert each.request.out == tmp_path / "dist" / "a"
    (each,) = artifacts_of(recipe, Path("elsewhere"))
    assert each.request.out == Path("elsewhere/a")


def test_the_command_that_makes_one_alone_asks_for_the_same(tmp_path: Path) -> None:
    from export.cli.main import cli

    found = made(
        tmp_path,
        '[models]\nm0 = { weights = "seeded", image-size = "64x96", mean = [0.1, 0.2, 0.3] }\n'
        '[matrix]\ntarget = ["coreml", "tensorrt"]\n[options]\nios = 16\nsm = [89, 120]\nno-time = true\n',
    )
    command = cli.commands["export"]
    for each in found.values():
        typed = dict(command.make_context("export", list(each.command)).params)
        for name in set(typed) - set(ExportOptions.__annotations__) - {"models"}:
            typed.pop(name)
        assert request_of(typed.pop("models"), typed) == each.request


@pytest.mark.parametrize("target", ["onnx", "coreml"])
def test_a_cell_with_no_more_than_a_model_is_made(target: str, tmp_path: Path) -> None:
    text = f'[options]\ntarget = "{target}"\nweights = "seeded"\n[matrix]\nmodel = ["m0"]\n'
    assert [each.job.target.name for each in made(tmp_path, text).values()] == [target]
