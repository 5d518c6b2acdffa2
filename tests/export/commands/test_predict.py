"""`vit-export predict`: the classes of a photograph, by whatever this host has for the artifact."""

import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from efficientvit.images.labels import imagenet
from efficientvit.images.preprocessing import Preprocessing, load_rgb, to_tensor
from efficientvit.size import square
from efficientvit.spec import model_spec
from efficientvit.weights.seeded import seeded
from runtimes.coreml.evaluated import MilEvaluator
from runtimes.onnx.runtime import OnnxRuntime

ONNX, IR, COREML = "m0-64-onnx-fp32-untrained", "m0-64-openvino-fp32-untrained", "m0-64-coreml-fp16-untrained"
RUNTIMES = {ONNX: ("onnxruntime", "native"), IR: ("openvino", "native"), COREML: ("mil", "reference")}

Predict = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cat(tmp_path: Path) -> Path:
    """A photograph of one as a JPEG."""
    spec = importlib.util.find_spec("skimage")
    assert spec is not None
    assert spec.origin is not None
    with Image.open(Path(spec.origin).parent / "data" / "chelsea.png") as image:
        image.convert("RGB").save(tmp_path / "cat.jpg", quality=90)
    return tmp_path / "cat.jpg"


@pytest.fixture
def predict(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Predict:
    """`vit-export predict ARGUMENTS` in this process: exit code, standard output, standard error."""
    from export.cli.main import main

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["vit-export", "predict", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(str(stop.code))
        captured = capfd.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def right(cat: Path) -> list[tuple[str, float]]:
    """What the trained form says in float64: labels and probabilities, best first."""
    image = torch.tensor(to_tensor(load_rgb(cat, Preprocessing()), Preprocessing(image_size=square(64))))
    with torch.inference_mode():
        probabilities = seeded(model_spec("m0", square(64))).double()(image[None].double()).softmax(1)[0].numpy()
    labels = imagenet()
    return [(labels[i], float(probabilities[i])) for i in np.argsort(-probabilities)]


@pytest.mark.parametrize("slug", RUNTIMES)
def test_every_artifact_sees_what_the_trained_model_sees(
    slug: str, exported: Any, cat: Path, predict: Predict, right: list[tuple[str, float]]
) -> None:
    """The artifacts take three forms of input, and give two of answer; the five classes are the same ones."""
    code, out, _ = predict(exported.out / slug, cat, "--json")
    assert code == 0
    found = json.loads(out)
    assert (found["runtime"], found["evidence"]) == RUNTIMES[slug]
    assert found["trained"] is json.loads((exported.out / slug / "manifest.json").read_text())["weights"]["trained"]
    (prediction,) = found["predictions"]
    assert prediction["photo"] == str(cat)
    top = [(entry["label"], entry["probability"]) for entry in prediction["top"]]
    assert len(top) == 5
    assert top[0][0] == right[0][0]
    expected = dict(right)
    tolerance = 1e-5 if slug != COREML else 1e-3
    assert all(share == pytest.approx(expected[label], abs=tolerance) for label, share in top)
    assert [share for _, share in top] == sorted((share for _, share in top), reverse=True)


def test_a_person_is_shown_shares_and_that_core_ml_did_not_give_them(
    exported: Any, cat: Path, command_process: Any, right: list[tuple[str, float]]
) -> None:
    """From a process of its own: nothing but our own lines, whatever a library has to say when it is imported."""
    ran = command_process("predict", str(exported.out / COREML / "ship" / "efficientvit_m0.mlpackage"), str(cat))
    assert ran.code == 0, ran.err
    photo, *lines = ran.out.splitlines()
    assert photo == str(cat)
    assert len(lines) == 5
    share, label = lines[0].split(maxsplit=1)
    assert label == right[0][0]
    assert float(share.removesuffix("%")) == pytest.approx(100 * right[0][1], abs=0.1)
    said, banner = ran.err.splitlines()
    assert "its program evaluated here, for want of the real runtime" in said
    assert "UNTRAINED WEIGHTS" in banner


def test_several_photos_come_in_the_order_they_were_given(exported: Any, cat: Path, predict: Predict) -> None:
    other = cat.with_name("a-shore.png")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (80, 100, 3), dtype=np.uint8)).save(other)
    code, out, err = predict(exported.out / ONNX, other, cat)
    assert code == 0
    assert [line for line in out.splitlines() if not line.startswith(" ")] == [str(other), str(cat)]
    assert "efficientvit_m0.onnx in onnxruntime" in err


@pytest.mark.parametrize("content", [None, b"no image", b"\xff\xd8\xff\xe0 cut off"])
@pytest.mark.parametrize(("slug", "runtime"), [(ONNX, OnnxRuntime), (COREML, MilEvaluator)])
def test_a_broken_photo_is_told_before_anything_is_run(
    slug: str,
    runtime: type,
    content: bytes | None,
    exported: Any,
    cat: Path,
    predict: Predict,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def opened(*_: object, **__: object) -> None:
        pytest.fail("the artifact was opened")

    monkeypatch.setattr(runtime, "open", opened)
    broken = cat.with_name("broken.jpg")
    if content is not None:
        broken.write_bytes(content)
    code, out, err = predict(exported.out / slug, cat, broken)
    assert (code, out) == (2, "")
    assert "broken.jpg" in err


def _append(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"\0")


def _other_label(file: Path) -> None:
    file.write_text(file.read_text().replace("tabby", "the neighbors' cat"))


@pytest.mark.parametrize(
    ("slug", "file", "edit"),
    [
        (ONNX, "efficientvit_m0.onnx", _append),
        (IR, "efficientvit_m0.bin", _append),
        (COREML, "efficientvit_m0.mlpackage/Data/com.apple.CoreML/weights/weight.bin", _append),
        (COREML, "labels.txt", _other_label),
    ],
)
def test_an_edited_artifact_is_refused(
    slug: str, file: str, edit: Callable[[Path], None], exported: Any, cat: Path, predict: Predict, tmp_path: Path
) -> None:
    folder = shutil.copytree(exported.out / slug, tmp_path / "copy")
    edit(folder / "ship" / file)
    code, out, err = predict(folder, cat)
    assert (code, out) == (1, "")
    assert "is not the" in err
    assert "export" in err.split("next:")[1]


def test_what_no_export_made_is_refused(cat: Path, predict: Predict, tmp_path: Path) -> None:
    for path in (tmp_path / "nothing", cat.parent):
        code, out, err = predict(path, cat)
        assert (code, out) == (2, "")
        assert "not a folder that an export made" in err
