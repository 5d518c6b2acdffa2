"""That nothing was proven of a file, where its format's reader has no program, is said wherever a verdict is told."""

from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import numpy as np
from rich.console import Console

from efficientvit.size import square
from efficientvit.spec import model_spec
from export.cli.tables import show_verification
from export.commands import junit
from export.commands.export import Exports
from export.commands.step_summary import of_exports
from export.commands.verify import Verification
from export.exits import Exit
from export.folder.findings import unchecked
from export.folder.manifest import Manifest
from export.folder.records import gates_of
from export.pipeline.finished import Finished
from export.records import plain
from export.release import junit as release_junit
from export.release.run import Released
from runtimes.artifact import Artifact, Format
from runtimes.precision import Dtype, Precision
from runtimes.runtime import Attestation, Evidence
from tests.manifests import manifest, stage
from validation.gates.identity import not_proven
from validation.gates.result import GateResult
from validation.golden_run import Outputs
from validation.verdict import Report, VerifiedArtifact

IMAGES = 9
SAID = not_proven(IMAGES)
STRUCTURE, PROVEN = GateResult("structure", 0.5, 1.0, "fine"), GateResult("identity", 0.0, 0.0, "proven: all of it")


def finished(tmp_path: Path, *gates: GateResult) -> Finished:
    last = stage("ort", {"format": "onnx", "sha256": "0" * 64}, Precision())
    last["verdict"] |= {"status": "verified", "evidence": "native", "reason": None, "gates": plain(gates_of(gates))}
    document = manifest(64, 10, Precision(), status="verified", stages=[last])
    document["golden"]["images"] = IMAGES
    return Finished(cast(Any, SimpleNamespace()), "m0-ort", tmp_path, document)


def verification(tmp_path: Path, *gates: GateResult) -> Verification:
    (tmp_path / "model.ort").write_bytes(b"a model")
    artifact = Artifact.on_disk(tmp_path / "model.ort", Format.ONNX, model_spec("m0", square(64)), made_by="ort")
    attestation = Attestation("fake", "0", Dtype.FP32, 1, "")
    outputs = Outputs(1, {"logits": np.zeros((IMAGES, 10), np.float32)})
    report = Report(artifact.sha256, Evidence.NATIVE, attestation, gates, (1,), None, outputs=outputs)
    return Verification(tmp_path, VerifiedArtifact(artifact, report), "verified", trained=True, fallback=False)


def told(tmp_path: Path, *gates: GateResult) -> dict[str, str]:
    """By place; the sentence as it is in a line."""
    made, checked = finished(tmp_path, *gates), verification(tmp_path, *gates)
    released = Released(cast(Any, SimpleNamespace(name="m0-ort")), made)
    screen = Console(file=StringIO(), width=200)
    show_verification(screen, checked)
    cases = (*release_junit._cases(released), *junit.of_verification(checked, Exit.OK).iter("testcase"))
    found = {
        "verify": cast(StringIO, screen.file).getvalue(),
        "card of verify": checked._repr_html_(),
        "card of export": Exports((made,))._repr_html_(),
        "summary": "\n".join(of_exports({"artifacts": [{**made.manifest, "folder": "m0-ort"}]})),
        "bundle": "\n".join(unchecked(msgspec.convert(made.manifest, Manifest))),
        "JUnit": "\n".join(each[0].text or "" for each in cases if each.get("name") == "identity" and len(each)),
    }
    return {place: text.replace("&#39;", "'").replace("Program", "program") for place, text in found.items()}


def test_without_a_program_every_place_says_so(tmp_path: Path) -> None:
    said = told(tmp_path, STRUCTURE)
    assert [place for place, text in said.items() if SAID not in text] == []
    assert said["JUnit"] == f"{SAID}\n{SAID}"


def test_with_one_none_does(tmp_path: Path) -> None:
    assert [place for place, text in told(tmp_path, PROVEN, STRUCTURE).items() if "not proven" in text] == []
