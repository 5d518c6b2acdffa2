"""`vit-export verify`: the same verdict from a copied folder, and no verdict from one that was tampered with."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from efficientvit.digests import ZEROS
from efficientvit.size import square
from efficientvit.weights.source import find_weights, state_digest
from runtimes.artifact import digest
from tests.references import with_logits
from validation.reference import file

ONNX, IR, COREML = "m0-64-onnx-fp32-untrained", "m0-64-openvino-fp32-untrained", "m0-64-coreml-fp16-untrained"


@pytest.fixture
def copied(exported: Any, tmp_path: Path) -> Path:
    shutil.copytree(exported.out, tmp_path / "copy")
    return tmp_path / "copy"


def _edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _loosen(path: Path) -> None:
    """A floor a million times as high would let anything pass."""
    content = path.read_bytes()
    loosened = re.sub(rb"e-0(\d)", rb"e+0\1", content)
    assert loosened != content
    path.write_bytes(loosened)


@pytest.mark.parametrize(
    ("slug", "code", "status"), [(ONNX, 0, "verified"), (IR, 0, "verified"), (COREML, 0, "verified")]
)
def test_a_copied_folder_gets_the_same_verdict(slug: str, code: int, status: str, copied: Path, command: Any) -> None:
    ran = command("verify", str(copied / slug), "--json")
    assert ran.code == code, ran.err
    found = json.loads(ran.out)
    assert (found["status"], found["recorded"], found["exit_code"], found["trained"]) == (status, status, code, False)
    assert found["evidence"] == ("reference" if slug == COREML else "native")
    assert {name for name, gate in found["gates"].items() if gate and gate["passed"]} >= {"constants", "structure"}
    assert "UNTRAINED" in ran.err


TAMPERED: dict[str, tuple[Callable[[Path], object], int, str]] = {
    "one bit of the artifact": (lambda f: _flip(f / "ship" / "efficientvit_m0.onnx"), 1, "not the file"),
    "the artifact is gone": (lambda f: (f / "ship" / "efficientvit_m0.onnx").unlink(), 1, "missing"),
    "one bit of the golden images": (lambda f: _flip(f / "evidence" / "golden.safetensors"), 2, "golden"),
    "half a reference": (
        lambda f: (f / "evidence" / "reference.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}"),
        2,
        "reference",
    ),
    "a reference with generous floors": (lambda f: _loosen(f / "evidence" / "reference.safetensors"), 1, "reference"),
    "other settings": (lambda f: (f / "ship" / "runtime-settings.json").write_text("{}"), 1, "runtime-settings.json"),
    "no manifest": (lambda f: (f / "manifest.json").unlink(), 2, "manifest.json"),
    "another schema": (lambda f: _edit(f / "manifest.json", lambda m: m.update(schema=99)), 2, "schema"),
    "a manifest cut short": (lambda f: _edit(f / "manifest.json", lambda m: m.pop("stages")), 2, "incomplete"),
    "a field of another kind": (
        lambda f: _edit(f / "manifest.json", lambda m: m["stages"][1].update(operators="many")),
        2,
        "stages[1].operators",
    ),
    "a path out of the folder": (
        lambda f: _edit(f / "manifest.json", lambda m: m.update(artifact="../../elsewhere.onnx")),
        2,
        "outside",
    ),
    "a rejected export": (
        lambda f: _edit(f / "manifest.json", lambda m: m.update(artifact=None, status="rejected")),
        1,
        "nothing that may ship",
    ),
    "another golden set": (
        lambda f: _edit(f / "manifest.json", lambda m: m["golden"].update(sha256="0" * 64)),
        1,
        "golden set",
    ),
}


@pytest.mark.parametrize("what", TAMPERED)
def test_a_tampered_folder_is_refused(
    what: str, copied: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from export.cli.main import main

    spoil, code, says = TAMPERED[what]
    spoil(copied / ONNX)
    monkeypatch.setattr("sys.argv", ["vit-export", "verify", str(copied / ONNX)])
    with pytest.raises(SystemExit) as exit_:
        main()
    message = capfd.readouterr().err
    assert exit_.value.code == code, message
    assert says in message


def test_a_manifest_of_another_artifact_is_refused(copied: Path, command: Any) -> None:
    shutil.copyfile(copied / IR / "manifest.json", copied / ONNX / "manifest.json")
    ran = command("verify", str(copied / ONNX))
    assert ran.code == 1
    assert "missing" in ran.err


def _forge(folder: Path) -> None:
    """A bias lost, and a reference and a manifest that agree with what is left: every digest fits."""
    path = folder / "ship" / "efficientvit_m0.onnx"
    model = onnx.load(path)
    tensor = next(t for t in model.graph.initializer if t.name.endswith("ffn1.branch.project.bias"))
    tensor.CopyFrom(numpy_helper.from_array(np.zeros_like(numpy_helper.to_array(tensor)), tensor.name))
    onnx.save(model, path)
    honest = file.load(folder / "evidence")
    logits = honest.classifier
    wide = replace(
        with_logits(
            honest,
            floors=dict.fromkeys(logits.floors, 1.0),
            structure_floors=dict.fromkeys(logits.structure_floors, 1.0),
        ),
        constants={name: ZEROS if name == tensor.name else value for name, value in honest.constants.items()},
    )
    file.save(wide, folder / "evidence")

    def agree(manifest: dict[str, Any]) -> None:
        manifest["stages"][-1]["artifact"]["sha256"] = digest(path)
        manifest["reference"]["sha256"] = digest(folder / "evidence" / file.REFERENCE)

    _edit(folder / "manifest.json", agree)


def test_a_forged_folder_fools_only_who_does_not_bring_the_weights(copied: Path, command: Any) -> None:
    _forge(copied / ONNX)
    assert command("verify", str(copied / ONNX)).code == 0
    ran = command("verify", str(copied / ONNX), "-w", "seeded", "--json")
    assert ran.code == 1, ran.err
    gates = json.loads(ran.out)["gates"]
    assert not gates["constants"]["passed"]
    assert not gates["structure"]["passed"]


def test_the_weights_confirm_what_is_honest(copied: Path, command: Any) -> None:
    for slug in (ONNX, COREML):
        ran = command("verify", str(copied / slug), "-w", "seeded", "--json")
        assert ran.code == 0, ran.err
        assert json.loads(ran.out)["status"] == "verified"


def test_other_weights_are_refused(copied: Path, command: Any) -> None:
    """Those of another seed, and those of another seed that the manifest was made to claim.

    Where the images that are judged came out the same, the reference beside the file gives it away before the file.
    """
    ran = command("verify", str(copied / ONNX), "-w", "seeded:1")
    assert ran.code == 1
    assert "was not made of these weights" in ran.err
    other = state_digest(find_weights("seeded:1", "m0", square(64)).model)
    _edit(copied / ONNX / "manifest.json", lambda m: m["weights"].update(sha256=other, source="seeded:1"))
    ran = command("verify", str(copied / ONNX), "-w", "seeded:1")
    assert ran.code == 1
    assert re.search("rejected|is not what these weights give", ran.err)


def test_a_quality_budget_is_held_to_without_the_weights_too(
    exported_unsigned: Any, copied: Path, command: Any
) -> None:
    (folder,) = (each for each in exported_unsigned.out.iterdir() if (each / "manifest.json").is_file())
    assert command("verify", str(folder)).code == 0
    tight = command("verify", str(folder), "--quality-budget", "1e-6", "--json")
    assert tight.code == 1, tight.err
    assert json.loads(tight.out)["gates"]["quality"]["budget"] == 1e-6
    uncompressed = command("verify", str(copied / ONNX), "--quality-budget", "0.1")
    assert uncompressed.code == 2
    assert "--quality-budget is for compressed weights" in uncompressed.err


def test_what_another_host_could_not_run_is_verified_where_it_can(copied: Path, command: Any) -> None:
    """As of int8 and bfloat16 on a CPU without units for it: no budget was left open."""

    def not_run(manifest: dict[str, Any]) -> None:
        last = manifest["stages"][-1]["verdict"]
        assert last["undecided"] == []
        manifest["status"] = last["status"] = "not_run"
        last |= {"evidence": None, "reason": "computed in float32", "remedy": "verify it on another CPU"}

    _edit(copied / IR / "manifest.json", not_run)
    ran = command("verify", str(copied / IR), "--json")
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["status"] == "verified"
