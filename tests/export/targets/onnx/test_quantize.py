"""int8 for ONNX Runtime: made, verified, and verified again from the folder."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import jsonschema
import onnx
import pytest

from efficientvit.images.preprocessing import Preprocessing
from efficientvit.size import square
from export.folder.schema import manifest_schema
from export.targets.onnx import quantize
from runtimes.artifact import Artifact
from runtimes.precision import Dtype, Precision
from tests.integer_cpu import needs_exact_int8
from validation.inputs.synthetic import synthetic

pytestmark = needs_exact_int8

ROOT = Path(__file__).parents[4]
FOLDER = "m0-64-onnx-int8-untrained"


@pytest.fixture
def made(exported_unsigned: Any) -> Path:
    assert exported_unsigned.ran.code == 0, exported_unsigned.ran.err
    folder: Path = exported_unsigned.out / FOLDER
    return folder


def _gates(folder: Path) -> dict[str, Any]:
    gates: dict[str, Any] = json.loads((folder / "manifest.json").read_text())["stages"][-1]["verdict"]["gates"]
    return gates


def test_it_passes_every_gate_in_integers(made: Path) -> None:
    manifest = json.loads((made / "manifest.json").read_text())
    schema = manifest_schema()
    jsonschema.Draft202012Validator(schema).validate(manifest)
    assert manifest["precision"]["activations"] == "uint8"
    assert manifest["calibration"] == "golden"
    verdict = manifest["stages"][-1]["verdict"]
    assert (verdict["status"], verdict["evidence"]) == ("verified", "native")
    gates = _gates(made)
    for gate in ("interface", "operators", "constants", "structure", "ranges", "execution", "quality"):
        assert gates[gate]["worst"] <= gates[gate]["budget"], gate
    assert gates["precision"] is None
    assert manifest["settings"]["effective"]["precision"] == "int8"


def test_nothing_between_two_convolutions_is_left_in_float32(made: Path) -> None:
    """But for the averages, and what is between a convolution and its ReLU."""
    model = onnx.load(made / "ship" / "efficientvit_m0.onnx")
    makers = {name: node for node in model.graph.node for name in node.output}
    joined = Counter(
        (makers[node.input[0]].op_type, node.op_type)
        for node in model.graph.node
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear") and node.input[0] in makers
    )
    del joined["Conv", "Relu"], joined["Concat", "Relu"]
    assert {before for before, _ in joined} == {"DequantizeLinear"}
    held = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    weights = {kind for name, kind in held.items() if name.endswith("weight_quantized")}
    assert weights == {onnx.TensorProto.INT8}
    assert not any(name.endswith(".weight") for name in held)


def test_the_folder_and_the_weights_give_the_same_verdict(made: Path, command: Any) -> None:
    assert command("verify", str(made)).code == 0
    assert command("verify", str(made), "-w", "seeded").code == 0


def test_equal_images_give_equal_bytes(made: Path, command: Any, tmp_path: Path) -> None:
    options = ["-w", "seeded", "--image-size", "64", "-p", "int8", "--calibrate", "golden", "--no-time", "--no-cache"]
    assert command("m0", "-t", "onnx", *options, "-o", "again").code == 0
    name = Path("ship") / "efficientvit_m0.onnx"
    assert (tmp_path / "again" / FOLDER / name).read_bytes() == (made / name).read_bytes()


def test_forms_that_share_their_ranges_are_the_same_to_the_byte(float_onnx: Artifact, tmp_path: Path) -> None:
    images, ranges = synthetic(Preprocessing(image_size=square(64))).ordinary().images[:2], tmp_path / "ranges"
    forms = (Dtype.UINT8, Dtype.SYMMETRIC8, Dtype.INT8)
    for activations in forms:
        made = Precision(Dtype.INT8, activations, Dtype.INT8)
        alone, shared = (tmp_path / f"{activations}-{kind}.onnx" for kind in ("alone", "shared"))
        quantize.quantize(float_onnx, alone, images, made)
        quantize.quantize(float_onnx, shared, images, made, ranges)
        assert alone.read_bytes() == shared.read_bytes(), activations
    assert len(list(ranges.iterdir())) == 2  # INT8 watches other tensors
