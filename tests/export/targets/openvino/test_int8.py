"""An int8 IR: made, verified, attested, and verified again from the folder."""

import json
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from efficientvit.spec import model_spec
from export.folder.schema import manifest_schema
from export.selftest.faults.openvino.quantized import fault
from runtimes.evaluator.evaluator import Arithmetic, Evaluator
from runtimes.openvino.operators import OPENVINO
from runtimes.openvino.package import import_openvino
from runtimes.openvino.program import read_program
from tests.integer_cpu import needs_exact_int8

pytestmark = needs_exact_int8

ROOT = Path(__file__).parents[4]
FOLDER = "m0-96-openvino-int8-untrained"


@pytest.fixture
def made(exported_int8_ir: Any) -> Path:
    assert exported_int8_ir.ran.code == 0, exported_int8_ir.ran.err
    folder: Path = exported_int8_ir.out / FOLDER
    return folder


@pytest.fixture
def copied(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "copied" / FOLDER))


def _manifest(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    return content


def test_it_passes_every_gate_in_integers(made: Path) -> None:
    manifest = _manifest(made)
    schema = manifest_schema()
    jsonschema.Draft202012Validator(schema).validate(manifest)
    spent = {"weights": "int8", "activations": "symmetric8", "execution": "int8", "float_layers": []}
    equalization = manifest["precision"].pop("equalization")
    assert manifest["precision"] == spent
    assert "stem.conv1" in equalization
    assert [stage["name"] for stage in manifest["stages"]] == [
        "rewrite",
        "trace",
        "simplify",
        "equalize",
        "quantize",
        "openvino",
    ]
    verdict = manifest["stages"][-1]["verdict"]
    assert (verdict["status"], verdict["evidence"]) == ("verified", "native")
    gates = verdict["gates"]
    for gate in ("interface", "operators", "constants", "structure", "ranges", "execution", "quality"):
        assert gates[gate]["worst"] <= gates[gate]["budget"], gate
    assert gates["precision"] is None


def test_the_arithmetic_is_asked_for_and_attested(made: Path) -> None:
    settings = json.loads((made / "ship" / "runtime-settings.json").read_text())
    assert settings["INFERENCE_PRECISION_HINT"] == "f32"
    effective = _manifest(made)["settings"]["effective"]
    assert effective["precision"] == "int8"
    assert effective["settings"]["INFERENCE_PRECISION_HINT"] == "f32"
    assert effective["settings"]["kernels"].lower().count("_i8") >= 2
    assert effective["settings"]["kernels in floats"] == "none"


def test_no_quantizer_has_a_zero_point_and_attention_biases_are_floats(made: Path) -> None:
    model = import_openvino().Core().read_model(made / "ship" / "efficientvit_m0.xml")
    kinds = {op.get_type_name() for op in model.get_ops()}
    assert "Subtract" not in kinds
    softmaxes = [op for op in model.get_ops() if op.get_type_name() == "Softmax"]
    assert len(softmaxes) == sum(model_spec("m0").heads)  # a block a stage
    for softmax in softmaxes:
        addend = softmax.input_value(0).get_node().input_value(1).get_node()
        assert (addend.get_type_name(), addend.get_element_type().to_dtype()) == ("Constant", np.float32)


def test_the_folder_and_the_weights_give_the_same_verdict(made: Path, command: Any) -> None:
    assert command("verify", str(made)).code == 0
    assert command("verify", str(made), "-w", "seeded").code == 0


def test_a_range_that_was_changed_afterwards_is_not_timed_nor_passed(copied: Path, command: Any) -> None:
    (range_by_an_ulp,) = (each for each in fault if each.name == "range_by_an_ulp")
    with range_by_an_ulp.planted(copied / "ship" / "efficientvit_m0.xml", np.random.default_rng(0)):
        pass
    done = command("verify", str(copied))
    assert done.code != 0
    assert "sha256" in done.err


def test_explain_and_diff_take_the_folder(made: Path, command: Any) -> None:
    explained = command("explain", str(made), "--json")
    assert explained.code == 0
    assert len(json.loads(explained.out)["layers"]) > 60
    same = command("diff", str(made), str(made), "--no-time")
    assert same.code == 0, same.err


def test_its_program_computes_what_openvino_computes_in_floats(made: Path) -> None:
    """But for values between two steps: float32's noise rounds them either way, and one early step moves all after it.

    An operator with another meaning would be off on every image.
    """
    model = import_openvino().Core().read_model(made / "ship" / "efficientvit_m0.xml")
    program = read_program(model)
    evaluator = Evaluator(program, Arithmetic.FLOAT32, OPENVINO)
    without = {"INFERENCE_PRECISION_HINT": "f32", "LP_TRANSFORMS_MODE": "NO"}
    compiled = import_openvino().Core().compile_model(model, "CPU", without)
    apart = []
    for images in np.random.default_rng(0).standard_normal((8, 1, 3, 96, 96), dtype=np.float32):
        got = evaluator(dict.fromkeys(program.inputs, images))[program.outputs[0]].numpy()
        wanted = compiled(images)[0]
        apart.append(float(np.linalg.norm(got - wanted) / np.linalg.norm(wanted)))
    assert min(apart) < 0.03, apart
