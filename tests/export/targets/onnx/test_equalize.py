"""The factors that calibration asks for, and the float32 file with them: every tensor there, nothing else changed."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from efficientvit.deploy.equalization import factors, groups
from efficientvit.deploy.rewrites import to_deploy
from efficientvit.size import square
from efficientvit.spec import model_spec
from efficientvit.weights.seeded import seeded
from export.targets.onnx.equalize import chosen
from tests.integer_cpu import needs_exact_int8

IMAGES = np.random.default_rng(0).normal(size=(4, 3, 64, 64)).astype(np.float32)


def test_a_channel_below_the_largest_is_scaled_up_and_none_is_beyond_it() -> None:
    deploy = to_deploy(seeded(model_spec("m0", square(64))))
    found = dict(chosen(deploy, IMAGES))
    for group in groups(deploy):
        assert len(found[group.name]) == group.width
    before, after = (
        deploy.get_submodule("stem.conv1")(torch.tensor(IMAGES)).relu(),
        factors(found["stem.conv1"]).reshape(1, -1, 1, 1),
    )
    peaks = before.amax((0, 2, 3)).double()
    scaled = (before.double() * after).amax((0, 2, 3))
    assert scaled.argmax() == peaks.argmax(), "the largest channel keeps the range"
    assert scaled.max() / scaled.median() < peaks.max() / peaks.median()


def test_a_channel_that_is_never_reached_is_no_number_of_its_own() -> None:
    deploy = to_deploy(seeded(model_spec("m0", square(64))))
    conv = deploy.get_submodule("stem.conv1")
    with torch.no_grad():
        conv.get_parameter("weight").zero_()
        conv.get_parameter("bias").zero_()
    assert dict(chosen(deploy, IMAGES))["stem.conv1"] == "9" * 8


@pytest.fixture
def manifest(exported_unsigned: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((exported_unsigned.out / "m0-64-onnx-int8-untrained/manifest.json").read_text())
    return found


@needs_exact_int8
def test_the_file_holds_the_deploy_forms_constants_with_the_factors(
    exported_unsigned: Any, manifest: dict[str, Any]
) -> None:
    file: Path = exported_unsigned.out / "m0-64-onnx-int8-untrained" / "ship" / "efficientvit_m0.onnx"
    held = {each.name: onnx.numpy_helper.to_array(each) for each in onnx.load(file).graph.initializer}
    digits = manifest["precision"]["equalization"]["stem.conv1"]
    plain = to_deploy(seeded(model_spec("m0", square(64)))).get_parameter("stem.conv1.bias").detach().numpy()
    scaled = plain.astype(np.float64) * factors(digits).numpy()
    np.testing.assert_allclose(held["stem.conv1.bias"], scaled, rtol=3e-7)
    assert {*digits} > {"4"}


@needs_exact_int8
def test_weights_tell_factors_that_are_no_digits(exported_unsigned: Any, command: Any, tmp_path: Path) -> None:
    """Of a manifest that was changed: the reference lies beside it with the right ones."""
    import shutil

    folder = tmp_path / "changed"
    shutil.copytree(exported_unsigned.out / "m0-64-onnx-int8-untrained", folder)
    record = json.loads((folder / "manifest.json").read_text())
    digits = record["precision"]["equalization"]["stem.conv1"]
    record["precision"]["equalization"]["stem.conv1"] = digits[::-1]
    (folder / "manifest.json").write_text(json.dumps(record))
    assert command("verify", str(folder), "-w", "seeded").code != 0
