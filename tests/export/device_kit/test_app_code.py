"""The code for apps, run: what it names is what the file gives."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from efficientvit.size import ImageSize
from export.device_kit.app_code import APP, write_app
from export.folder.layout import SETTINGS, SHIP, write_json
from runtimes.artifact import Artifact, Format
from runtimes.openvino.package import import_openvino
from runtimes.registry import native_runtime, runtime_for
from runtimes.runtime import Mode
from tests.channel_means import SMALL, network, wrapped
from validation.inputs.pictures import pictures

PHOTOS = tuple(pictures(ImageSize(height=70, width=90))[:2])
NODE_MODULES = "VIT_EXPORT_NODE_MODULES"
"""A folder `node_modules` with onnxruntime-web in it."""


@pytest.fixture(params=["probabilities", "topk:2"])
def answers(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def _exported(folder: Path, file_format: Format, answers: str) -> Artifact:
    """A folder with what ships and the code, and two photos as PPM and PNG."""
    (folder / SHIP).mkdir()
    artifact = wrapped(network(folder, file_format, SMALL, 1), "image", answers, folder / SHIP)
    settings = dict(native_runtime(file_format).shipped_settings(artifact))
    write_json(folder / SHIP / SETTINGS, settings)
    write_app(folder, artifact, settings)
    for index, photo in enumerate(PHOTOS):
        for kind in ("png", "ppm"):
            Image.fromarray(photo.pixels).save(folder / f"{index}.{kind}")
    return artifact


def _right(artifact: Artifact) -> list[list[tuple[int, float]]]:
    found = []
    with runtime_for(artifact.format).open(artifact, Mode.SHIPPED) as session:
        for photo in PHOTOS:
            given = {name: value[0] for name, value in session(photo.pixels[None]).items()}
            if "classes" in given:
                found.append([(int(c), float(s)) for c, s in zip(given["classes"], given["scores"], strict=True)])
            else:
                shares = given["probabilities"]
                found.append([(int(index), float(shares[index])) for index in np.argsort(-shares)])
    return found


def _said(command: list[str | Path], folder: Path, kind: str, **environment: str) -> list[list[tuple[int, float]]]:
    photos = [str(folder / f"{index}.{kind}") for index in range(len(PHOTOS))]
    variables = {**os.environ, **environment}
    done = subprocess.run([*map(str, command), *photos], capture_output=True, text=True, check=False, env=variables)
    assert done.returncode == 0, done.stderr
    lines = [line.split()[1:] for line in done.stdout.splitlines()]
    return [[(int(index), float(score)) for index, score in (each.split(":") for each in line)] for line in lines]


def _same(said: list[list[tuple[int, float]]], right: list[list[tuple[int, float]]]) -> None:
    assert [[index for index, _ in each] for each in said] == [[index for index, _ in each] for each in right]
    np.testing.assert_allclose([s for each in said for _, s in each], [s for each in right for _, s in each], atol=1e-4)


@pytest.mark.parametrize("file_format", [Format.ONNX, Format.OPENVINO])
def test_python(file_format: Format, answers: str, tmp_path: Path) -> None:
    artifact = _exported(tmp_path, file_format, answers)
    _same(_said([sys.executable, tmp_path / APP / "classify.py"], tmp_path, "png"), _right(artifact))


def test_cpp(answers: str, tmp_path: Path) -> None:
    compiler = shutil.which("c++") or shutil.which("g++")
    assert import_openvino().__file__ is not None
    installed = Path(import_openvino().__file__).parent
    libraries = sorted((installed / "libs").glob("libopenvino.so.*"))
    if compiler is None or not (installed / "include/openvino/openvino.hpp").exists() or not libraries:
        pytest.skip("no C++ compiler, or no headers of OpenVINO")
    artifact = _exported(tmp_path, Format.OPENVINO, answers)
    built, source = tmp_path / "classify", tmp_path / APP / "classify.cpp"
    asked = ("-std=c++17", "-Wall", "-Wextra", "-Werror", f"-isystem{installed / 'include'}", source, libraries[0])
    done = subprocess.run(
        [compiler, *map(str, asked), f"-Wl,-rpath,{installed / 'libs'}", "-o", str(built)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    _same(_said([built, tmp_path / SHIP], tmp_path, "ppm"), _right(artifact))


def test_javascript(answers: str, tmp_path: Path) -> None:
    node, modules = shutil.which("node"), os.environ.get(NODE_MODULES)
    if node is None or modules is None:
        pytest.skip(f"no Node, or {NODE_MODULES} does not name a folder with onnxruntime-web")
    artifact = _exported(tmp_path, Format.ONNX, answers)
    (tmp_path / APP / "node_modules").symlink_to(modules)
    _same(_said([node, tmp_path / APP / "classify.mjs"], tmp_path, "ppm"), _right(artifact))


def test_nothing_is_written_for_what_takes_tensors_or_several_photos_or_one_size(tmp_path: Path) -> None:
    plain = network(tmp_path, Format.ONNX, SMALL, 1)
    several = wrapped(network(tmp_path, Format.ONNX, SMALL, 2), "image", "logits", tmp_path)
    of_one_size = wrapped(plain, "image:70x90", "logits", tmp_path)
    for artifact in (plain, several, of_one_size):
        write_app(tmp_path, artifact, {})
        assert not (tmp_path / APP).exists()
