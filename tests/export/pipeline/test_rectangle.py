"""A rectangle through every target: grids of 4x6, 2x3 and 1x2, padded windows and windows of one token."""

import json
import re
from typing import Any

import pytest

from tests.export.conftest import INSTALLED

FORMS = {"onnx": "fp32", "openvino": "fp32", "coreml": "fp16", "coreai": "fp16", "tensorrt": "fp16"}
SLUGS = {f"m0-64x96-{target}-{FORMS[target]}-untrained" for target in INSTALLED}


def test_every_target_is_proven_and_verified(exported_rectangle: Any) -> None:
    assert exported_rectangle.ran.code == 0, exported_rectangle.ran.err
    assert {path.name for path in exported_rectangle.out.iterdir()} == SLUGS
    for slug in SLUGS:
        manifest = exported_rectangle.manifest(slug)
        assert manifest["status"] == ("built" if "tensorrt" in slug else "verified")
        judged = [stage["verdict"]["gates"]["identity"] for stage in manifest["stages"] if stage["verdict"]]
        proofs = [gate for gate in judged if gate is not None]
        assert proofs
        assert all(gate["passed"] and "proven" in gate["detail"] for gate in proofs), slug


def test_height_comes_before_width_everywhere(exported_rectangle: Any) -> None:
    for slug in SLUGS:
        manifest = exported_rectangle.manifest(slug)
        assert manifest["model"]["image_size"] == manifest["preprocessing"]["image_size"] == [64, 96]
        assert manifest["preprocessing"]["resize"] == [73, 109]
        assert manifest["model"]["inputs"][0]["shape"] == [1, 3, 64, 96]
        assert "64 × 96 pixels" in (exported_rectangle.out / slug / "report.html").read_text()


@pytest.mark.parametrize(("form", "shape"), [("coreml-fp16", [64, 96, 3]), ("tensorrt-fp16", [1, 3, 64, 96])])
def test_a_kit_has_the_rectangle(form: str, shape: list[int], exported_rectangle: Any) -> None:
    kit = exported_rectangle.out / f"m0-64x96-{form}-untrained" / "kit"
    content = json.loads((kit / "data" / "kit.json").read_text())
    assert (content["input"]["shape"], content["model"]["image_size"]) == (shape, [64, 96])
    assert "96 x 64" in (kit / "README.md").read_text()
    assert not re.findall("@[A-Z_]+@", (kit / "README.md").read_text())
