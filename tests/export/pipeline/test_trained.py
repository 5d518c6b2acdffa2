"""int8 on weights that were trained, where quality means something: what it costs in accuracy and agreement."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from benchmarks.patches import PHOTOGRAPHS, bands, evaluation_patches, photographs
from benchmarks.train import accuracy, evaluation_set
from efficientvit.weights.checkpoint import load_checkpoint
from runtimes.artifact import Artifact, Format
from runtimes.onnx.runtime import OnnxRuntime
from runtimes.precision import Dtype, Precision
from runtimes.runtime import Mode
from tests.integer_cpu import needs_exact_int8

pytestmark = pytest.mark.published_m0

CHECKPOINT = Path(__file__).parents[2] / "data" / "m0-patches.safetensors"
Logits = NDArray[np.float32]


def test_no_pixel_is_in_both_splits() -> None:
    for photo in photographs().values():
        height = photo.shape[0]
        split = {
            k: {row for first, last in bands(height, evaluation=k) for row in range(first, last)} for k in (False, True)
        }
        assert split[False]
        assert split[True]
        assert split[False].isdisjoint(split[True])


def test_the_checkpoint_has_the_accuracy_that_it_says() -> None:
    loaded = load_checkpoint(CHECKPOINT, "m0")
    images, labels = evaluation_set(10)
    assert loaded.model.spec.classes == len(PHOTOGRAPHS)
    assert accuracy(loaded.model, images, labels) == pytest.approx(0.68, abs=0.06)  # 140 of the 700 patches


@needs_exact_int8
def test_int8_costs_little(command: Any, tmp_path: Path) -> None:
    """On 140 patches; docs/numerics.md has the figures of all 700."""
    from PIL import Image

    calibration = tmp_path / "calibration"
    calibration.mkdir()
    for index, (_, patch) in enumerate(evaluation_patches(3, evaluation=False)):
        Image.fromarray(patch).save(calibration / f"{index:03}.png")
    for index, (name, patch) in enumerate(evaluation_patches(10)):
        (tmp_path / "eval" / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(patch).save(tmp_path / "eval" / name / f"{index:03}.png")
    options = ["-w", str(CHECKPOINT), "-t", "onnx", "--no-time", "--calibrate", str(calibration), "-o", "out"]
    options += ["--eval", str(tmp_path / "eval")]
    ran = command("m0", *options, "-p", "int8")
    assert ran.code == 0, ran.err
    (path,) = (tmp_path / "out").glob("*/ship/*.onnx")
    loaded = load_checkpoint(CHECKPOINT, "m0")
    images, labels = evaluation_set(10)
    precision = Precision(Dtype.INT8, Dtype.UINT8, Dtype.INT8)
    artifact = Artifact.on_disk(path, Format.ONNX, loaded.model.spec, made_by="quantize", precision=precision)
    with OnnxRuntime().open(artifact, Mode.SHIPPED) as session, torch.no_grad():
        integers: Logits = np.concatenate([session(image[None])["logits"] for image in images.numpy()])
        floats: Logits = np.concatenate([loaded.model(part).numpy() for part in images.split(40)])
    right = labels.numpy()
    lost = float((floats.argmax(1) == right).mean() - (integers.argmax(1) == right).mean())
    agreement = float((floats.argmax(1) == integers.argmax(1)).mean())
    assert lost <= 0.02
    assert agreement >= 0.95
    # The same images through `--eval`, whose folders are classes in sorted order.
    found = json.loads((path.parents[1] / "manifest.json").read_text())["accuracy"]
    assert found["matched_by"] == "sorted order of the folders"
    assert found["reference"]["top1"] == pytest.approx((floats.argmax(1) == right).mean())
    assert found["artifact"]["top1"] == pytest.approx((integers.argmax(1) == right).mean())
    assert found["agree"] == (floats.argmax(1) == integers.argmax(1)).sum()
